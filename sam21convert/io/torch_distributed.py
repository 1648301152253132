"""Read the folders of torch.distributed.checkpoint: a pickle that says where each tensor is stored.

Follows ``torch/distributed/checkpoint/metadata.py`` and ``filesystem.py``. The pickle is read like
any other, so nothing in it runs. Each piece of a tensor is an archive of ``torch.save``, and a file
holds many of them.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import RefusedError, UnreadableError
from .names import refuse_twins
from .pickle.load import Known, Pickled, Record, unpickle
from .source import Blob, Placeholder, Source, is_file_name, refuse_special
from .tensor import Joined, TensorRef
from .torch_storage import TORCH, errors_about
from .torch_zip import read_torch_zip

METADATA = ".metadata"
_MODULE = "torch.distributed.checkpoint"
_MAX_RANK = 15  # name and offsets together must be a key: see plain_key()

_Extents: TypeAlias = dict[Path, list[tuple[int, int]]]  # sorted [start, stop) of pieces by file


def read_distributed(folder: Path) -> Source:
    """Read what ``torch.distributed.checkpoint.save`` writes, without the data of the tensors.

    Args:
        folder: The folder with the ``.metadata`` file.

    Returns:
        The opened checkpoint; a tensor in several pieces is a :class:`Joined` one.

    Raises:
        UnreadableError: If the parts of the folder contradict each other.
        RefusedError: If a tensor is split along another axis than the first, or compressed.
    """
    path = folder / METADATA
    found = _metadata(path)
    entries, places = found.value["state_dict_metadata"], found.value["storage_data"]
    paths = found.value.get("planner_data")
    refuse_twins(str(path), map(str, entries))
    blobs: list[Blob] = []
    extents: _Extents = {}
    root: dict[str, Any] = {}
    for name, entry in entries.items():
        name = str(name)
        with errors_about(f"{path}: {name[:200]}"):
            value: Any = Placeholder("bytes")
            if isinstance(entry, Record):
                pieces = [
                    _piece(folder, places.get((name, *offsets)), shape, blobs, extents)
                    for offsets, shape in _chunks(_state(entry))
                ]
                value = _joined(pieces)
            _insert(root, _keys(name, paths), value)
    return Source(
        folder,
        "torch distributed",
        (path, *extents),
        root,
        blobs=tuple(blobs),
        placeholders=found.placeholders,
    )


def stretches(folder: Path) -> Iterator[tuple[Path, int, int]]:
    """List every part of a file that ``torch.distributed.checkpoint`` would load.

    Args:
        folder: The folder with the ``.metadata`` file.

    Yields:
        File, first byte and length of each part; no two of them overlap.

    Raises:
        UnreadableError: If the parts of the folder contradict each other.
        RefusedError: If the values of the metadata take too much memory, or a part is compressed.
    """
    extents: _Extents = {}
    for place in _metadata(folder / METADATA).value["storage_data"].values():
        yield _stretch(folder, place, extents)


def _metadata(path: Path) -> Pickled:
    """Read the metadata, which must list the tensors and the place of each piece."""
    with errors_about(str(path)):
        refuse_special(path)
        with path.open("rb") as file:
            found = unpickle(file, "the pickle", known=_KNOWN)
        content = _state(found.value)
        for name in ("state_dict_metadata", "storage_data"):
            if not isinstance(content.get(name), dict):
                raise UnreadableError(f"it has no {name}")
        refuse_twins("its files", sorted(_files_of(content["storage_data"])))
    return replace(found, value=content)


def _files_of(places: Mapping[Any, Any]) -> set[str]:
    """The files that pieces are in, as far as they are told."""
    states = (place.state for place in places.values() if isinstance(place, Record))
    paths = (state.get("relative_path") for state in states if isinstance(state, dict))
    return {path for path in paths if isinstance(path, str)}


def _state(record: Any) -> Mapping[str, Any]:
    """The attributes of an object of torch.distributed.checkpoint."""
    state = record.state if isinstance(record, Record) else None
    if not isinstance(state, dict):
        raise UnreadableError("it is not what torch.distributed.checkpoint writes")
    return state


def _index_key(state: Any) -> Any:
    """The key by which a piece is found: name and offsets, or the name alone."""
    match state:
        case {"fqn": str(name), "offset": tuple(offsets)} if len(offsets) <= _MAX_RANK:
            return (name, *offsets)
        case {"fqn": str(name)}:
            return (name,)
    return None


_KNOWN: Mapping[str, Any] = {
    **TORCH,
    **{
        f"{_MODULE}.{name}": Known(f"{_MODULE}.{name}", lambda _: Record())
        for name in (
            "metadata.Metadata",
            "metadata.TensorStorageMetadata",
            "metadata.ChunkStorageMetadata",
            "filesystem._StorageInfo",
        )
    },
    f"{_MODULE}.metadata.MetadataIndex": Known(
        f"{_MODULE}.metadata.MetadataIndex", lambda _: Record(_index_key)
    ),
    **{
        name: Placeholder(name)  # not needed, and not reported as unknown either
        for name in (
            f"{_MODULE}.metadata.BytesStorageMetadata",
            f"{_MODULE}.metadata.StorageMeta",
            f"{_MODULE}.metadata.TensorProperties",
            f"{_MODULE}.metadata._MEM_FORMAT_ENCODING",
            "torch.serialization._get_layout",
            "pathlib.PosixPath",
        )
    },
}


def _chunks(entry: Mapping[str, Any]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield offsets and shape of each piece of a tensor; together they must be all rows, once."""
    size: Any = entry.get("size")
    chunks = entry.get("chunks")
    if not _naturals(size) or not isinstance(chunks, list) or not chunks:
        raise UnreadableError("its size or its pieces are missing")
    known = []
    for chunk in map(_state, chunks):
        offsets: Any = chunk.get("offsets")
        shape: Any = chunk.get("sizes")
        if not _naturals(offsets, len(size)) or not _naturals(shape, len(size)):
            raise UnreadableError("a piece has another number of dimensions than the tensor")
        known.append((offsets, shape))
    if len(known) == 1 and known[0] == ((0,) * len(size), size):
        yield known[0]
        return
    row = 0
    for offsets, shape in sorted(known):
        if any(offsets[1:]) or shape[1:] != size[1:]:
            raise RefusedError(
                "it is split along another axis than the first",
                hint="python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER "
                "merged.pt writes it as one file; run that only on a folder that you trust",
            )
        if offsets[0] != row:
            raise UnreadableError(f"its rows from {row} on are missing or occur twice")
        row += shape[0]
        yield offsets, shape
    if row != size[0]:
        raise UnreadableError(f"it has {size[0]} rows, its pieces have {row}")


def _piece(
    folder: Path, place: Any, shape: tuple[int, ...], blobs: list[Blob], extents: _Extents
) -> TensorRef:
    """Read the tensor in the archive at a place."""
    path, start, length = _stretch(folder, place, extents)
    source = read_torch_zip(path, start, length)
    if not isinstance(source.root, TensorRef) or source.root.spec.shape != shape:
        raise UnreadableError(f"{path.name}, byte {start}: holds no tensor of shape {list(shape)}")
    blobs.extend(source.blobs)
    return source.root


def _stretch(folder: Path, place: Any, extents: _Extents) -> tuple[Path, int, int]:
    """The part of a file that holds a piece: file, first byte and length."""
    match _state(place):
        case {"transform_descriptors": [*transforms]} if transforms:
            raise RefusedError(
                f"it is stored with {', '.join(map(str, transforms))[:100]}, which is not supported"
            )
        case {"relative_path": str(name), "offset": start, "length": length} if _naturals(
            (start, length)
        ):
            pass
        case _:
            raise UnreadableError("its place in the folder is not recorded")
    if not is_file_name(name):
        raise UnreadableError(f"it names {name[:60]!r}, which is not a file name in this folder")
    path = folder / name
    refuse_special(path)
    if not path.exists():
        raise UnreadableError(f"{name}: No such file or directory", hint="copy the folder again")
    if start + length > path.stat().st_size:
        raise UnreadableError(f"{name} ends before its data does", hint="copy the folder again")
    _add_extent(extents, path, start, start + length)
    return path, start, length


def _add_extent(extents: _Extents, path: Path, start: int, stop: int) -> None:
    """Refuse a piece that overlaps another: a small file could be used again and again."""
    known = extents.setdefault(path, [])
    at = bisect(known, (start, stop))
    if (at and known[at - 1][1] > start) or (at < len(known) and known[at][0] < stop):
        raise UnreadableError(f"{path.name}, byte {start}: it overlaps another piece")
    known.insert(at, (start, stop))


def _joined(pieces: Sequence[TensorRef]) -> TensorRef:
    if len({piece.spec.dtype for piece in pieces}) > 1:
        raise UnreadableError("its pieces have different element types")
    return Joined.of(pieces)


def _naturals(value: Any, count: int | None = None) -> bool:
    return (
        type(value) is tuple
        and len(value) == (len(value) if count is None else count)
        and all(type(item) is int and 0 <= item < 2**63 for item in value)
    )


def _keys(name: str, paths: Any) -> tuple[str, ...]:
    """The keys that led to a value before the nested dicts were flattened."""
    keys = paths.get(name) if isinstance(paths, dict) else None
    if type(keys) is tuple and keys and all(isinstance(key, (str, int)) for key in keys):
        return tuple(map(str, keys))
    return (name,)


def _insert(root: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    node = root
    for key in keys[:-1]:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise UnreadableError(f"{key} is both a value and a dict of values")
    if keys[-1] in node:
        raise UnreadableError("it occurs twice")
    node[keys[-1]] = value
