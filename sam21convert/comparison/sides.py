"""The two sides as a user names them: ``runner:source``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..catalog import shipped_like, tensors_of
from ..checkpoint import Checkpoint, open_checkpoint
from ..containers.checking import sha256
from ..errors import UsageError
from ..hf.folder import CONFIG
from ..model.config import ModelConfig
from ..references import locate
from .findings import Side
from .given import Given
from .runner import Runner

Config = str | Path | ModelConfig | None
Load = Callable[[Path, Given], Runner]


def _truth() -> Load:
    from .truth import Truth

    return Truth.load


def _sam2() -> Load:
    from .official import Official

    return Official.load


def _transformers() -> Load:
    from .transformers_runner import Transformers

    return Transformers.load


def _timm() -> Load:
    from .timm_runner import Timm

    return Timm.load


RUNNERS: dict[str, Callable[[], Load]] = {
    "truth": _truth,
    "sam2": _sam2,
    "transformers": _transformers,
    "timm": _timm,
}


@dataclass(frozen=True)
class Named:
    """One side before it is loaded."""

    runner: str
    source: Path

    def load(self, given: Given, rounded_to: str | None = None) -> Runner:
        """Load it, its weights rounded to a type and back, as a cast of the file would.

        Raises as :func:`~sam21convert.load_model`, and :class:`UsageError` without the package.
        """
        given = replace(given, config=_not_its_own(self.source, given.config))
        runner = RUNNERS[self.runner]()(self.source, given)
        if rounded_to is not None:
            _round_weights(runner, getattr(torch, rounded_to))
        return runner


def parse(text: str | Path) -> Named:
    """``runner:source``, or a source alone for the ground truth; downloaded if need be.

    Raises :class:`UsageError` for a runner that there is not, else as
    :func:`~sam21convert.references.locate`.
    """
    runner, colon, source = str(text).partition(":")
    if colon and runner in RUNNERS and source:
        return Named(runner, locate(source))
    word = runner.isidentifier() and len(runner) > 1
    if colon and word and not source.startswith("//") and not Path(text).exists():
        raise UsageError(
            f"{text}: there is no runner {runner!r}", hint=f"one of {', '.join(RUNNERS)}"
        )
    return Named("truth", locate(text))


def _round_weights(runner: Runner, dtype: torch.dtype) -> None:
    for name in tensors_of(runner.config):
        try:
            tensor = runner.tensor(name)
        except KeyError:
            continue
        with torch.no_grad():
            tensor.copy_(tensor.to(dtype))


def describe(runner: Runner, config: Config) -> Side:
    """A side as the report has it."""
    checkpoint = open_checkpoint(runner.source, _not_its_own(runner.source, config))
    shipped = shipped_like(runner.config)
    return Side(
        runner=runner.name,
        version=runner.version,
        source=runner.source,
        dialect=checkpoint.dialect.name if checkpoint.dialect else "unknown",
        container=checkpoint.source.container,
        generation=runner.config.generation,
        config=shipped.name if shipped else "of no published size",
        image_size=runner.config.image_size,
        sha256=_hashes(checkpoint),
        notes=runner.notes,
    )


def _not_its_own(source: Path, config: Config) -> Config:
    """The config given, unless one stands beside the weights."""
    return None if (source / CONFIG).is_file() else config


def _hashes(checkpoint: Checkpoint) -> dict[str, str]:
    return {str(path): sha256(path) for path in checkpoint.source.files}
