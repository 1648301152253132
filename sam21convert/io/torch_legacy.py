"""Read the checkpoints of PyTorch before 1.6.

Follows ``torch/serialization.py``, which defines the order of the parts: three small pickles, the
pickle of the checkpoint, the list of storages, and for each storage its length and its data.
"""

from __future__ import annotations

from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

from ..errors import RefusedError, UnreadableError
from .module import with_modules_read
from .pickle.load import Pickled, unpickle
from .sequences import with_lists_read
from .source import Source
from .torch_storage import STORAGE_TYPES, TORCH, Storages, StorageType, errors_about

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def read_torch_legacy(path: Path, *, place: bool = True) -> Source:
    """Read what ``torch.save`` wrote before PyTorch 1.6, without the data of the tensors.

    The data of a file in this format is little-endian, whichever machine wrote it.

    Args:
        path: The file.
        place: Whether to compare the length in front of each storage with the pickle, which needs
            one small read per storage.

    Returns:
        The opened checkpoint.

    Raises:
        UnreadableError: If the file is not in this format, is cut short or contradicts itself.
        RefusedError: If it is a pickle that ``torch.save`` did not write, or its values take too
            much memory.
    """
    with errors_about(str(path)), path.open("rb", buffering=0) as file:
        found = _read(path, file, place)
        root, notes = with_modules_read(found.value)
    return Source(
        path,
        "torch legacy",
        (path,),
        with_lists_read(root),
        placeholders=found.placeholders,
        notes=notes,
    )


def _read(path: Path, file: FileIO, place: bool) -> Pickled:
    """Read the pickle of the checkpoint: once for the sizes of its storages, once for the tensors.

    The offset of a storage depends on the sizes of those before it, in an order that is known
    only after the pickle.
    """
    size = file.seek(0, 2)
    start = _skip_preamble(file)
    lengths: dict[str, tuple[int, int]] = {}  # key -> number and size of the elements

    def note(key: str, numel: int, itemsize: int) -> int:
        lengths[key] = numel, itemsize
        return 0

    where = "the pickle of the checkpoint"
    resolve = _resolver(Storages(path, note))
    found = unpickle(file, where, start=start, known=STORAGE_TYPES, persistent=resolve)
    end = found.end
    del found  # frees its memory before the second reading
    keys = unpickle(file, "the list of storages", start=end)
    if (
        type(keys.value) is not list
        or not all(isinstance(key, str) for key in keys.value)
        or sorted(keys.value) != sorted(lengths)
    ):
        raise UnreadableError("the list of storages does not match the storages in use")
    offsets: dict[str, int] = {}
    position = keys.end
    for key in keys.value:
        with errors_about(f"storage {key!r}"):
            offsets[key] = position + 8
            numel, itemsize = lengths[key]
            end = position + 8 + numel * itemsize
            if end > size:
                raise UnreadableError(f"the file ends {end - size} bytes before the storage does")
            if place:
                _check_count(file, position, numel)
            position = end
    if position < size:
        raise RefusedError(f"there are {size - position} bytes after the end of the checkpoint")
    resolve = _resolver(Storages(path, lambda key, *_: offsets[key]))
    return unpickle(file, where, start=start, known=TORCH, persistent=resolve)


def _skip_preamble(file: FileIO) -> int:
    """The position of the pickle of the checkpoint, which follows three small ones."""
    try:
        magic = unpickle(file, "the magic number")
    except UnreadableError:
        raise UnreadableError("it does not begin with the magic number of PyTorch") from None
    if magic.value != _MAGIC:
        names = ", ".join(magic.placeholders[:3])
        raise RefusedError(
            "a pickle, but not one that torch.save wrote" + (names and f"; it names {names}"),
            hint="load it with the program that wrote it, and save its tensors with torch.save",
        )
    protocol = unpickle(file, "the protocol version", start=magic.end)
    if protocol.value != _PROTOCOL:
        raise RefusedError(f"its protocol version is not {_PROTOCOL}")
    return unpickle(file, "the system information", start=protocol.end).end


def _check_count(file: FileIO, start: int, numel: int) -> None:
    """Compare the number of elements at ``start``, in front of the data, with the pickle."""
    file.seek(start)
    count = int.from_bytes(file.read(8), "little")
    if count != numel:
        raise UnreadableError(f"the file says {count} elements, the pickle {numel}")


def _resolver(storages: Storages) -> Callable[[Any], Any]:
    def resolve(number: Any) -> Any:
        match number:
            case ("module", kind, _, _):  # followed by the source code of the class
                return kind
            case ("storage", StorageType() as kind, str(key), _, numel, None):
                return storages.find(kind, key, numel)
            case ("storage", StorageType() as kind, str(key), _, numel, (_, start, length)):
                return storages.find(kind, key, numel).part(kind, start, length)
        raise UnreadableError("a persistent id does not describe a storage")

    return resolve
