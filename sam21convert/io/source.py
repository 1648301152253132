"""What every reader returns: the tensors of a file by name, and what else stands in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ..errors import RefusedError, UsageError
from .tensor import TensorRef

Container: TypeAlias = Literal["torch zip", "safetensors", "transformers folder", "timm folder"]
FOLDERS: tuple[Container, ...] = ("transformers folder", "timm folder")
WEIGHTS, INDEX, CONFIG = (
    "model.safetensors",
    "model.safetensors.index.json",
    "config.json",
)  # in a folder
_MAX_NAME = 255  # bytes, of a file, in every usual file system


@dataclass(frozen=True, slots=True)
class Blob:
    """A stretch of a file with the CRC-32 that the container records for it."""

    name: str
    path: Path
    offset: int
    nbytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Placeholder:
    """Stands for an object of a pickle that is neither plain data nor a tensor.

    ``name`` is what the pickle would have imported, for example ``numpy.dtype``.
    """

    name: str

    def __repr__(self) -> str:
        return f"<{self.name}>"


@dataclass(frozen=True)
class Source:
    """An opened file, header only.

    ``root`` is the tree in the file: nested dicts and lists of plain values with
    :class:`TensorRef` and :class:`Placeholder` leaves. For safetensors it is one flat dict.
    """

    path: Path
    container: str
    files: tuple[Path, ...]
    root: Any
    metadata: Mapping[str, str] = field(default_factory=dict)
    blobs: tuple[Blob, ...] = ()
    placeholders: tuple[str, ...] = ()


def is_file_name(name: Any) -> bool:
    """Whether a file says so of another beside it, and not of one in another folder."""
    return (
        isinstance(name, str)
        and Path(name).name == name
        and name not in ("", "..")
        and name.isprintable()
        and len(name.encode()) <= _MAX_NAME
    )


def refuse_special(path: Path) -> None:
    """Raise :class:`RefusedError` for what would never end, or keep its reader waiting for ever."""
    if path.exists() and not path.is_file():
        raise RefusedError(f"{path}: is not a regular file")


def tensors_of(root: Any) -> dict[str, TensorRef] | None:
    """``root`` itself when it is a dict with tensors among its values, else None."""
    if isinstance(root, dict):
        found = {k: v for k, v in root.items() if isinstance(k, str) and isinstance(v, TensorRef)}
        return found or None
    return None


def refuse_input(
    destination: Path, container: Container, source: Source, names: Iterable[str] = (WEIGHTS,)
) -> None:
    """Raise :class:`UsageError` where an input would be written over, by whatever name.

    ``names`` are those of the files of tensors in a folder.
    """
    is_folder = container in FOLDERS
    if is_folder and destination.exists() and destination.samefile(source.path):
        raise UsageError(f"{destination}: is the input, which is never changed")
    for written in [destination / name for name in names] if is_folder else [destination]:
        for file in source.files:
            if written.exists() and written.samefile(file):
                raise UsageError(f"{destination}: is the input, which is never changed")
