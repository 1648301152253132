"""Compare bytes: recorded checksums with the data, an output with what was to be written."""

from __future__ import annotations

import hashlib
import os
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        crc = 0
        for chunk in read_chunks(files, blob.path, blob.offset, blob.nbytes):
            crc = zlib.crc32(chunk, crc)
            progress(len(chunk))
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


def check_written(
    wanted: Mapping[str, Tensor], written: Mapping[str, TensorRef], progress: Progress
) -> None:
    """Raise :class:`MismatchError` when the output, read back, is not what was to be written."""
    if set(wanted) != set(written):
        raise MismatchError("the output, read back, does not hold the tensors written to it")

    def check(files: Files, name: str) -> None:
        ref = written[name]
        if ref.spec != wanted[name].spec or not _same(files, wanted[name], ref, progress):
            raise MismatchError(
                f"{ref.path}: {name}, read back, is not what was written",
                hint="the disk or the memory of this machine is not reliable",
            )

    _for_each(list(wanted), check)


def same_bytes(left: TensorRef, right: TensorRef) -> bool:
    """Whether two tensors, small enough for memory, are equal in type, shape and every bit."""
    with Files() as files:
        one, other = (
            b"".join(map(bytes, payload(files, Tensor(ref.spec, (ref,))))) for ref in (left, right)
        )
    return left.spec == right.spec and one == other


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
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


def _for_each(items: Sequence[_Item], check: Callable[[Files, _Item], None]) -> None:
    """Run ``check`` over all items on a few threads; the first error stops the rest."""
    with Files() as files, ThreadPoolExecutor(_WORKERS) as pool:
        futures = [pool.submit(check, files, item) for item in items]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()
