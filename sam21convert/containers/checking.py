"""Compare bytes: recorded checksums with the data, an output with what was to be written."""

from __future__ import annotations

import os
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..errors import MismatchError, UnreadableError
from ..tensors import Tensor, TensorRef
from .copying import Files, Progress, payload, read_chunks
from .source import Blob

_WORKERS = min(4, os.cpu_count() or 1)
_Item = TypeVar("_Item")


def check_sums(blobs: Sequence[Blob], progress: Progress) -> None:
    """Raise :class:`UnreadableError` when the data of a blob does not have its recorded CRC-32."""

    def check(files: Files, blob: Blob) -> None:
        crc = _crc(files, blob.path, blob.offset, blob.nbytes, progress)
        if crc != blob.crc32:
            raise UnreadableError(
                f"{blob.path}: {blob.name} is corrupt: its CRC-32 is {crc:08x}, "
                f"the archive records {blob.crc32:08x}",
                hint="download or copy the file again",
            )

    _for_each(blobs, check)


def used_blobs(blobs: Iterable[Blob], tensors: Iterable[Tensor]) -> list[Blob]:
    """Those blobs that hold bytes of the tensors."""
    offsets: dict[Path, list[int]] = {}
    for path, offset in sorted({(p.path, p.offset) for tensor in tensors for p in tensor.parts}):
        offsets.setdefault(path, []).append(offset)

    def used(blob: Blob) -> bool:
        known = offsets.get(blob.path, [])
        return bisect_left(known, blob.offset) < bisect_left(known, blob.offset + blob.nbytes)

    return [blob for blob in blobs if used(blob)]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of a tensor as it should stand in the output, and where it stands there."""

    name: str
    wanted: Tensor
    written: TensorRef


def check_written(
    wanted: Mapping[str, Tensor],
    written: Mapping[str, TensorRef],
    blobs: Sequence[Blob],
    progress: Progress,
) -> None:
    """Read the output back and compare it with what was to be written.

    ``blobs`` are the checksums recorded in the sources. Where a tensor is a whole blob, the output
    must have the blob's checksum, which vouches for source and output at once. Everything else is
    compared byte by byte, and its blobs are checked in the source.

    Raises :class:`MismatchError` when the output is not what was to be written,
    :class:`UnreadableError` when the source does not have the checksum that it records.
    """
    if set(wanted) != set(written):
        raise MismatchError("the output, read back, does not hold the tensors written to it")
    stretches = [part for name in wanted for part in _stretches(name, wanted[name], written[name])]
    recorded = {(blob.path, blob.offset, blob.nbytes): blob for blob in blobs}

    def blob_of(stretch: _Stretch) -> Blob | None:
        [part] = stretch.wanted.parts
        if part.stride is not None or part.spec.dtype != stretch.written.spec.dtype:
            return None
        return recorded.get((part.path, part.offset, part.spec.nbytes))

    def check(files: Files, stretch: _Stretch) -> None:
        blob = blob_of(stretch)
        if blob is None:
            equal = _same(files, stretch.wanted, stretch.written, progress)
        else:
            ref = stretch.written
            equal = _crc(files, ref.path, ref.offset, ref.spec.nbytes, progress) == blob.crc32
        if not equal:
            check_sums([blob] if blob is not None else [], lambda _: None)
            raise MismatchError(
                f"{stretch.written.path}: {stretch.name}, read back, is not what was written",
                hint="the disk or the memory of this machine is not reliable",
            )

    _for_each(stretches, check)
    vouched = {blob for blob in map(blob_of, stretches) if blob is not None}
    rest = [blob for blob in used_blobs(blobs, wanted.values()) if blob not in vouched]
    check_sums(rest, lambda _: None)


def _stretches(name: str, wanted: Tensor, written: TensorRef) -> Iterator[_Stretch]:
    if wanted.spec != written.spec or written.stride is not None:
        raise MismatchError(f"{written.path}: {name}, read back, is {written.spec}")
    start = 0
    for part in wanted.parts:
        rows = part.spec.shape[0] if len(wanted.parts) > 1 else 0
        ref = written.rows(start, rows) if rows else written
        yield _Stretch(name, Tensor(ref.spec, (part,)), ref)
        start += rows


def same_bytes(left: TensorRef, right: TensorRef) -> bool:
    """Whether two tensors, small enough for memory, are equal in type, shape and every bit."""
    with Files() as files:
        one, other = (
            b"".join(map(bytes, payload(files, Tensor(ref.spec, (ref,))))) for ref in (left, right)
        )
    return left.spec == right.spec and one == other


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    import hashlib

    digest = hashlib.sha256()
    with Files() as files:
        for chunk in read_chunks(files, path, 0, path.stat().st_size):
            digest.update(chunk)
    return digest.hexdigest()


def _same(files: Files, wanted: Tensor, ref: TensorRef, progress: Progress) -> bool:
    """Whether the contiguous tensor ``ref`` holds the bytes of ``wanted``."""
    fd, offset = files.fd(ref.path), ref.offset
    buffer = bytearray()
    for chunk in payload(files, wanted):
        if len(buffer) != len(chunk):
            buffer = bytearray(len(chunk))
        if os.preadv(fd, [buffer], offset) != len(chunk) or buffer != chunk:
            return False
        offset += len(chunk)
        progress(len(chunk))
    return offset == ref.offset + ref.spec.nbytes


def _crc(files: Files, path: Path, offset: int, nbytes: int, progress: Progress) -> int:
    crc = 0
    for chunk in read_chunks(files, path, offset, nbytes):
        crc = zlib.crc32(chunk, crc)
        progress(len(chunk))
    return crc


def _for_each(items: Sequence[_Item], check: Callable[[Files, _Item], None]) -> None:
    """Run ``check`` over all items on a few threads; the first error stops the rest."""
    from concurrent.futures import ThreadPoolExecutor

    with Files() as files, ThreadPoolExecutor(_WORKERS) as pool:
        futures = [pool.submit(check, files, item) for item in items]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()
