"""The safetensors container: read and check headers without the data, and write files.

Follows the description of the format in the safetensors repository (``README.md``, "Format").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import RefusedError, UnreadableError, unreadable
from ..report import Progress
from .data.copy import Written, copy_tensors
from .json_scanner import SPACE, JsonScanner, OtherKindError, TooLongError
from .names import refuse_twins
from .source import Source, is_file_name, refuse_special
from .tensor import DTYPES, Tensor, TensorRef, TensorSpec
from .text import TwiceError, read_up_to

# Bytes, and names in them. The header of a SAM 2 model has some 100 KB and a thousand names.
_MAX_HEADER = 16_000_000
_MAX_NAMES = 120_000
_MAX_ENTRY = 1 << 16  # bytes of what a header says about one tensor, or an index
_MAX_METADATA = 4_000_000  # bytes
_MAX_RANK = 64
_SHOWN = 60  # characters of a name that an error message quotes
_SORT = {dtype: order for order, dtype in enumerate(DTYPES)}
_DTYPES = {dtype.encode(): dtype for dtype in DTYPES}
BELOW_8_BITS = ("F4", "F6_E2M3", "F6_E3M2")  # known to the safetensors library
_METADATA = "__metadata__"
_NULL = re.compile(SPACE + rb"null")  # in place of metadata, as MLX writes it

# A tensor as every writer writes it, up to the spaces: name, type, shape, offsets, what follows.
_NUMBER = rb"(?:0|[1-9][0-9]{0,17})"
_USUAL = re.compile(
    SPACE.join(
        (
            b"",
            rb'"([^"\\\x00-\x1f]*)"',
            rb":",
            rb"\{",
            rb'"dtype"',
            rb":",
            rb'"([A-Z0-9_]{1,20})"',
            rb",",
            rb'"shape"',
            rb":",
            rb"\[",
            rb"((?:%(n)s%(s)s,%(s)s){0,63}%(n)s|)" % {b"n": _NUMBER, b"s": SPACE},
            rb"\]",
            rb",",
            rb'"data_offsets"',
            rb":",
            rb"\[",
            rb"(%s)" % _NUMBER,
            rb",",
            rb"(%s)" % _NUMBER,
            rb"\]",
            rb"\}",
            rb"([,}])",
        )
    )
)


class _Entry(NamedTuple):
    """What a header says about a tensor."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


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
    text, size = _header(path)
    metadata: dict[str, str] | None = None
    tensors: dict[str, TensorRef] = {}
    spans, start = [], 8 + len(text)
    try:
        for name, entry in _members(text):
            if name in tensors or (name == _METADATA and metadata is not None):
                raise UnreadableError(f"{path}: {_shown(name)!r} occurs twice")
            if name == _METADATA:
                metadata = entry
                continue
            dtype, shape, begin, end = _entry(path, name, entry)
            tensors[name] = TensorRef(TensorSpec(dtype, shape), path, start + begin)
            spans.append((begin, end, name))
            if len(tensors) > _MAX_NAMES:
                raise RefusedError(f"{path}: has more than the {_MAX_NAMES} tensors allowed")
    except TwiceError as error:
        raise UnreadableError(f"{path}: {_shown(error.name)!r} occurs twice") from error
    except OtherKindError as error:
        raise UnreadableError(f"{path}: the header is not valid: not a JSON object") from error
    except ValueError as error:
        raise UnreadableError(f"{path}: the header is not valid: {error}") from error
    refuse_twins(str(path), tensors)
    _check_tiling(path, spans, size - start)
    return Source(path, "safetensors", (path,), tensors, metadata or {})


def read_sharded(index: Path, read: Callable[[Path], Source] = read_safetensors) -> Source:
    """Open a sharded checkpoint, without reading the data of the tensors.

    Args:
        index: The ``*.safetensors.index.json`` or ``*.bin.index.json``; all shards must be in its
            folder.
        read: Opens a shard.

    Returns:
        The opened checkpoint; its ``root`` is a flat dict of tensors in the order of the index,
        and its metadata is that of the first shard.

    Raises:
        UnreadableError: If the index or a shard is not valid, or they contradict each other.
        RefusedError: If the index is too large, or a shard is refused by ``read``.
    """
    weight_map = read_weight_map(index)
    shards: dict[str, Source] = {}
    for name in sorted({*weight_map.values()}):
        shards[name] = shard = read(index.parent / name)
        if not isinstance(shard.root, dict):
            raise UnreadableError(f"{index.parent / name}: holds no tensors by name")
        for tensor in map(str, shard.root):
            if weight_map.get(tensor) != name:
                raise UnreadableError(
                    f"{index.parent / name}: holds {_shown(tensor)}, which {index.name} "
                    f"places in {weight_map.get(tensor, 'no shard')}"
                )
    tensors = {}
    for tensor, name in weight_map.items():
        if tensor not in shards[name].root:
            raise UnreadableError(f"{index}: places {tensor} in {name}, which does not hold it")
        tensors[tensor] = shards[name].root[tensor]
    pickled = any(shard.container != "safetensors" for shard in shards.values())
    return Source(
        index,
        "sharded pytorch_model.bin" if pickled else "sharded safetensors",
        (index, *(file for shard in shards.values() for file in shard.files)),
        tensors,
        next((shard.metadata for shard in shards.values()), {}),
        blobs=tuple(blob for shard in shards.values() for blob in shard.blobs),
        placeholders=tuple(
            dict.fromkeys(name for shard in shards.values() for name in shard.placeholders)
        ),
        notes=tuple(dict.fromkeys(note for shard in shards.values() for note in shard.notes)),
    )


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


def read_weight_map(index: Path) -> dict[str, str]:
    """Read which shard holds which tensor.

    Args:
        index: The ``*.safetensors.index.json``, which anybody may have written.

    Returns:
        Name of a tensor to the name of its shard, a file in the same folder.

    Raises:
        UnreadableError: If the index is not valid.
        RefusedError: If it is too large, or names may be taken for each other.
    """
    try:
        text = read_up_to(index, _MAX_HEADER, "an index")
        weight_map = _placed(index, JsonScanner(text))
    except OSError as error:
        raise unreadable(index, error) from error
    except TwiceError as error:
        raise UnreadableError(
            f"{index}: not valid JSON: {_shown(error.name)!r} occurs twice"
        ) from error
    except OtherKindError:
        weight_map = {}
    except ValueError as error:
        raise UnreadableError(f"{index}: not valid JSON: {error}") from error
    if not weight_map:
        raise UnreadableError(f"{index}: has no weight_map")
    refuse_twins(str(index), weight_map)
    refuse_twins(str(index), dict.fromkeys(weight_map.values()))
    return weight_map


def _header(path: Path) -> tuple[bytes, int]:
    """The text of the header, and the file's size."""
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
            return file.read(length), size
    except OSError as error:
        raise unreadable(path, error) from error


def _members(text: bytes) -> Iterator[tuple[str, Any]]:
    """The members of a header; those of the usual form are not parsed as JSON, but equal it."""
    scanner = JsonScanner(text)
    more = scanner.opens()
    while more:
        usual = _USUAL.match(text, scanner.at)
        if usual is not None:
            raw, dtype, shape, begin, end, last = usual.groups()
            sizes = tuple(map(int, shape.split(b","))) if shape else ()
            kind = _DTYPES.get(dtype) or dtype.decode()
            yield raw.decode(), _Entry(kind, sizes, int(begin), int(end))
            scanner.at, more = usual.end(), last == b","
            continue
        name = scanner.name()
        yield name, _metadata_at(scanner) if name == _METADATA else _entry_at(scanner)
        more = scanner.more()
    scanner.end()


def _metadata_at(scanner: JsonScanner) -> dict[str, str]:
    found: dict[str, str] = {}
    most = scanner.at + _MAX_METADATA
    if _NULL.match(scanner.text, scanner.at):
        scanner.value(_MAX_ENTRY)
        return found
    try:
        more = scanner.opens()
        while more:
            name = scanner.name()
            if name in found:
                raise TwiceError(name)
            found[name] = scanner.string(most - scanner.at)
            more = scanner.more()
    except OtherKindError as error:
        raise ValueError(f"{_METADATA} is not a map of text to text") from error
    return found


def _entry_at(scanner: JsonScanner) -> Any:
    """What is said about a tensor, in an unusual form; None if it is far too long for that."""
    try:
        return scanner.value(_MAX_ENTRY)
    except TooLongError:
        return None


def _placed(index: Path, scanner: JsonScanner) -> dict[str, str]:
    """The weight map in the text of an index; empty if there is none."""
    found: dict[str, str] | None = None
    more = scanner.opens()
    while more:
        name = scanner.name()
        if name != "weight_map":
            scanner.value(_MAX_METADATA)
        elif found is not None:
            raise TwiceError(name)
        else:
            found = _shards_of(index, scanner)
        more = scanner.more()
    scanner.end()
    return found or {}


def _shards_of(index: Path, scanner: JsonScanner) -> dict[str, str]:
    found: dict[str, str] = {}
    files: dict[str, str] = {}  # one text for each file, however often it is named
    more = scanner.opens()
    while more:
        tensor = scanner.name()
        shard = scanner.value(_MAX_ENTRY)
        if tensor in found:
            raise TwiceError(tensor)
        if not is_file_name(shard):
            raise UnreadableError(
                f"{index}: {_shown(tensor)} names {_shown(shard)!r}, "
                "which is not a file name in this folder"
            )
        found[tensor] = files.setdefault(shard, shard)
        if len(found) > _MAX_NAMES:
            raise RefusedError(f"{index}: names more than the {_MAX_NAMES} tensors allowed")
        more = scanner.more()
    return found


def _entry(path: Path, name: str, entry: Any) -> _Entry:
    """Check what is said about a tensor."""
    if not name.isprintable():
        raise UnreadableError(f"{path}: {_shown(name)!a}: not a printable name of a tensor")
    found = entry if isinstance(entry, _Entry) else _from_json(f"{path}: {_shown(name)}", entry)
    dtype, shape, begin, end = found
    if dtype in BELOW_8_BITS:
        raise RefusedError(
            f"{path}: {_shown(name)}: is quantised to {dtype}, floats of fewer than 8 bits",
            hint="give the checkpoint that it was quantised from",
        )
    if dtype not in DTYPES:
        raise RefusedError(
            f"{path}: {_shown(name)}: unknown element type {_shown(dtype)!r}",
            hint=f"known types are {', '.join(DTYPES)}",
        )
    if end - begin != prod(shape) * DTYPES[dtype]:
        spec = TensorSpec(dtype, shape)
        raise UnreadableError(
            f"{path}: {_shown(name)}: {spec} needs {spec.nbytes} bytes, but its offsets span "
            f"{end - begin}"
        )
    return found


def _from_json(where: str, entry: Any) -> _Entry:
    """The same from a value of any form; the element type need not be known."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise UnreadableError(f"{where}: needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise UnreadableError(f"{where}: shape and data_offsets must be lists of whole numbers")
    if len(shape) > _MAX_RANK:
        raise UnreadableError(
            f"{where}: has {len(shape)} dimensions, more than the {_MAX_RANK} allowed"
        )
    return _Entry(dtype if isinstance(dtype, str) else _shown(dtype), tuple(shape), *offsets)


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
