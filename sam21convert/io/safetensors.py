"""The safetensors container: read and check headers without the data, and write files.

Follows the description of the format in the safetensors repository (``README.md``, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import RefusedError, UnreadableError, unreadable
from ..report import Progress
from .data.copy import Written, copy_tensors
from .source import Source, is_file_name, refuse_special
from .tensor import DTYPES, Tensor, TensorRef, TensorSpec
from .text import read_up_to, unique

# Bytes. The header of a SAM 2 model has some 100 KB, and parsed JSON takes 30 times its size.
_MAX_HEADER = 4_000_000
_MAX_RANK = 64
_SHOWN = 60  # characters of a name that an error message quotes
_SORT = {dtype: order for order, dtype in enumerate(DTYPES)}


def read_safetensors(path: Path) -> Source:
    """Open one ``.safetensors`` file, without reading the data of the tensors.

    Args:
        path: The file.

    Returns:
        The opened checkpoint; its ``root`` is a flat dict of tensors in the order of the header.

    Raises:
        UnreadableError: If the header is not valid, or does not describe the bytes of the file
            exactly.
        RefusedError: If an element type is unknown, or the header is too large.
    """
    header, start, size = _header(path)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise UnreadableError(f"{path}: __metadata__ is not a map of text to text")
    tensors: dict[str, TensorRef] = {}
    spans = []
    for name, entry in header.items():
        spec, begin, end = _entry(path, name, entry)
        tensors[name] = TensorRef(spec, path, start + begin)
        spans.append((begin, end, name))
    _check_tiling(path, spans, size - start)
    return Source(path, "safetensors", (path,), tensors, metadata)


def read_sharded(index: Path) -> Source:
    """Open a sharded checkpoint, without reading the data of the tensors.

    Args:
        index: The ``*.safetensors.index.json``; all shards must be in its folder.

    Returns:
        The opened checkpoint; its ``root`` is a flat dict of tensors in the order of the index,
        and its metadata is that of the first shard.

    Raises:
        UnreadableError: If the index or a shard is not valid, or they contradict each other.
        RefusedError: If the index is too large, or a shard is refused by :func:`read_safetensors`.
    """
    weight_map = _weight_map(index)
    shards = {
        name: read_safetensors(index.parent / name) for name in sorted({*weight_map.values()})
    }
    for name, shard in shards.items():
        for tensor in shard.root:
            if weight_map.get(tensor) != name:
                raise UnreadableError(
                    f"{index.parent / name}: holds {tensor}, which {index.name} "
                    f"places in {weight_map.get(tensor, 'no shard')}"
                )
    tensors = {}
    for tensor, name in weight_map.items():
        if tensor not in shards[name].root:
            raise UnreadableError(f"{index}: places {tensor} in {name}, which does not hold it")
        tensors[tensor] = shards[name].root[tensor]
    files = (index, *(shard.path for shard in shards.values()))
    metadata = next((shard.metadata for shard in shards.values()), {})
    return Source(index, "sharded safetensors", files, tensors, metadata)


def write_safetensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    progress: Progress,
    written: Written = lambda *_: None,
) -> None:
    """Write a file that is byte for byte what ``safetensors.torch.save_file`` writes.

    Args:
        path: The file. An existing one is replaced.
        tensors: The tensors by name, in any order.
        metadata: Goes to ``__metadata__``, which is left out if this is empty.
        progress: Is advanced by the bytes written.
        written: Is called for each part of a tensor as soon as it can be read back; see
            :data:`~sam21convert.io.data.copy.Written`.

    Raises:
        OSError: If the file cannot be written.
        UnreadableError: If the data of a source cannot be read.
    """
    order = sorted(tensors, key=lambda name: (-_SORT[tensors[name].spec.dtype], name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offsets, end = {}, 0
    for name in order:
        spec = tensors[name].spec
        offsets[name], end = end, end + spec.nbytes
        header[name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": [offsets[name], end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    with path.open("wb", buffering=0) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        placed = {name: (tensors[name], start + offsets[name]) for name in order}
        copy_tensors(placed, file.fileno(), start + end, progress, written)


def _header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The parsed header, the offset of the data, and the file's size."""
    refuse_special(path)
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise UnreadableError(
                    f"{path}: claims a header of {length} bytes, but the file has only {size}",
                    hint="the file is cut short or is not a safetensors file",
                )
            if length > _MAX_HEADER:
                raise RefusedError(
                    f"{path}: has a header of {length} bytes, more than the {_MAX_HEADER} allowed"
                )
            text = file.read(length)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        header = json.loads(text.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{path}: the header is not valid: {error}") from error
    if not isinstance(header, dict):
        raise UnreadableError(f"{path}: the header is not a JSON object")
    return header, 8 + length, size


def _entry(path: Path, name: str, entry: Any) -> tuple[TensorSpec, int, int]:
    if not name.isprintable():
        raise UnreadableError(f"{path}: {_shown(name)!a}: not a printable name of a tensor")
    where = f"{path}: {_shown(name)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise UnreadableError(f"{where}: needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise UnreadableError(f"{where}: shape and data_offsets must be lists of whole numbers")
    if len(shape) > _MAX_RANK:
        raise UnreadableError(
            f"{where}: has {len(shape)} dimensions, more than the {_MAX_RANK} allowed"
        )
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise RefusedError(
            f"{where}: unknown element type {_shown(dtype)!r}",
            hint=f"known types are {', '.join(DTYPES)}",
        )
    spec = TensorSpec(dtype, tuple(shape))
    begin, end = offsets
    if end - begin != spec.nbytes:
        raise UnreadableError(
            f"{where}: {spec} needs {spec.nbytes} bytes, but its offsets span {end - begin}"
        )
    return spec, begin, end


def _shown(value: Any) -> Any:
    return value[:_SHOWN] if isinstance(value, str) else type(value).__name__


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 1 << 63
        for item in value
    )


def _check_tiling(path: Path, spans: list[tuple[int, int, str]], size: int) -> None:
    """Check that the tensors cover the data exactly, without gaps and overlaps."""
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            fault = (
                "overlaps the tensor before it" if begin < position else "leaves a gap before it"
            )
            raise UnreadableError(
                f"{path}: {name} {fault} (expected offset {position}, found {begin})"
            )
        position = end
    if position != size:
        raise UnreadableError(
            f"{path}: the header describes {position} bytes of data, but the file has {size}",
            hint="the file is cut short: download or copy it again" if size < position else None,
        )


def _weight_map(index: Path) -> dict[str, str]:
    refuse_special(index)
    try:
        text = read_up_to(index, _MAX_HEADER)
        if len(text) > _MAX_HEADER:
            raise RefusedError(f"{index}: has more than the {_MAX_HEADER} bytes allowed")
        content = json.loads(text.decode(), object_pairs_hook=unique)
    except OSError as error:
        raise unreadable(index, error) from error
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{index}: not valid JSON: {error}") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise UnreadableError(f"{index}: has no weight_map")
    for tensor, shard in weight_map.items():
        if not is_file_name(shard):
            raise UnreadableError(
                f"{index}: {_shown(tensor)} names {_shown(shard)!r}, "
                "which is not a file name in this folder"
            )
    return weight_map
