"""Read the checkpoints of PyTorch before 1.6.

After ``torch/serialization.py``, which says what follows what in a file.
"""

from __future__ import annotations

from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

from ..errors import RefusedError, UnreadableError
from .pickle.load import CutShortError, Pickled, unpickle
from .source import Source
from .torch_storage import MAX_HEADER, STORAGE_TYPES, TORCH, Storages, StorageType, errors_about

_READS = (2**17, 2**18, 2**20)  # the first holds all the pickles of a published model
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def read_torch_legacy(path: Path, *, place: bool = True) -> Source:
    """Read what ``torch.save`` wrote before PyTorch 1.6, without the data of the tensors.

    The data of a file in this format is little-endian, whichever machine wrote it. Without
    ``place``, the numbers of elements that stand between the data are not compared.

    Raises :class:`UnreadableError` when the file is not in this format, is cut short or contradicts
    itself, and :class:`RefusedError` when it is another pickle.
    """
    with errors_about(str(path)), path.open("rb", buffering=0) as file:
        size = file.seek(0, 2)
        for limit in (*_READS, MAX_HEADER):
            file.seek(0)
            try:
                found = _read(path, file, file.read(limit), size, place)
                break
            except CutShortError:
                if size <= limit:
                    raise
        else:
            raise RefusedError(f"the pickles in it are larger than {MAX_HEADER} bytes")
    return Source(path, "torch legacy", (path,), found.value, placeholders=found.placeholders)


def _read(path: Path, file: FileIO, data: bytes, size: int, place: bool) -> Pickled:
    """The pickle with the tensors. The storages follow it, so that it is read twice."""
    start = _skip_preamble(data)
    lengths: dict[str, tuple[int, int]] = {}  # key -> number and size of the elements

    def note(key: str, numel: int, itemsize: int) -> int:
        lengths[key] = numel, itemsize
        return 0

    where = "the pickle of the checkpoint"
    resolve = _resolver(Storages(path, note))
    found = unpickle(data, where, start=start, known=STORAGE_TYPES, persistent=resolve)
    end = found.end
    del found  # what it holds is made anew below
    keys = unpickle(data, "the list of storages", start=end)
    if (
        type(keys.value) is not list
        or not all(isinstance(key, str) for key in keys.value)
        or sorted(keys.value) != sorted(lengths)
    ):
        raise UnreadableError("the list of storages is not that of the storages in use")
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
    return unpickle(data, where, start=start, known=TORCH, persistent=resolve)


def _skip_preamble(data: bytes) -> int:
    """Where the pickle with the tensors begins, after three small ones."""
    try:
        magic = unpickle(data, "the magic number")
    except UnreadableError:
        raise UnreadableError("it does not begin with the magic number of PyTorch") from None
    if magic.value != _MAGIC:
        names = ", ".join(magic.placeholders[:3])
        raise RefusedError(
            "a pickle, but not one that torch.save wrote" + (names and f"; it names {names}"),
            hint="load it with what wrote it, and save its tensors with torch.save",
        )
    protocol = unpickle(data, "the protocol version", start=magic.end)
    if protocol.value != _PROTOCOL:
        raise RefusedError(f"its protocol version is not {_PROTOCOL}")
    return unpickle(data, "the system information", start=protocol.end).end


def _check_count(file: FileIO, start: int, numel: int) -> None:
    """The number of elements of a storage stands before its data, at ``start``."""
    file.seek(start)
    count = int.from_bytes(file.read(8), "little")
    if count != numel:
        raise UnreadableError(f"{count} elements are in the file, not {numel}")


def _resolver(storages: Storages) -> Callable[[Any], Any]:
    def resolve(number: Any) -> Any:
        match number:
            case ("module", kind, _, _):  # the source code of a class goes with it
                return kind
            case ("storage", StorageType() as kind, str(key), _, numel, None):
                return storages.find(kind, key, numel)
            case ("storage", StorageType() as kind, str(key), _, numel, (_, start, length)):
                return storages.find(kind, key, numel).part(kind, start, length)
        raise UnreadableError("a persistent id is not that of a storage")

    return resolve
