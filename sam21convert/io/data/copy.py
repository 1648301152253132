"""Move tensor bytes from file to file, in the kernel where that is possible.

A tensor whose bytes lie in the source as they shall lie in the output is copied with
``copy_file_range`` and never enters this process, unless its checksum is wanted. Any other is
gathered, cast or computed with numpy: piece by piece where it lies in one piece, else as a whole,
and then no other is held as a whole at the time. Several threads do so at once.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeGuard

from ...errors import UnreadableError
from ...report import Progress
from ..tensor import Constant, Merged, Part, Tensor, TensorRef

try:
    from isal.isal_zlib import crc32 as crc32  # several times as fast, where there is a build of it
except ImportError:
    from zlib import crc32 as crc32

# Called with the number of bytes just done, from any thread.
# Called with name, part, type and offset in the output when a part of a tensor has been written,
# from any thread, for the parts of one tensor in their order; and with the running CRC-32 before
# and after it, or None where the kernel copied.
Sums: TypeAlias = tuple[int, int]
Written: TypeAlias = Callable[[str, Part, str, int, Sums | None], None]

WORKERS = min(4, os.cpu_count() or 1)
CHUNK = 1 << 20  # a whole number of elements of any type
_KERNEL_CHUNK = 1 << 24  # small enough for progress to move and for Ctrl-C to be answered
_FLUSH = 1 << 26
# After EIO too the bytes go through this process, which tells source and output apart.
_NO_KERNEL_COPY = {
    errno.EXDEV,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EIO,
}
_WHOLE = threading.Lock()  # held while a tensor is in memory as a whole


class Files:
    """Source files, each opened once. A context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._open: dict[Path, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fd(self, path: Path) -> int:
        """Descriptor of ``path``, open for reading."""
        with self._lock:
            if path not in self._open:
                fd = os.open(path, os.O_RDONLY)
                self._stack.callback(os.close, fd)
                self._open[path] = fd
            return self._open[path]


def read_chunks(files: Files, path: Path, offset: int, nbytes: int) -> Iterator[memoryview]:
    """Yield a stretch of a file piece by piece; each piece is valid until the next is asked for.

    All have ``CHUNK`` bytes but the last. Raises :class:`UnreadableError` when the file ends too
    early or its disk fails.
    """
    buffer = memoryview(bytearray(min(CHUNK, nbytes)))
    fd = files.fd(path)
    end = offset + nbytes
    while offset < end:
        piece, filled = buffer[: end - offset], 0
        while filled < len(piece):
            try:
                count = os.preadv(fd, [piece[filled:]], offset + filled)
            except OSError as error:
                raise UnreadableError(
                    f"{path}: cannot be read at byte {offset + filled}: {error.strerror}",
                    hint="the disk it is on may be failing: copy what can still be read",
                ) from error
            if count == 0:
                at = offset + filled
                raise UnreadableError(
                    f"{path}: ends at byte {at}, {end - at} bytes too early",
                    hint="was the file changed or cut while it was being read?",
                )
            filled += count
        yield piece
        offset += filled


def read_bytes(files: Files, ref: TensorRef) -> bytearray:
    """Everything from the first to the last element of a tensor. Raises as the above."""
    whole = bytearray()
    for chunk in read_chunks(files, ref.path, ref.offset, ref.extent):
        whole += chunk
    return whole


def payload(files: Files, tensor: Tensor) -> Iterator[memoryview]:
    """Yield the bytes of ``tensor`` as they stand in an output, piece by piece.

    Take all of one tensor before those of the next: they may be waiting for one another.
    """
    dtype = tensor.spec.dtype
    for part in tensor.parts:
        if is_plain(part, dtype):
            yield from read_chunks(files, part.path, part.offset, part.spec.nbytes)
        elif isinstance(part, TensorRef) and part.stride is None:
            from .cast import cast

            for chunk in read_chunks(files, part.path, part.offset, part.spec.nbytes):
                yield memoryview(cast(chunk, part.spec.dtype, dtype))
        else:
            with _WHOLE:
                for piece in _computed(files, part, dtype):
                    yield memoryview(piece)


def _computed(files: Files, part: Part, dtype: str) -> Iterator[bytes]:
    from .cast import cast, constant_bytes, contiguous_bytes, merged_bytes

    if isinstance(part, Constant):
        yield constant_bytes(part, dtype)
    elif isinstance(part, Merged):
        yield from merged_bytes(part, dtype, partial(read_bytes, files))
    else:
        whole = contiguous_bytes(read_bytes(files, part), part)
        for start in range(0, len(whole), CHUNK):
            yield cast(whole[start : start + CHUNK], part.spec.dtype, dtype)


def copy_tensors(
    placed: Mapping[str, tuple[Tensor, int]],
    out: int,
    size: int,
    progress: Progress,
    written: Written = lambda *_: None,
    sums: dict[str, int] | None = None,
) -> None:
    """Write each tensor at its offset into the open file ``out``, finally ``size`` bytes long.

    Into ``sums``, if given, goes the CRC-32 of each tensor that is not in it yet.
    """
    from concurrent.futures import ThreadPoolExecutor

    if hasattr(os, "posix_fallocate") and size:
        with suppress(OSError):  # not on every file system; a full disk shows when writing
            os.posix_fallocate(out, 0, size)

    writing = threading.Lock()  # a file takes one write at a time: two threads would spin for it

    def put(name: str, tensor: Tensor, offset: int) -> None:
        summed, crc = sums is not None and name not in sums, 0
        for part in tensor.parts:
            start, before, between = offset, crc, None
            if is_plain(part, tensor.spec.dtype) and not summed:
                _copy(files, part, out, offset, progress, writing)
                offset += part.spec.nbytes
            else:
                for chunk in payload(files, Tensor(tensor.spec, (part,))):
                    crc = crc32(chunk, crc)
                    with writing:
                        write_at(out, chunk, offset)
                    offset += len(chunk)
                    progress.advance(len(chunk))
                between = before, crc
            written(name, part, tensor.spec.dtype, start, between)
        if sums is not None:
            sums.setdefault(name, crc)

    with Files() as files, ThreadPoolExecutor(WORKERS) as pool:
        try:
            jobs = [pool.submit(put, name, *place) for name, place in placed.items()]
            flushed = 0
            for (tensor, offset), job in zip(placed.values(), jobs, strict=True):
                job.result()
                if offset + tensor.spec.nbytes - flushed >= _FLUSH:
                    flushed = _begin_flush(out, flushed, offset + tensor.spec.nbytes)
        finally:
            pool.shutdown(cancel_futures=True)
    os.fsync(out)


def write_at(out: int, chunk: memoryview, offset: int) -> None:
    """Write the whole of ``chunk``."""
    while chunk:
        count = os.pwrite(out, chunk, offset)
        chunk, offset = chunk[count:], offset + count


def is_plain(part: Part, dtype: str) -> TypeGuard[TensorRef]:
    """Whether the bytes of ``part`` as ``dtype`` are those that lie in its file."""
    return isinstance(part, TensorRef) and part.stride is None and part.spec.dtype == dtype


def _copy(
    files: Files,
    part: TensorRef,
    out: int,
    offset: int,
    progress: Progress,
    writing: threading.Lock,
) -> None:
    done = 0
    while done < part.spec.nbytes:
        start, left = part.offset + done, part.spec.nbytes - done
        count = _kernel_copy(
            files.fd(part.path), out, min(left, _KERNEL_CHUNK), start, offset + done
        )
        if count == 0:  # not possible here, or the source has ended: reading tells which
            for chunk in read_chunks(files, part.path, start, min(left, CHUNK)):
                with writing:
                    write_at(out, chunk, offset + done + count)
                count += len(chunk)
        done += count
        progress.advance(count)


def _kernel_copy(source: int, out: int, count: int, start: int, offset: int) -> int:
    """Bytes copied; 0 where the system or file system cannot do it."""
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        return os.copy_file_range(source, out, count, start, offset)
    except OSError as error:
        if error.errno in _NO_KERNEL_COPY:
            return 0
        raise


def _begin_flush(out: int, start: int, end: int) -> int:
    """Let the kernel begin to write a stretch to the disk, so that the last fsync is short.

    Linux does so for pages that are not written yet when told that they will not be needed.
    """
    end &= -4096
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(out, start, end - start, os.POSIX_FADV_DONTNEED)
    return end
