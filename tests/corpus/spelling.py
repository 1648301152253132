"""Write pickles, zip archives and safetensors files byte by byte, with any fault in them."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sam21convert.config.registry import shipped_tensors

DEBUG = "debug/sam2.1_debug"
ORDERED = b"ccollections\nOrderedDict\n)R"
LEGACY = b"".join(
    pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
)


def spelled(value: Any) -> bytes:
    """The opcodes that make a value, without those at the start and end of a pickle."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 2)
    pickler.fast = True  # no memo
    pickler.dump(value)
    return file.getvalue()[2:-1]


def call(name: str, *args: bytes) -> bytes:
    """The opcodes that call a global, named ``module:name``, with these arguments."""
    module, _, name = name.partition(":")
    return f"c{module}\n{name}\n(".encode() + b"".join(args) + b"tR"


def storage(kind: str = "FloatStorage", key: Any = "0", numel: Any = 6, *more: Any) -> bytes:
    """The persistent id of a storage."""
    pid = b"(" + spelled("storage") + f"ctorch\n{kind}\n".encode()
    return pid + b"".join(map(spelled, (key, "cpu", numel, *more))) + b"tQ"


def tensor_pickle(
    offset: Any = 0,
    shape: Any = (6,),
    stride: Any = (1,),
    numel: Any = 6,
    storage: str = "FloatStorage",
    key: Any = "0",
    more: tuple[Any, ...] = (),
) -> bytes:
    """A pickle of one tensor."""
    return b"\x80\x02" + tensor(offset, shape, stride, _storage(storage, key, numel, *more)) + b"."


_storage = storage


def tensor(offset: Any, shape: Any, stride: Any, stored: bytes) -> bytes:
    """The opcodes that make a tensor."""
    parts = b"".join(map(spelled, (offset, shape, stride, False)))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + parts + ORDERED + b"tR"


@dataclass
class Entry:
    """An entry of a zip archive. Fields that are None are computed from the data."""

    name: str
    data: bytes = b""
    local_name: str | None = None
    method: int = 0
    local_method: int | None = None
    flags: int = 0
    packed: bytes | None = None
    size: int | None = None
    crc: int | None = None
    offset: int | None = None
    zip64: bool = False


def zipped(
    entries: Iterable[Entry],
    *,
    before: bytes = b"",
    after: bytes = b"",
    comment: bytes = b"",
    zip64: bool = False,
    directory: int | None = None,
) -> bytes:
    """A zip archive; ``directory`` is a wrong size to record for its directory."""
    out, central, count = bytearray(before), bytearray(), 0
    for entry in entries:
        name = entry.name.encode()
        local_name = name if entry.local_name is None else entry.local_name.encode()
        packed = entry.data if entry.packed is None else entry.packed
        size = len(entry.data) if entry.size is None else entry.size
        length = len(packed) if entry.size is None else entry.size
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        at = len(out) if entry.offset is None else entry.offset
        method = entry.method if entry.local_method is None else entry.local_method
        extra = struct.pack("<HHQQ", 1, 16, size, length) if entry.zip64 else b""
        if entry.zip64:
            size = length = 0xFFFFFFFF
        common = struct.pack("<IIIHH", crc, length, size, len(local_name), len(extra))
        local = struct.pack("<4sHHHHH", b"PK\3\4", 45, entry.flags, method, 0, 0x21)
        out += local + common + local_name + extra + packed
        central += struct.pack("<4sHHHHHH", b"PK\1\2", 45, 45, entry.flags, entry.method, 0, 0x21)
        central += struct.pack(
            "<IIIHHHHHII", crc, length, size, len(name), len(extra), *[0] * 4, at
        )
        central += name + extra
        count += 1
    start, size = len(out), len(central) if directory is None else directory
    out += central
    if zip64:
        out += struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
        out += struct.pack("<4sIQI", b"PK\6\7", 0, len(out) - 56, 1)
        size = start = 0xFFFFFFFF
        count = min(count, 0xFFFF)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, size, start, len(comment))
    return bytes(out) + end + comment + after


def torch_entries(data_pkl: bytes, *storages: bytes) -> list[Entry]:
    """The entries that torch.save writes, in a folder ``a``."""
    return [
        Entry("a/data.pkl", data_pkl),
        Entry("a/byteorder", b"little"),
        *(Entry(f"a/data/{key}", data) for key, data in enumerate(storages)),
        Entry("a/version", b"3\n"),
    ]


def torch_zip(data_pkl: bytes, *storages: bytes, **more: Any) -> bytes:
    """An archive as torch.save writes it."""
    return zipped(torch_entries(data_pkl, *storages or (bytes(24),)), **more)


@cache
def shared() -> bytes:
    """The one storage of :func:`model`: distinct finite floats."""
    import numpy as np

    count = max(spec.numel for spec in shipped_tensors(DEBUG).values())
    return (np.arange(1, count + 1, dtype=np.float32) / count).tobytes()


def model(
    *, stubs: Mapping[str, bytes] | None = None, inside: bytes = b"", beside: bytes = b""
) -> bytes:
    """The pickle of a complete debug model in which all tensors begin at the same offset.

    ``stubs`` replace tensors, ``inside`` is added to the state dict, ``beside`` goes next to it.
    """
    stored = storage("FloatStorage", "0", len(shared()) // 4)
    body = b""
    for name, spec in shipped_tensors(DEBUG).items():
        strides, step = [], 1
        for size in reversed(spec.shape):
            strides.append(step)
            step *= size
        own = (stubs or {}).get(name)
        body += spelled(name) + (own or tensor(0, spec.shape, tuple(strides[::-1]), stored))
    return b"\x80\x02}(" + spelled("model") + ORDERED + b"(" + body + inside + b"u" + beside + b"u."


def model_zip(**changes: Any) -> bytes:
    """A checkpoint that is intact except for the changes."""
    return torch_zip(model(**changes), shared())


def safetensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file with this header, given as bytes or as a dict."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def span(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    """The entry of a tensor in a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@cache
def model_header(dtype: str = "F32") -> tuple[dict[str, Any], int]:
    """The header of a complete debug model, and the size of its data."""
    size = {"F32": 4, "F16": 2}[dtype]
    header, end = {}, 0
    for name, spec in shipped_tensors(DEBUG).items():
        begin, end = end, end + spec.numel * size
        header[name] = span(begin, end, list(spec.shape), dtype)
    return header, end


@cache
def model_data() -> bytes:
    """Data for that header: distinct finite floats, over and over."""
    _, size = model_header()
    return (shared() * (size // len(shared()) + 1))[:size]


def model_safetensors() -> bytes:
    """An intact checkpoint."""
    return safetensors(model_header()[0], model_data())
