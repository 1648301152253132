"""The trackers by name, and what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UsageError
from ...prediction.backends.names import split
from ..names import BACKENDS, Backend

if TYPE_CHECKING:
    from .base import Tracker, Wanted


def _truth(wanted: Wanted) -> Tracker:
    from .truth import Truth

    return Truth.load(wanted)


def _sam2(wanted: Wanted) -> Tracker:
    from .sam2 import Official

    return Official.load(wanted)


def _transformers(wanted: Wanted) -> Tracker:
    from .transformers import Transformers

    return Transformers.load(wanted)


def _onnx(wanted: Wanted) -> Tracker:
    from .onnx import Onnx

    return Onnx.load(wanted)


TRACKERS: Mapping[Backend, Callable[[Wanted], Tracker]] = {
    "truth": _truth,
    "sam2": _sam2,
    "transformers": _transformers,
    "onnx": _onnx,
}


def named(text: str | Path, otherwise: Backend) -> tuple[Backend, str | Path]:
    """Read the name of a checkpoint and of what runs it.

    Args:
        text: ``backend:source``, or a source alone.
        otherwise: What runs a source alone.

    Returns:
        The backend and the source.

    Raises:
        UsageError: If there is no such backend, or it cannot track.
    """
    backend, source = split(text)
    if backend == "timm":
        raise UsageError(
            f"{text}: timm has the image encoder alone, and tracks nothing",
            hint=f"use one of {', '.join(BACKENDS)}",
        )
    return next((name for name in BACKENDS if name == backend), otherwise), source


def known_of(backend: Backend, dtype: str) -> Iterator[str]:
    """What is known to be unlike the official script.

    Args:
        backend: What tracks.
        dtype: The type that it computes in.

    Yields:
        One sentence each, for the notes of a report.
    """
    if backend == "transformers":
        yield (
            "transformers makes the object pointer of a mask prompt from another token than the "
            "official code, so that its masks differ from the second frame on; the frames are "
            "resized as by the official code, and not by its own video processor"
        )
    if backend == "onnx":
        yield "onnxruntime rounds otherwise than torch, so that single pixels may differ"
    if dtype != "float32":
        yield f"computed in {dtype} by autocast, so that pixels differ between devices and versions"
