"""Copy tensor data from file to file, in the kernel where possible.

A tensor whose bytes are the same in source and output is copied with ``copy_file_range`` and never
enters this process, unless its checksum is needed. Other tensors are reordered, cast or computed
with numpy: in pieces if they are contiguous in the source, otherwise in memory as a whole, one
tensor at a time. Several threads work at once on what is large.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeGuard

from ...errors import RefusedError, UnreadableError
from ...report import Progress
from ..tensor import Constant, Joined, Merged, Part, Tensor, TensorRef

try:
    from isal.isal_zlib import crc32 as crc32  # optional, several times as fast as zlib
except ImportError:
    from zlib import crc32 as crc32

Sums: TypeAlias = tuple[int, int]  # CRC-32 of a tensor up to a part, and including it
# Called when a part of a tensor has been written, with its name, the part, its type and offset in
# the output, and the checksums, which are None if the kernel copied it. Calls come from any thread,
# but for the parts of one tensor in their order.
Written: TypeAlias = Callable[[str, Part, str, int, Sums | None], None]
_Placed: TypeAlias = tuple[str, Tensor, int]  # name, tensor, offset in the output

WORKERS = min(4, os.cpu_count() or 1)
CHUNK = 1 << 20  # bytes, a multiple of the size of every element type
SMALL = 1 << 24  # bytes: with less to do, threads would take longer than they save
_KERNEL_CHUNK = 1 << 24  # bytes per call, so that progress moves and Ctrl-C is answered
_FLUSH = 1 << 26  # bytes
# Errors after which the bytes are read and written by this process. EIO is one of them because the
# kernel does not say whether reading or writing failed.
_NO_KERNEL_COPY = {
    errno.EXDEV,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EIO,
}
_IN_MEMORY = threading.Lock()  # held while a tensor is in memory as a whole


class Files:
    """Opens each file once, for all threads. A context manager that closes them."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._open: dict[Path, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fd(self, path: Path) -> int:
        """Open a file for reading, unless it is open.

        Args:
            path: The file.

        Returns:
            Its descriptor.

        Raises:
            OSError: If it cannot be opened.
        """
        if path in self._open:
            return self._open[path]
        with self._lock:
            if path not in self._open:
                fd = os.open(path, os.O_RDONLY)
                self._stack.callback(os.close, fd)
                self._open[path] = fd
            return self._open[path]


def read_chunks(files: Files, path: Path, offset: int, nbytes: int) -> Iterator[memoryview]:
    """Read a range of a file piece by piece.

    Args:
        files: Opens the file.
        path: The file.
        offset: First byte.
        nbytes: Number of bytes.

    Yields:
        Pieces of ``CHUNK`` bytes, the last one of the rest. They share one buffer, so each is valid
        until the next is requested.

    Raises:
        UnreadableError: If the file ends too early or cannot be read.
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
    """Read the bytes of a tensor, from its first to its last element in the file.

    Args:
        files: Opens the file.
        ref: The tensor; with a stride there may be other data in between.

    Returns:
        ``ref.extent`` bytes; of a tensor in several pieces, these one after the other.

    Raises:
        UnreadableError: If the file ends too early or cannot be read.
    """
    raw = bytearray()
    if isinstance(ref, Joined):
        from .cast import contiguous_bytes

        for piece in ref.pieces:
            raw += contiguous_bytes(read_bytes(files, piece), piece)
        return raw
    for chunk in read_chunks(files, ref.path, ref.offset, ref.extent):
        raw += chunk
    return raw


def payload(files: Files, tensor: Tensor, name: str = "a tensor") -> Iterator[memoryview]:
    """Compute the bytes of a tensor as they are in an output.

    Read all pieces of one tensor before those of the next: a lock is held in between, so that only
    one tensor at a time is in memory as a whole.

    Args:
        files: Opens the files.
        tensor: The tensor.
        name: What an error calls it.

    Yields:
        Its bytes in row-major order, piece by piece; each piece is valid until the next is
        requested.

    Raises:
        UnreadableError: If a file ends too early or cannot be read.
        RefusedError: If a number is too large for the type of the output.
    """
    dtype = tensor.spec.dtype
    for part in tensor.parts:
        try:
            yield from _pieces(files, part, dtype)
        except OverflowError:
            wider = {"F16": "`dtype=bfloat16` or `dtype=float32` holds them"}
            raise RefusedError(
                f"{part.refs[0].path}: {name} has numbers that are too large for {dtype}, and "
                "would be infinite",
                hint=wider.get(dtype, "without `dtype` they stay as they are"),
            ) from None


def _pieces(files: Files, part: Part, dtype: str) -> Iterator[memoryview]:
    if is_plain(part, dtype):
        yield from read_chunks(files, part.path, part.offset, part.spec.nbytes)
    elif isinstance(part, TensorRef) and part.stride is None:
        for chunk in read_chunks(files, part.path, part.offset, part.spec.nbytes):
            yield memoryview(_cast(chunk, part, dtype))
    else:
        with _IN_MEMORY:
            for piece in _computed(files, part, dtype):
                yield memoryview(piece)


def _computed(files: Files, part: Part, dtype: str) -> Iterator[bytes]:
    from .cast import constant_bytes, contiguous_bytes, merged_bytes

    if isinstance(part, Constant):
        yield constant_bytes(part, dtype)
    elif isinstance(part, Merged):
        yield from merged_bytes(part, dtype, partial(read_bytes, files))
    else:
        contiguous = contiguous_bytes(read_bytes(files, part), part)
        for start in range(0, len(contiguous), CHUNK):
            yield _cast(contiguous[start : start + CHUNK], part, dtype)


def _cast(chunk: memoryview, part: TensorRef, dtype: str) -> bytes:
    """Some elements of a tensor in another type, which must hold them."""
    from .cast import became_infinite, cast

    made = cast(chunk, part.spec.dtype, dtype)
    if became_infinite(chunk, part.spec.dtype, made, dtype):
        raise OverflowError
    return made


def _batches(placed: Mapping[str, tuple[Tensor, int]]) -> list[list[_Placed]]:
    """Small tensors in one job: handing over each would take longer than copying it."""
    batches, room = list[list[_Placed]](), 0
    for name, (tensor, offset) in placed.items():
        if room <= 0:
            batches.append([])
            room = CHUNK
        batches[-1].append((name, tensor, offset))
        room -= tensor.spec.nbytes
    return batches


def copy_tensors(
    placed: Mapping[str, tuple[Tensor, int]],
    out: int,
    size: int,
    progress: Progress,
    written: Written = lambda *_: None,
    sums: dict[str, int] | None = None,
) -> None:
    """Write tensors at given offsets of an open file, and sync it to the disk.

    Args:
        placed: Tensor and offset in the file by name, in the order of the offsets.
        out: Descriptor of the file, open for writing.
        size: Final size of the file in bytes, which is allocated in advance where possible.
        progress: Is advanced by the bytes written.
        written: Is called when a part of a tensor has been written, see :data:`Written`.
        sums: CRC-32 of tensors by name. Those that are missing are computed and added. None if
            no checksums are needed.

    Raises:
        OSError: If the file cannot be written.
        UnreadableError: If a source ends too early or cannot be read.
    """
    if hasattr(os, "posix_fallocate") and size:
        with suppress(OSError):  # not supported everywhere; a full disk is detected when writing
            os.posix_fallocate(out, 0, size)

    # The kernel lets one thread at a time write to a file; waiting here is cheaper than there.
    writing = threading.Lock()

    def put(name: str, tensor: Tensor, offset: int) -> None:
        needs_sum, crc = sums is not None and name not in sums, 0
        for part in tensor.parts:
            start, before, part_sums = offset, crc, None
            if is_plain(part, tensor.spec.dtype) and not needs_sum:
                _copy(files, part, out, offset, progress, writing)
                offset += part.spec.nbytes
            else:
                for chunk in payload(files, Tensor(tensor.spec, (part,)), name):
                    crc = crc32(chunk, crc)
                    with writing:
                        write_at(out, chunk, offset)
                    offset += len(chunk)
                    progress.advance(len(chunk))
                part_sums = before, crc
            written(name, part, tensor.spec.dtype, start, part_sums)
        if sums is not None:
            sums.setdefault(name, crc)

    def put_all(batch: Sequence[_Placed]) -> None:
        for one in batch:
            put(*one)

    with Files() as files:
        batches = _batches(placed)
        if size > SMALL:
            _in_threads(put_all, batches, out)
        else:
            for batch in batches:
                put_all(batch)
    os.fsync(out)


def _in_threads(
    put_all: Callable[[Sequence[_Placed]], None], batches: Sequence[Sequence[_Placed]], out: int
) -> None:
    """Write batches, several at once; the disk begins before the last one is written."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            jobs = [pool.submit(put_all, batch) for batch in batches]
            flushed = 0
            for batch, job in zip(batches, jobs, strict=True):
                job.result()
                _, tensor, offset = batch[-1]
                if offset + tensor.spec.nbytes - flushed >= _FLUSH:
                    flushed = _start_flush(out, flushed, offset + tensor.spec.nbytes)
        finally:
            pool.shutdown(cancel_futures=True)


def write_at(out: int, chunk: memoryview, offset: int) -> None:
    """Write a chunk completely, in as many calls as the system needs.

    Args:
        out: Descriptor of a file, open for writing.
        chunk: The bytes.
        offset: Position in the file.

    Raises:
        OSError: If the file cannot be written.
    """
    while chunk:
        count = os.pwrite(out, chunk, offset)
        chunk, offset = chunk[count:], offset + count


def is_plain(part: Part, dtype: str) -> TypeGuard[TensorRef]:
    """Whether a part of a tensor can be copied from its file without any change.

    Args:
        part: The part.
        dtype: Element type in the output.

    Returns:
        True if it is contiguous in a file and has that type.
    """
    return isinstance(part, TensorRef) and part.stride is None and part.spec.dtype == dtype


def _copy(
    files: Files,
    part: TensorRef,
    out: int,
    offset: int,
    progress: Progress,
    writing: threading.Lock,
) -> None:
    done, nbytes, source = 0, part.spec.nbytes, files.fd(part.path)
    while done < nbytes:
        start, left = part.offset + done, nbytes - done
        count = _kernel_copy(source, out, min(left, _KERNEL_CHUNK), start, offset + done)
        if count == 0:  # not supported, or the source has ended, which read_chunks() reports
            for chunk in read_chunks(files, part.path, start, min(left, CHUNK)):
                with writing:
                    write_at(out, chunk, offset + done + count)
                count += len(chunk)
        done += count
        progress.advance(count)


def _kernel_copy(source: int, out: int, count: int, start: int, offset: int) -> int:
    """Number of bytes copied; 0 if the system or file system cannot do it."""
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        return os.copy_file_range(source, out, count, start, offset)
    except OSError as error:
        if error.errno in _NO_KERNEL_COPY:
            return 0
        raise


def _start_flush(out: int, start: int, end: int) -> int:
    """Make the kernel start writing a range to the disk, so that the final fsync is short.

    On Linux, ``POSIX_FADV_DONTNEED`` starts the writing of dirty pages. Returns the end of the
    range, rounded down to a page.
    """
    end &= -4096
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(out, start, end - start, os.POSIX_FADV_DONTNEED)
    return end
