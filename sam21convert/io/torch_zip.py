"""Read the checkpoints that ``torch.save`` writes: zip archives with a pickle and raw storages.

Follows ``torch/serialization.py``, which defines the entries of the archive. Tensors are pickled in
the same way as in the legacy format.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import RawIOBase
from pathlib import Path
from typing import Any

from ..errors import RefusedError, UnreadableError
from . import unsupported
from .module import with_modules_read
from .pickle.load import unpickle
from .sequences import with_lists_read
from .source import Blob, Placeholder, Source
from .torch_storage import TORCH, Storages, StorageType, errors_about
from .zip_directory import MAX_DIRECTORY, NOT_A_ZIP, check_end
from .zip_entries import check_names, others

_MAX_ONE_TENSOR = 4096  # bytes of the directory or pickle of a single tensor; usually hundreds
_CHUNK = 1 << 18
_LOCAL_HEADER = struct.Struct("<4s4xH16xHH")


def read_torch_zip(
    path: Path, start: int = 0, length: int | None = None, *, place: bool = True
) -> Source:
    """Read what ``torch.save`` writes since PyTorch 1.6, without the data of the tensors.

    Args:
        path: The file.
        start: First byte of the archive in the file.
        length: Size of an archive that holds a single tensor and is only a part of the file, as
            in a folder of ``torch.distributed.checkpoint``; None for the whole file.
        place: Whether to locate the data of each tensor, which needs one small read per tensor.
            With False the offsets are those of the archive's entries and must not be used to
            read data.

    Returns:
        The opened checkpoint, with the checksums that the archive records.

    Raises:
        UnreadableError: If the file is not an intact zip archive or its parts contradict each
            other.
        RefusedError: If it is another kind of archive, such as TorchScript, has compressed or
            encrypted entries, or holds big-endian data.
    """
    with errors_about(str(path)), path.open("rb", buffering=0) as file:
        if length is None:
            archive = _Archive(file, MAX_DIRECTORY)
        else:
            archive = _Archive(Stretch(file, start, length), _MAX_ONE_TENSOR)
        folder = _find_folder(archive)
        _check_byte_order(archive, folder)
        pickle = archive.opened(f"{folder}/data.pkl", None if length is None else _MAX_ONE_TENSOR)
        blobs: list[Blob] = []

        def locate(key: str, numel: int, itemsize: int) -> int:
            name = f"{folder}/data/{key}"
            info = archive.find(name)
            offset = archive.locate(info) if place else archive.entry(info)
            if info.file_size != numel * itemsize:
                needed = f"{numel} elements of {itemsize} bytes"
                raise UnreadableError(f"its entry has {info.file_size} bytes, not {needed}")
            if archive.has_checksums:
                blobs.append(Blob(name, path, start + offset, info.file_size, info.CRC))
            return start + offset

        storages = Storages(path, locate)

        def persistent(number: Any) -> Placeholder:
            match number:
                case ("storage", StorageType() as kind, str(key), _, numel):
                    return storages.find(kind, key, numel)
            raise UnreadableError("a persistent id does not describe a storage")

        found = unpickle(pickle, "data.pkl", known=TORCH, persistent=persistent)
        if rest := pickle.seek(0, 2) - found.end:
            raise RefusedError(f"data.pkl holds {rest} bytes after its end")
        root, notes = with_modules_read(found.value)
    return Source(
        path,
        "torch zip",
        (path,),
        with_lists_read(root),
        blobs=tuple(blobs),
        placeholders=found.placeholders,
        notes=notes,
    )


class Stretch(RawIOBase):
    """A range of a file, readable like a file of its own.

    Args:
        file: The file, opened for reading without a buffer.
        start: First byte of the range.
        length: Number of bytes.
    """

    def __init__(self, file: RawIOBase, start: int, length: int) -> None:
        self._file = file
        self._start, self._length = start, length
        self._position = 0

    def seekable(self) -> bool:
        """Tell that :meth:`seek` works.

        Returns:
            True.
        """
        return True

    def readable(self) -> bool:
        """Tell that the range can be read.

        Returns:
            True.
        """
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Change the position.

        Args:
            offset: Bytes relative to ``whence``.
            whence: ``os.SEEK_SET``, ``os.SEEK_CUR`` or ``os.SEEK_END``; here the start of the
                range, the position, or the end of the range.

        Returns:
            The new position, from the start of the range.

        Raises:
            ValueError: If that is before the start of the range.
        """
        self._position = (0, self._position, self._length)[whence] + offset
        if self._position < 0:
            raise ValueError("the position is before the start of the range")
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, up to the end of the range.

        Args:
            buffer: A writable buffer of bytes.

        Returns:
            Number of bytes read; 0 at the end.
        """
        count = max(0, min(len(buffer), self._length - self._position))
        self._file.seek(self._start + self._position)
        data = self._file.read(count) or b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class _Archive:
    """A zip archive: the entries of its central directory, and where their data is stored."""

    def __init__(self, file: RawIOBase, limit: int) -> None:
        self.file = file
        self.size = file.seek(0, 2)
        check_end(file, self.size, limit)
        try:
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
        except NOT_A_ZIP as error:
            raise UnreadableError(f"not an intact zip archive ({error})") from None
        check_names([info.orig_filename for info in infos])
        self.entries = {info.orig_filename: info for info in infos}
        # PyTorch takes the folder of the entry that comes first in the directory.
        self.top = next(iter(self.entries), "").partition("/")[0]
        # torch.save can be told not to compute checksums; all of them are zero then.
        self.has_checksums = any(info.CRC for info in infos)

    def find(self, name: str) -> zipfile.ZipInfo:
        if name not in self.entries:
            raise UnreadableError("the zip archive has no entry for it")
        return self.entries[name]

    def entry(self, info: zipfile.ZipInfo) -> int:
        """The offset of an entry according to the directory; its own header is not read."""
        if info.flag_bits & 1:
            raise RefusedError("its entry in the zip archive is encrypted")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise RefusedError(
                "its entry in the zip archive is compressed",
                hint="unpack the archive and pack it again without compression",
            )
        header = _LOCAL_HEADER.size + len(_name(info))
        if not 0 <= info.header_offset <= self.size - header:
            raise UnreadableError("its entry is outside the file")
        self._check_end(info, info.header_offset + header)
        return info.header_offset

    def locate(self, info: zipfile.ZipInfo) -> int:
        """The offset of the data of an entry, which follows the entry's own header and padding."""
        self.file.seek(self.entry(info))
        name = _name(info)
        header = self.file.read(_LOCAL_HEADER.size + len(name)) or b""
        magic, method, name_length, extra_length = _LOCAL_HEADER.unpack_from(header)
        agree = (magic, method, name_length) == (b"PK\3\4", info.compress_type, len(name))
        if not agree or not header.endswith(name):
            raise UnreadableError(
                "its entry and the directory of the zip archive contradict each other"
            )
        offset: int = info.header_offset + len(header) + extra_length
        self._check_end(info, offset)
        return offset

    def _check_end(self, info: zipfile.ZipInfo, offset: int) -> None:
        if offset + info.file_size > self.size:
            raise UnreadableError("its entry extends beyond the end of the file")

    def opened(self, name: str, limit: int | None) -> Stretch:
        """Open an entry of at most ``limit`` bytes, after checking its checksum."""
        with errors_about(name.partition("/")[2]):
            info = self.find(name)
            if limit is not None and info.file_size > limit:
                raise RefusedError(f"{info.file_size} bytes are more than the {limit} allowed")
            entry = Stretch(self.file, self.locate(info), info.file_size)
            found = 0
            while self.has_checksums and (data := entry.read(_CHUNK)):
                found = zlib.crc32(data, found)
            if self.has_checksums and found != info.CRC:
                raise UnreadableError("the data does not match its checksum")
        return entry

    def read(self, name: str, limit: int) -> bytes:
        """Read an entry of at most ``limit`` bytes, and check its checksum."""
        entry = self.opened(name, limit)
        entry.seek(0)
        return entry.read() or b""


def _name(info: zipfile.ZipInfo) -> bytes:
    """The name of an entry, encoded as in the file."""
    if info.orig_filename.isascii():
        return info.orig_filename.encode()
    return info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")


def _find_folder(archive: _Archive) -> str:
    """Find the top folder of the archive; torch.save names it after the file being written."""
    folders = [
        name.removesuffix("/data.pkl")
        for name in archive.entries
        if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    if known := unsupported.archive(archive.entries):
        raise RefusedError(f"is {known.what}, not a checkpoint", hint=known.hint)
    files = [name for name in archive.entries if not name.endswith("/")]
    if files and not folders and not others(files):
        raise UnreadableError(
            "torch.save began this file and did not finish it: it has no data.pkl",
            hint="save it again: what could not be pickled is named in the error of torch.save, "
            "and model.state_dict() always can be",
        )
    if not folders:
        shown = ", ".join(repr(name[:60]) for name in [*archive.entries][:3])
        shown += " ..." if len(archive.entries) > 3 else ""
        raise RefusedError(
            f"is a zip archive, but not a PyTorch checkpoint: it holds {shown}",
            hint="unpack it and give the checkpoint in it",
        )
    if len(folders) > 1:
        raise UnreadableError("the zip archive has more than one data.pkl")
    if folders[0] != archive.top:
        raise UnreadableError(
            f"the first entry of the zip archive is not in the folder {folders[0]!r} of its "
            f"data.pkl but in {archive.top!r}, where PyTorch looks for it",
            hint="unpack the archive, and pack that folder alone, without compression",
        )
    return folders[0]


def _check_byte_order(archive: _Archive, folder: str) -> None:
    name = f"{folder}/byteorder"
    order = archive.read(name, limit=16) if name in archive.entries else b"little"
    if order == b"big":
        raise RefusedError(
            "the data is big-endian", hint="load and save it with torch on a little-endian machine"
        )
    if order != b"little":
        raise UnreadableError("byteorder: expected 'little' or 'big'")
