"""Find the pickles in a file, and what each would import and call.

Zip archives are read as ``torch.load`` and less careful programs read them: flags, names and
checksums that contradict each other do not hide a pickle.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

from ...errors import Sam21ConvertError
from ...io.torch_distributed import METADATA, stretches
from ...io.torch_storage import MAX_HEADER
from ...io.torch_zip import Stretch
from ...io.zip_directory import MAX_DIRECTORY, claimed_directory
from .globals import scan_pickle
from .pickle_scan import GlobalReference, PickleScan

_HEADER = struct.Struct("<4s4xH8xI4xHH")  # magic, method, stored size, lengths of name and extra
_PLAIN = re.compile(r"[^/]+/(data/[^/]+|version|byteorder|\.data/[^/]+|\.\w+)")  # never unpickled
_PICKLE = re.compile(r".*\.(pkl|pickle)")
_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number, which follows the protocol
_LEGACY_PICKLES = 5  # magic number, version, system, checkpoint, keys of the storages
_MOST_INFLATED = 1 << 24
_SEARCHED = 1 << 16

_Pickle: TypeAlias = tuple[IO[bytes], int, int, str]


@dataclass(frozen=True)
class References:
    """The globals that the pickles of a file name.

    Attributes:
        names: The globals, pickle by pickle, in the order in which they come.
        complete: Whether every pickle was scanned to its end.
    """

    names: tuple[GlobalReference, ...]
    complete: bool = True


def references_in(path: Path) -> References:
    """Find what would be imported and called if the pickles in ``path`` were loaded.

    Args:
        path: A file, or a folder of ``torch.distributed.checkpoint``. The pieces of such a folder
            are scanned too, if its metadata states plainly where they are.

    Returns:
        The globals; none for a file without pickles.

    Raises:
        OSError: ``path`` cannot be read, or is not a regular file.
    """
    folder, path = path, path / METADATA if path.is_dir() else path
    if not path.is_file():
        raise OSError("not a regular file")  # opening a pipe would block
    with path.open("rb") as file:
        scans = [scan for pickle in _in_file(file) for scan in _consecutive(*pickle)]
    complete = folder == path or _add_pieces(folder, scans)
    names = tuple(reference for scan in scans for reference in scan.references.values())
    return References(names, complete and all(scan.complete for scan in scans))


def _add_pieces(folder: Path, scans: list[PickleScan]) -> bool:
    """Scan the pieces too, up to a number of bytes; False if some were not scanned."""
    left = MAX_HEADER
    try:
        for path, start, length in stretches(folder):
            with path.open("rb", buffering=0) as file:
                piece = io.BufferedReader(Stretch(file, start, length))
                left -= claimed_directory(piece, length)
                for opened, begin, end, entry in _in_file(piece) if left > 0 else ():
                    left -= end - begin
                    if left > 0:
                        scans += _consecutive(
                            opened, begin, end, f"{path.name}, byte {start}: {entry}"
                        )
            if left <= 0:
                return False
    except Sam21ConvertError:
        return False
    return True


def _in_file(file: IO[bytes]) -> Iterator[_Pickle]:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(4) == b"PK\3\4":
        yield from _in_zip(file, size)
    else:
        yield file, 0, size, ""


def _consecutive(file: IO[bytes], start: int, stop: int, entry: str) -> Iterator[PickleScan]:
    """Scan pickles that follow each other. In PyTorch's legacy format, data follows the fifth."""
    file.seek(start)
    legacy = file.read(2 + len(_LEGACY))[2:] == _LEGACY
    position: int | None = start
    count = 0
    while position is not None and position < stop and not (legacy and count == _LEGACY_PICKLES):
        scan = scan_pickle(file, position, stop, entry, start)
        if position == start or scan.end is not None or scan.references:
            yield scan
        position, count = scan.end, count + 1


def _in_zip(file: IO[bytes], size: int) -> Iterator[_Pickle]:
    if claimed_directory(file, size) > MAX_DIRECTORY:  # zipfile would read all of it into memory
        yield from _without_directory(file, size)
        return
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OverflowError, ValueError, struct.error):
        yield from _without_directory(file, size)
        return
    for info in infos:
        name = info.orig_filename
        if _PLAIN.fullmatch(name) or not 0 <= info.header_offset < size:
            continue
        file.seek(info.header_offset)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            continue
        *_, name_length, extra_length = _HEADER.unpack(header)
        start = info.header_offset + _HEADER.size + name_length + extra_length
        stop = min(size, start + info.compress_size)
        yield from _entry(file, start, stop, name, info.compress_type)


def _without_directory(file: IO[bytes], size: int) -> Iterator[_Pickle]:
    """The entries at the beginning of an archive whose directory is broken or missing."""
    file.seek(0)
    beginning = file.read(_SEARCHED)
    for found in re.finditer(rb"PK\x03\x04", beginning):
        header = beginning[found.start() : found.start() + _HEADER.size]
        if len(header) == _HEADER.size:
            _, method, stored, name_length, extra_length = _HEADER.unpack(header)
            start = found.start() + _HEADER.size
            name = beginning[start : start + name_length].decode("utf-8", "replace")
            start += name_length + extra_length
            if not _PLAIN.fullmatch(name):
                stop = min(size, start + stored) if stored else size
                yield from _entry(file, start, stop, name, method)


def _entry(file: IO[bytes], start: int, stop: int, name: str, method: int) -> Iterator[_Pickle]:
    """An entry, if it is a pickle by its name or its first two bytes."""
    if method == zipfile.ZIP_DEFLATED:
        file.seek(start)
        try:
            packed = file.read(min(stop - start, _MOST_INFLATED))
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, _MOST_INFLATED)
        except zlib.error:
            return
        file, start, stop = io.BytesIO(data), 0, len(data)
    file.seek(start)
    head = file.read(2)
    if _PICKLE.fullmatch(name) or (head[:1] == b"\x80" and head[1:] <= b"\5"):
        yield file, start, stop, name
