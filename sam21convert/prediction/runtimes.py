"""Which runtime computes a prediction, and what it needs; imports neither."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import UsageError, did_you_mean, nearest
from ..io.folder import export_in
from ..io.nearby import expanded
from ..packages import require

Runtime: TypeAlias = Literal["torch", "onnx"]
RUNTIMES: tuple[Runtime, ...] = ("torch", "onnx")


def pick_runtime(source: str | Path, runtime: str | None) -> Runtime:
    """Choose what computes.

    Args:
        source: The checkpoint, or the folder of an export.
        runtime: What was asked for; None means onnxruntime for an export, and torch otherwise.

    Returns:
        The runtime.

    Raises:
        UsageError: If there is no such runtime.
    """
    for one in RUNTIMES:
        if runtime == one:
            return one
    if runtime is not None:
        raise UsageError(
            f"`runtime={runtime}`: no such runtime",
            hint=did_you_mean(nearest(runtime, RUNTIMES), f"one of {', '.join(RUNTIMES)}"),
        )
    return "onnx" if _is_export(expanded(Path(source))) else "torch"


def _is_export(path: Path) -> bool:
    """Whether graphs are all that a folder holds of a model."""
    return path.is_dir() and export_in(path) is not None


def require_runtime(runtime: Runtime, who: str, *, videos: bool = False) -> None:
    """Check that the packages of a runtime are there, without importing them.

    Args:
        runtime: The runtime.
        who: What needs it: a function or a command.
        videos: Whether it is to follow objects, in a video.

    Raises:
        MissingPackageError: If one is missing.
    """
    if runtime == "torch":
        require("torch", who)
    else:
        more = ("scipy",) if videos else ()
        require("onnx", who, packages=("onnxruntime", "PIL", *more))
