"""The two sides of a comparison as a user names them: ``backend:source``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from ..checkpoint.open import Checkpoint, open_checkpoint
from ..config.registry import shipped_like, tensors_of
from ..config.timm import of_timm
from ..hub.resolve import resolve
from ..io.data.checksums import sha256
from ..io.source import CONFIG
from ..io.text import read_json
from ..model.config import ModelConfig
from ..packages import member
from ..prediction.backends.names import split
from ..report import SILENT, Progress
from .backends.base import Backend, LoadOptions, held
from .findings import ParitySide

Config = str | Path | ModelConfig | None
Load = Callable[[Path, LoadOptions], Backend]


def _truth() -> Load:
    from .backends.truth import Truth

    return Truth.load


def _sam2() -> Load:
    from .backends.sam2 import Official

    return Official.load


def _transformers() -> Load:
    from .backends.transformers import Transformers

    return Transformers.load


def _timm() -> Load:
    from .backends.timm import Timm

    return Timm.load


def _onnx() -> Load:
    from .backends.onnx import Onnx

    return Onnx.load


BACKENDS: dict[str, Callable[[], Load]] = {
    "truth": _truth,
    "sam2": _sam2,
    "transformers": _transformers,
    "timm": _timm,
    "onnx": _onnx,
}
# What takes seconds to import, by backend: one name brings the package.
_IMPORTS = {
    "sam2": ("sam2.sam2_video_predictor", "SAM2VideoPredictor"),
    "transformers": ("transformers", "Sam2VideoModel"),
    "timm": ("timm", "create_model"),
}


@dataclass(frozen=True)
class Named:
    """One side before it is loaded.

    Attributes:
        backend: Name of the backend, a key of ``BACKENDS``.
        source: Path of the checkpoint.
        config: Config for a source without one; None for a source that has its own.
    """

    backend: str
    source: Path
    config: Config = None

    def load(
        self,
        image_size: int | None,
        device: str,
        rounded_to: str | None = None,
        progress: Progress = SILENT,
    ) -> Backend:
        """Load the side.

        Args:
            image_size: Side of the model's input in pixels; None for what the config says.
            device: Device to run on.
            rounded_to: Round the weights to this type and back, as casting the file would; None to
                leave them.
            progress: Told that the package is imported, and that the weights are loaded.

        Returns:
            The backend with the weights loaded.

        Raises:
            UsageError: When the backend's package is not installed.
            UnreadableError: When the source cannot be read.
            MismatchError: When the checkpoint does not fit its config.
        """
        options = LoadOptions(self.config, image_size, device, self.opened)
        if self.backend in _IMPORTS:
            progress.start(f"importing {self.backend}", 0)
            member(*_IMPORTS[self.backend])
        load = BACKENDS[self.backend]()
        progress.start(f"loading {self.source}", 0)
        backend = load(self.source, options)
        if rounded_to is not None:
            _round_weights(backend, getattr(torch, rounded_to))
        return backend

    def described(self, backend: Backend) -> ParitySide:
        """The side as the report shows it.

        Args:
            backend: The backend that :meth:`load` returned.

        Returns:
            Its facts, with the SHA-256 of every file of the source.
        """
        checkpoint = self.opened
        shipped = shipped_like(backend.config)
        return ParitySide(
            backend=backend.name,
            version=backend.version,
            source=self.source,
            dialect=checkpoint.dialect.name if checkpoint.dialect else "unknown",
            container=checkpoint.source.container,
            generation=backend.config.generation,
            config=shipped.name if shipped else "of no published size",
            image_size=backend.config.image_size,
            sha256={str(path): sha256(path) for path in checkpoint.source.files},
            notes=backend.notes,
            safety=checkpoint.safety,
        )

    @cached_property
    def opened(self) -> Checkpoint:
        """The source, opened once; only headers are read."""
        return open_checkpoint(self.source, self.config)


def parse(text: str | Path, config: Config) -> Named:
    """Read the name of a side, and download its source if need be.

    Args:
        text: ``backend:source``, or a source alone for the ground truth.
        config: Config for a source without one beside its weights.

    Returns:
        The side, ready to be loaded.

    Raises:
        UsageError: For an unknown backend, and for a source that does not exist.
    """
    backend, source = split(text, BACKENDS)
    located = resolve(source)
    described = located.path / CONFIG
    beside = described.exists() and not of_timm(read_json(described))
    config = located.config if config is None else config
    return Named(backend or "truth", located.path, None if beside else config)


def _round_weights(backend: Backend, dtype: torch.dtype) -> None:
    for name in tensors_of(backend.config):
        tensor = held(backend, name)
        if tensor is not None:
            with torch.no_grad():
                tensor.copy_(tensor.to(dtype))
