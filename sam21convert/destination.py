"""Where a conversion goes: what the name asks for, and whether it may be written."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from .checkpoint import Checkpoint
from .containers.atomic import refuse_existing
from .dialects import BY_NAME, HF_VIDEO, OFFICIAL
from .errors import UsageError
from .hf.folder import INDEX, WEIGHTS
from .rules import Dialect

Container = Literal["torch zip", "safetensors", "transformers folder"]

_SUFFIXES: Mapping[str, Container] = {
    ".pt": "torch zip",
    ".pth": "torch zip",
    ".safetensors": "safetensors",
}
# No folder is called like this: whoever names one wants a format that is not written here.
_FOREIGN = {".bin", ".ckpt", ".gguf", ".json", ".npz", ".onnx", ".pkl", ".tar", ".yaml", ".zip"}


def pick_target(destination: Path, to: str | None) -> tuple[Container, Dialect]:
    """The container that the name asks for, and the dialect ``to`` or the one usual there.

    Raises :class:`UsageError` where there is none, or the two do not go together.
    """
    container = _SUFFIXES.get(destination.suffix, "transformers folder")
    is_folder = container == "transformers folder"
    if is_folder and destination.suffix in _FOREIGN:
        raise UsageError(
            f"{destination}: no file of this kind is written",
            hint="end the name in .pt or .safetensors, or give the name of a folder",
        )
    if to is not None and to not in BY_NAME:
        raise UsageError(f"no dialect is called {to!r}", hint=f"one of {', '.join(BY_NAME)}")
    dialect = BY_NAME[to] if to is not None else (HF_VIDEO if is_folder else OFFICIAL)
    if is_folder and dialect is OFFICIAL:
        raise UsageError(
            f"{destination}: the official code reads a file, not a folder",
            hint="end the name in .pt or .safetensors",
        )
    if container == "torch zip" and dialect is not OFFICIAL:
        raise UsageError(
            f"{destination}: transformers reads no {destination.suffix}",
            hint="give the name of a folder, or end it in .safetensors",
        )
    return container, dialect


def refuse_input(destination: Path, container: Container, checkpoint: Checkpoint) -> None:
    """Raise :class:`UsageError` where an input would be written over, by whatever name."""
    is_folder = container == "transformers folder"
    written = destination / WEIGHTS if is_folder else destination
    for file in checkpoint.source.files:
        if written.exists() and written.samefile(file):
            raise UsageError(f"{destination}: is the input, which is never changed")


def refuse_occupied(destination: Path, container: Container, *, overwrite: bool) -> None:
    """Raise :class:`UsageError` where something else stands in the place of the output."""
    is_folder = container == "transformers folder"
    refuse_existing(destination, overwrite=overwrite)
    if os.path.lexists(destination) and destination.is_dir() != is_folder:
        there, wanted = ("a file", "a folder") if is_folder else ("a folder", "a file")
        raise UsageError(f"{destination}: is {there}; what is to be written is {wanted}")
    if is_folder and (destination / INDEX).exists():
        raise UsageError(f"{destination}: holds {INDEX}, which would contradict the new weights")
