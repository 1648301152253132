"""Write ``.pt`` files that ``torch.load(weights_only=True)`` reads, without torch.

Follows ``torch/serialization.py`` for the archive and ``torch/_utils.py`` for the pickled tensors.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path

from ..report import Progress
from .data.copy import Written, copy_tensors, is_plain
from .source import Blob
from .tensor import Tensor, TensorSpec

_STORAGES = {
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "F32": "FloatStorage",
    "F64": "DoubleStorage",
}
_ALIGNMENT = 64  # bytes, as torch.save aligns storages so that they can be memory-mapped
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # a constant date, so that the same tensors give the same file


def write_torch(
    path: Path,
    tensors: Mapping[str, Tensor],
    progress: Progress,
    written: Written = lambda *_: None,
    blobs: Iterable[Blob] = (),
) -> None:
    """Write ``{"model": OrderedDict(tensors)}`` to a new file.

    Args:
        path: The file. An existing one is replaced.
        tensors: The tensors by name, in the order of the output; their types are ``F16``, ``BF16``,
            ``F32`` or ``F64``.
        progress: Is advanced by the bytes written.
        written: Is called for each part of a tensor as soon as it can be read back; see
            :data:`~sam21convert.io.data.copy.Written`.
        blobs: Checksums recorded in the sources. The archive needs the CRC-32 of each tensor;
            where it is among these, the kernel copies the data and this process need not read it.

    Raises:
        OSError: If the file cannot be written.
        UnreadableError: If the data of a source cannot be read.
    """
    specs = {name: tensor.spec for name, tensor in tensors.items()}
    known = {(blob.path, blob.offset, blob.nbytes): blob.crc32 for blob in blobs}
    sums = {
        name: known[place] for name, tensor in tensors.items() if (place := _place(tensor)) in known
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_entry("data.pkl", archive.start_dir), _pickle(specs))
        archive.writestr(_entry("byteorder", archive.start_dir), b"little")
        entries, placed = {}, {}
        end = archive.start_dir
        for number, (name, tensor) in enumerate(tensors.items()):
            entries[name] = entry = _entry(f"data/{number}", end, tensor.spec.nbytes)
            placed[name] = (tensor, end + len(entry.FileHeader()))
            end = placed[name][1] + tensor.spec.nbytes
        file = archive.fp
        assert file is not None
        file.flush()
        copy_tensors(placed, file.fileno(), end, progress, written, sums)
        for name, entry in entries.items():
            entry.CRC = sums[name]
            file.seek(entry.header_offset)
            file.write(entry.FileHeader())
            archive.filelist.append(entry)
        archive.start_dir = end
        archive.writestr(_entry("version", end), b"3\n")


def _place(tensor: Tensor) -> tuple[Path, int, int] | None:
    """File, offset and size of the bytes of ``tensor`` if they can be copied in one piece."""
    part = tensor.parts[0] if len(tensor.parts) == 1 else None
    if part is None or not is_plain(part, tensor.spec.dtype):
        return None
    return part.path, part.offset, part.spec.nbytes


def _entry(name: str, start: int, nbytes: int = 0) -> zipfile.ZipInfo:
    """An archive entry at ``start`` whose data will begin at a multiple of the alignment."""
    entry = zipfile.ZipInfo(f"archive/{name}", _EARLIEST)
    entry.external_attr = 0o600 << 16
    entry.header_offset, entry.CRC = start, 0
    entry.file_size = entry.compress_size = nbytes
    padding = -(start + len(entry.FileHeader()) + 4) % _ALIGNMENT
    entry.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    return entry


def _pickle(specs: Mapping[str, TensorSpec]) -> bytes:
    """The pickle in protocol 2, assembled without importing torch, which need not be installed."""
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
        + _integer(spec.numel)
        + b"tQ"
    )
    strides = [prod(spec.shape[axis + 1 :]) for axis in range(len(spec.shape))]
    arguments = storage + _integer(0) + _integers(spec.shape) + _integers(strides) + b"\x89"
    return _global("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + _ORDERED_DICT + b"tR"


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _integer(number: int) -> bytes:
    if number < 1 << 31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x08" + struct.pack("<q", number)


def _integers(numbers: list[int] | tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_integer, numbers)) + b"t"


def _global(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


_ORDERED_DICT = _global("collections", "OrderedDict") + b")R"
