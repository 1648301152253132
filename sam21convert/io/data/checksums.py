"""Verify bytes: data against recorded checksums, and outputs against what was written."""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ...errors import MismatchError, UnreadableError
from ...report import SILENT, Progress
from ..source import Blob
from ..tensor import Part, Tensor, TensorRef, TensorSpec
from .copy import CHUNK, SMALL, WORKERS, Files, Sums, crc32, is_plain, payload, read_chunks

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

# What ``expect`` is given: name, part, type and offset in the output, checksums.
_Expected: TypeAlias = tuple[str, Part, str, int, Sums | None]


def check_sums(blobs: Iterable[Blob], progress: Progress) -> None:
    """Check data against the CRC-32 that its container records.

    Args:
        blobs: The byte ranges to check.
        progress: Is advanced by the bytes read.

    Raises:
        UnreadableError: If the data of a blob does not match its checksum, or cannot be read.
    """
    with Files() as files:
        for blob in blobs:
            check_sum(blob, _crc(files, blob.path, blob.offset, blob.nbytes, progress))


def check_sum(blob: Blob, crc: int) -> None:
    """Compare the checksum of data that was read with the one that its container records.

    Args:
        blob: The byte range.
        crc: The CRC-32 of its bytes.

    Raises:
        UnreadableError: If they differ.
    """
    if crc != blob.crc32:
        raise UnreadableError(
            f"{blob.path}: {blob.name} is corrupt: its CRC-32 is {crc:08x}, "
            f"the archive records {blob.crc32:08x}",
            hint="download or copy the file again",
        )


def used_blobs(blobs: Iterable[Blob], refs: Iterable[TensorRef]) -> list[Blob]:
    """Select the blobs that contain tensors.

    Args:
        blobs: All blobs of a source.
        refs: The tensors to be read.

    Returns:
        The blobs in which a tensor begins that is needed, in the same order.
    """
    offsets: dict[Path, list[int]] = {}
    for path, offset in sorted({(ref.path, ref.offset) for ref in refs}):
        offsets.setdefault(path, []).append(offset)

    def used(blob: Blob) -> bool:
        known = offsets.get(blob.path, [])
        return bisect_left(known, blob.offset) < bisect_left(known, blob.offset + blob.nbytes)

    return [blob for blob in blobs if used(blob)]


class ReadBack:
    """Read an output back and verify it: a large one in threads, while the rest is being written.

    How a part of a tensor is verified depends on how it was written:

    * If it is a whole blob, the output must have the checksum recorded for the blob. That
      verifies source and output at once.
    * If the bytes went through this process (casts, strides, checksums for an archive), the output
      must have the checksum computed at that time.
    * Everything else is compared with the source byte by byte.

    Blobs that were not verified that way are checked in the source. Used as a context manager,
    which ends the threads.

    Args:
        output: The file being written.
        blobs: Checksums recorded in the sources.
        progress: Is advanced by the bytes read back.
        shown: What errors call the output; ``output`` if None.
    """

    def __init__(
        self, output: Path, blobs: Sequence[Blob], progress: Progress, shown: Path | None = None
    ) -> None:
        self._output, self._shown = output, shown or output
        self._blobs = {(blob.path, blob.offset, blob.nbytes): blob for blob in blobs}
        self._progress = progress
        self._files = Files()
        self._pool: ThreadPoolExecutor | None = None  # until there is enough for threads
        self._checks: list[Future[None]] = []
        self._verified: set[Blob] = set()
        self._placed: dict[str, int] = {}
        self._lock = threading.Lock()
        self._waiting: list[_Expected] = []  # small ones, which are verified in one job
        self._room = SMALL

    def __enter__(self) -> ReadBack:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._files.__exit__()

    def expect(self, name: str, part: Part, dtype: str, offset: int, sums: Sums | None) -> None:
        """Start to verify a part of a tensor that has just been written.

        Args:
            name: Name of the tensor.
            part: The part, as it is in the source.
            dtype: Element type in the output.
            offset: First byte of the part in the output.
            sums: CRC-32 of the tensor up to this part, and including it, as computed when it was
                written; None if it was copied by the kernel.
        """
        self._placed.setdefault(name, offset)
        with self._lock:
            self._waiting.append((name, part, dtype, offset, sums))
            self._room -= part.spec.nbytes
            if self._room <= 0:
                self._start()

    def finish(self, wanted: Mapping[str, Tensor], written: Mapping[str, TensorRef]) -> None:
        """Wait for all checks, and verify what was not passed to :meth:`expect`.

        Args:
            wanted: All tensors that should be in the output.
            written: The tensors that a reader finds in the finished output.

        Raises:
            MismatchError: If the output is not what should have been written.
            UnreadableError: If data in a source does not match its recorded checksum.
        """
        if set(wanted) != set(written):
            raise MismatchError(
                f"{self._shown}: read back, it does not hold the tensors that were written"
            )
        for name, ref in written.items():
            at = self._placed.get(name, ref.offset)
            if (ref.spec, ref.stride, ref.offset) != (wanted[name].spec, None, at):
                raise MismatchError(
                    f"{self._shown}: {name}, read back, is {ref.spec} at byte {ref.offset}; "
                    f"{wanted[name].spec} at byte {at} was written"
                )
            if name not in self._placed:
                for part in wanted[name].parts:
                    self.expect(name, part, ref.spec.dtype, at, None)
                    at += TensorSpec(ref.spec.dtype, part.spec.shape).nbytes
        self._check_all(self._waiting)
        for check in self._checks:
            check.result()
        refs = (ref for tensor in wanted.values() for part in tensor.parts for ref in part.refs)
        used = used_blobs(self._blobs.values(), refs)
        check_sums([blob for blob in used if blob not in self._verified], SILENT)

    def _start(self) -> None:
        """Hand over what waits; each by itself would take longer than verifying it."""
        from concurrent.futures import ThreadPoolExecutor

        self._pool = self._pool or ThreadPoolExecutor(WORKERS)
        self._checks.append(self._pool.submit(self._check_all, self._waiting))
        self._waiting, self._room = [], CHUNK

    def _check_all(self, expected: Iterable[_Expected]) -> None:
        for name, part, dtype, offset, sums in expected:
            self._check(name, part, dtype, offset, sums)
            for ref in () if is_plain(part, dtype) else part.refs:
                blob = self._blobs.get((ref.path, ref.offset, ref.extent))
                if blob is not None and blob not in self._verified:
                    self._verified.add(blob)
                    check_sums([blob], SILENT)

    def _check(self, name: str, part: Part, dtype: str, offset: int, sums: Sums | None) -> None:
        blob, spec = None, TensorSpec(dtype, part.spec.shape)
        if is_plain(part, dtype):
            blob = self._blobs.get((part.path, part.offset, part.spec.nbytes))
        if blob is not None:
            self._verified.add(blob)
            sums = 0, blob.crc32
        if sums is None:
            equal = self._same(Tensor(spec, (part,)), offset)
        else:
            before, after = sums
            found = _crc(self._files, self._output, offset, spec.nbytes, self._progress, before)
            equal = found == after
        if not equal:
            check_sums([blob] if blob is not None else [], SILENT)
            raise MismatchError(
                f"{self._shown}: {name}, read back, is not what was written",
                hint="the disk or the memory of this machine is not reliable",
            )

    def _same(self, wanted: Tensor, offset: int) -> bool:
        """Whether the output has the bytes of ``wanted`` at ``offset``."""
        buffer = bytearray()
        for chunk in payload(self._files, wanted):
            if len(buffer) != len(chunk):
                buffer = bytearray(len(chunk))
            count = os.preadv(self._files.fd(self._output), [buffer], offset)
            if count != len(chunk) or buffer != chunk:
                return False
            offset += count
            self._progress.advance(count)
        return True


def same_bytes(left: Part, right: Part) -> bool:
    """Whether two tensors are equal in type, shape and every bit.

    Args:
        left: A tensor that fits into memory.
        right: The other.

    Returns:
        True if they are equal; NaN equals NaN with the same bits.
    """
    with Files() as files:
        one, other = (
            b"".join(map(bytes, payload(files, Tensor(ref.spec, (ref,))))) for ref in (left, right)
        )
    return left.spec == right.spec and one == other


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file.

    Args:
        path: The file, of any size.

    Returns:
        64 hexadecimal digits.
    """
    import hashlib

    digest = hashlib.sha256()
    with Files() as files:
        for chunk in read_chunks(files, path, 0, path.stat().st_size):
            digest.update(chunk)
    return digest.hexdigest()


def git_hash(path: Path) -> str:
    """Compute the hash under which git stores the content of a file.

    Args:
        path: The file; it must fit into memory.

    Returns:
        SHA-1 of the git blob, in 40 hexadecimal digits.
    """
    import hashlib

    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _crc(
    files: Files, path: Path, offset: int, nbytes: int, progress: Progress, crc: int = 0
) -> int:
    """The CRC-32 of a range of a file, continuing from ``crc``."""
    for chunk in read_chunks(files, path, offset, nbytes):
        crc = crc32(chunk, crc)
        progress.advance(len(chunk))
    return crc
