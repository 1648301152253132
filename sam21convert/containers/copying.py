"""Move tensor bytes from file to file, in the kernel where that is possible.

A tensor whose bytes lie in the source as they shall lie in the output is copied with
``copy_file_range`` and never enters this process. Any other is gathered, cast or computed with
numpy, one tensor at a time.
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

from ..errors import UnreadableError
from ..tensors import Constant, Merged, Part, Tensor, TensorRef

Progress: TypeAlias = Callable[[int], None]  # called with the number of bytes just done
# Called with name, part, type and offset in the output when a part of a tensor has been written.
Written: TypeAlias = Callable[[str, Part, str, int], None]

CHUNK = 1 << 20
_KERNEL_CHUNK = 1 << 24  # small enough for progress to move and for Ctrl-C to be answered
_FLUSH = 1 << 26
_NO_KERNEL_COPY = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}


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

    Raises :class:`UnreadableError` when the file ends too early.
    """
    buffer = memoryview(bytearray(min(CHUNK, nbytes)))
    fd = files.fd(path)
    end = offset + nbytes
    while offset < end:
        count = os.preadv(fd, [buffer[: end - offset]], offset)
        if count == 0:
            raise UnreadableError(
                f"{path}: ends at byte {offset}, {end - offset} bytes too early",
                hint="was the file changed or cut while it was being read?",
            )
        yield buffer[:count]
        offset += count


def read_bytes(files: Files, ref: TensorRef) -> bytearray:
    """Everything from the first to the last element of a tensor. Raises as the above."""
    whole = bytearray()
    for chunk in read_chunks(files, ref.path, ref.offset, ref.extent):
        whole += chunk
    return whole


def payload(files: Files, tensor: Tensor) -> Iterator[memoryview]:
    """Yield the bytes of ``tensor`` as they stand in an output, piece by piece."""
    for part in tensor.parts:
        if isinstance(part, Constant):
            from .arrays import constant_bytes

            yield memoryview(constant_bytes(part, tensor.spec.dtype))
        elif is_plain(part, tensor.spec.dtype):
            yield from read_chunks(files, part.path, part.offset, part.spec.nbytes)
        elif isinstance(part, Merged):
            from .arrays import merged_bytes

            yield memoryview(merged_bytes(part, tensor.spec.dtype, partial(read_bytes, files)))
        else:
            from .arrays import contiguous_bytes

            raw = read_bytes(files, part)
            yield memoryview(contiguous_bytes(raw, part, tensor.spec.dtype))


def copy_tensors(
    placed: Mapping[str, tuple[Tensor, int]],
    out: int,
    size: int,
    progress: Progress,
    written: Written = lambda *_: None,
) -> None:
    """Write each tensor at its offset into the open file ``out``, finally ``size`` bytes long."""
    if hasattr(os, "posix_fallocate") and size:
        with suppress(OSError):  # not on every file system; a full disk shows when writing
            os.posix_fallocate(out, 0, size)
    flushed = 0
    with Files() as files:
        for name, (tensor, offset) in placed.items():
            for part in tensor.parts:
                start = offset
                if is_plain(part, tensor.spec.dtype):
                    _copy(files, part, out, offset, progress)
                    offset += part.spec.nbytes
                else:
                    for chunk in payload(files, Tensor(tensor.spec, (part,))):
                        write_at(out, chunk, offset)
                        offset += len(chunk)
                        progress(len(chunk))
                written(name, part, tensor.spec.dtype, start)
            if offset - flushed >= _FLUSH:
                flushed = _begin_flush(out, flushed, offset)
    os.fsync(out)


def write_at(out: int, chunk: memoryview, offset: int) -> None:
    """Write the whole of ``chunk``."""
    while chunk:
        count = os.pwrite(out, chunk, offset)
        chunk, offset = chunk[count:], offset + count


def is_plain(part: Part, dtype: str) -> TypeGuard[TensorRef]:
    """Whether the bytes of ``part`` as ``dtype`` are those that lie in its file."""
    return isinstance(part, TensorRef) and part.stride is None and part.spec.dtype == dtype


def _copy(files: Files, part: TensorRef, out: int, offset: int, progress: Progress) -> None:
    done = 0
    while done < part.spec.nbytes:
        start, left = part.offset + done, part.spec.nbytes - done
        count = _kernel_copy(
            files.fd(part.path), out, min(left, _KERNEL_CHUNK), start, offset + done
        )
        if count == 0:  # not possible here, or the source has ended: reading tells which
            for chunk in read_chunks(files, part.path, start, min(left, CHUNK)):
                write_at(out, chunk, offset + done + count)
                count += len(chunk)
        done += count
        progress(count)


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
