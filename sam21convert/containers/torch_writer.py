"""Write ``.pt`` files that ``torch.load(weights_only=True)`` reads, without torch.

Source: ``torch/serialization.py`` for the archive, ``torch/_utils.py`` for how a tensor is rebuilt.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path

from ..tensors import Tensor, TensorSpec
from .copying import Files, Progress, payload

_STORAGES = {
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "F32": "FloatStorage",
    "F64": "DoubleStorage",
}
_ALIGNMENT = 64  # torch maps storages into memory where they are aligned so
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the same tensors give the same file


def write_torch(path: Path, tensors: Mapping[str, Tensor], progress: Progress) -> None:
    """Write ``{"model": OrderedDict(tensors)}``, in the order of ``tensors``, to a new file."""
    specs = {name: tensor.spec for name, tensor in tensors.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive, Files() as files:
        archive.writestr(_entry(archive, "data.pkl"), _pickle(specs))
        archive.writestr(_entry(archive, "byteorder"), b"little")
        for number, tensor in enumerate(tensors.values()):
            entry = _entry(archive, f"data/{number}")
            entry.file_size = tensor.spec.nbytes
            with archive.open(entry, "w") as out:
                for chunk in payload(files, tensor):
                    out.write(chunk)
                    progress(len(chunk))
        archive.writestr(_entry(archive, "version"), b"3\n")


def _entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """An archive entry whose data will start at a multiple of the alignment."""
    entry = zipfile.ZipInfo(f"archive/{name}", _EARLIEST)
    entry.external_attr = 0o600 << 16
    assert archive.fp is not None
    data = archive.fp.tell() + 30 + len(entry.filename) + 4  # local header, name, extra field
    padding = -data % _ALIGNMENT
    entry.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    return entry


def _pickle(specs: Mapping[str, TensorSpec]) -> bytes:
    """Protocol 2, by hand: what it names are classes of torch, which need not be installed."""
    tensors = b"".join(
        _text(name) + _rebuilt(number, spec) for number, (name, spec) in enumerate(specs.items())
    )
    state_dict = _ORDERED_DICT + b"(" + tensors + b"u"
    return b"\x80\x02}" + _text("model") + state_dict + b"s."


def _rebuilt(number: int, spec: TensorSpec) -> bytes:
    """``_rebuild_tensor_v2(storage, 0, size, stride, requires_grad=False, hooks)``."""
    storage = (
        b"("
        + _text("storage")
        + _global("torch", _STORAGES[spec.dtype])
        + _text(str(number))
        + _text("cpu")
        + _whole(spec.numel)
        + b"tQ"
    )
    strides = [prod(spec.shape[axis + 1 :]) for axis in range(len(spec.shape))]
    arguments = storage + _whole(0) + _wholes(spec.shape) + _wholes(strides) + b"\x89"
    return _global("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + _ORDERED_DICT + b"tR"


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _whole(number: int) -> bytes:
    if number < 1 << 31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x08" + struct.pack("<q", number)


def _wholes(numbers: list[int] | tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_whole, numbers)) + b"t"


def _global(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


_ORDERED_DICT = _global("collections", "OrderedDict") + b")R"
