"""What every reader returns: the tensors of a file by name, and what else the file holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ..errors import RefusedError, UsageError
from .tensor import TensorRef

Container: TypeAlias = Literal[
    "torch zip",
    "torch legacy",
    "torch distributed",
    "DeepSpeed",
    "safetensors",
    "sharded safetensors",
    "transformers folder",
    "sharded transformers folder",
    "pytorch_model.bin folder",
    "sharded pytorch_model.bin folder",
    "sharded pytorch_model.bin",
    "timm folder",
    "PEFT adapter",
    "onnx",
    "onnx folder",
    "memory",
]
FOLDERS: tuple[Container, ...] = ("transformers folder", "timm folder")
WEIGHTS, INDEX, CONFIG = (
    "model.safetensors",
    "model.safetensors.index.json",
    "config.json",
)  # file names that transformers gives to the parts of a saved model
_MAX_NAME = 255  # bytes of a file name in every common file system


@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """A range of bytes in a file with the CRC-32 that the container records for it.

    Attributes:
        name: Name of the entry in the container, for error messages.
        path: The file.
        offset: First byte in the file.
        nbytes: Number of bytes.
        crc32: Recorded CRC-32 of these bytes.
    """

    name: str
    path: Path
    offset: int
    nbytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Placeholder:
    """Stands for an object of a pickle that is neither plain data nor a tensor.

    Attributes:
        name: Full name of what the pickle would have imported, for example ``numpy.dtype``.
    """

    name: str

    def __repr__(self) -> str:
        return f"<{self.name}>"


@dataclass(frozen=True)
class Source:
    """An opened checkpoint: everything its headers say, without the data of the tensors.

    Attributes:
        path: The file or folder, as it was given.
        container: How the tensors are stored, for example ``safetensors`` or ``torch zip``.
        files: All files that belong to it, in the order in which they were read.
        root: The tree of values in the file: nested dicts and lists with :class:`TensorRef` and
            :class:`Placeholder` leaves. For safetensors it is one flat dict of tensors.
        metadata: The ``__metadata__`` of a safetensors file, else empty.
        blobs: Byte ranges whose checksum the container records, if any.
        placeholders: Names of all globals in the pickle that are read as placeholders.
        notes: What a user should know about how the tensors were found, a sentence each: which of
            several files was taken, or what they were put together from.
    """

    path: Path
    container: Container
    files: tuple[Path, ...]
    root: Any
    metadata: Mapping[str, str] = field(default_factory=dict)
    blobs: tuple[Blob, ...] = ()
    placeholders: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def config(self) -> Path:
        """Where the ``config.json`` of a folder is, if it has one."""
        return self.path / ("onnx/config.json" if self.container == "onnx folder" else CONFIG)


def is_file_name(name: Any) -> bool:
    """Whether a name found in a file may be used as the name of another file in its folder.

    An index must not lead the reader to another folder, so names with separators are not.

    Args:
        name: The value found in the file, of any type.

    Returns:
        True for a printable text of at most 255 bytes without separators, other than ``..``.
    """
    return (
        isinstance(name, str)
        and Path(name).name == name
        and name not in ("", "..")
        and name.isprintable()
        and len(name.encode()) <= _MAX_NAME
    )


def refuse_special(path: Path) -> None:
    """Refuse devices, pipes and sockets, whose reading may never end.

    Args:
        path: The path to be opened; it need not exist.

    Raises:
        RefusedError: If it exists and is not a regular file.
    """
    if path.exists() and not path.is_file():
        raise RefusedError(f"{path}: is not a regular file")


def tensors_of(root: Any) -> dict[str, TensorRef] | None:
    """Find the tensors that a tree of values holds at its top level.

    Args:
        root: A value of a checkpoint, of any type.

    Returns:
        The tensors of ``root`` by name, or None if it is not a dict or holds none.
    """
    if isinstance(root, dict):
        found = {k: v for k, v in root.items() if isinstance(k, str) and isinstance(v, TensorRef)}
        return found or None
    return None


def refuse_input(
    destination: Path, container: Container, source: Source, names: Iterable[str] = (WEIGHTS,)
) -> None:
    """Refuse an output that would replace one of its own inputs.

    Files are compared by identity, so a link to an input is recognised as well.

    Args:
        destination: The output file or folder; it need not exist.
        container: How the output is stored.
        source: The opened input.
        names: File names of the weights in the output, if it is a folder.

    Raises:
        UsageError: If a file to be written is a file of ``source``.
    """
    is_folder = container in FOLDERS
    if is_folder and destination.exists() and destination.samefile(source.path):
        raise UsageError(f"{destination}: is the input, which is never changed")
    for written in [destination / name for name in names] if is_folder else [destination]:
        for file in source.files:
            if written.exists() and written.samefile(file):
                raise UsageError(f"{destination}: is the input, which is never changed")
