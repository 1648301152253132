"""How people name the package that is to run a checkpoint: ``backend:source``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ...dialects import HF_IMAGE, HF_VIDEO, TIMM
from ...dialects.rules import Dialect
from ...errors import UsageError, did_you_mean, nearest

NAMES = ("truth", "sam2", "transformers", "timm", "onnx")
ALIASES = {"hf": "transformers", "official": "sam2"}


def split(text: str | Path, backends: Collection[str] = NAMES) -> tuple[str | None, str | Path]:
    """Read ``backend:source``.

    Args:
        text: That, or a source alone.
        backends: The backends that there are.

    Returns:
        The backend, None if none is named, and the source.

    Raises:
        UsageError: If there is no backend of that name.
    """
    backend, colon, rest = str(text).partition(":")
    backend = ALIASES.get(backend, backend) if not rest.startswith("//") else backend
    if colon and rest and backend in backends:
        return backend, rest
    # Not a backend: the drive letter of a path, or the scheme of an address.
    meant = backend.isidentifier() and len(backend) > 1 and not rest.startswith("//")
    if colon and meant and not Path(text).exists():
        raise UsageError(
            f"{text}: there is no backend {backend!r}",
            hint=did_you_mean(
                [f"{name}:{rest}" for name in nearest(backend, [*backends, *ALIASES])],
                f"use one of {', '.join(backends)}",
            ),
        )
    return None, text


def backend_for(dialect: Dialect | None) -> str:
    """The backend that should run a checkpoint, to test the mapping of its tensor names.

    transformers and timm load their own names themselves: if the ground truth did, an error in the
    key map would be made twice and go undetected. Everything else runs on the ground truth, which
    computes the same as the official code.

    Args:
        dialect: The dialect of the checkpoint; None when it is unknown.

    Returns:
        One of ``NAMES``.
    """
    if dialect is TIMM:
        return "timm"
    return "transformers" if dialect in (HF_VIDEO, HF_IMAGE) else "truth"
