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
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

from ...errors import Sam21ConvertError
from ...io.pickle.load import Scan, scan
from ...io.pickle.references import GlobalReference
from ...io.torch_distributed import METADATA, stretches
from ...io.torch_zip import Stretch
from ...io.unsupported import HEAD
from ...io.zip_directory import MAX_DIRECTORY, NOT_A_ZIP, claimed_directory
from ...io.zip_entries import may_be_pickle, others
from .intact import begins_like_a_pickle, is_named, is_text, kind_by_head, kind_of, legacy_fault
from .policy import rate

_HEADER = struct.Struct("<4s4xH8xI4xHH")  # magic, method, stored size, lengths of name and extra
_PICKLE = re.compile(r".*\.(pkl|pickle)", re.IGNORECASE)
_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number, which follows the protocol
_LEGACY_PICKLES = 5  # magic number, version, system, checkpoint, keys of the storages
_ARCHIVE, _END = b"PK\3\4", b"PK\5\6"
_MOST_PICKLES = 1000  # in a row, in one file or entry
_MOST_OPCODES = 3_000_000  # in all, which take a second
_MOST_ENTRIES = 100_000  # in all
_MOST_INFLATED = 1 << 24
_SEARCHED = 1 << 16
_REMEMBERED = 1 << 20  # bytes of a stretch: an ordinary data.pkl, of which large models have 200 KB
_MORE = "there is more than is looked through"

_Stored: TypeAlias = tuple[str, int, int, int]  # name, first byte, byte behind the last, method


@dataclass
class Found:
    """What the pickles of files would import and call.

    Attributes:
        names: Where a pickle is, in words, and a global that it names; pickle by pickle, in the
            order in which they come.
        doubts: Why two programs may read a pickle differently.
        unscanned: What was not looked through, and why.
        others: Entries of archives that ``torch.save`` does not write.
        unreadable: What begins or is named like a checkpoint, and cannot be read to its end.
        other: What the only file is, if it is no checkpoint; else empty.
        headers: Whether what a reader checks of safetensors and legacy files is checked, too.
        failing: Those of the names at which every unpickler stops, as nothing has such a name.
        opcodes: How many opcodes may still be looked at.
        entries: How many entries may still be looked at.
    """

    names: list[tuple[str, GlobalReference]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    unscanned: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    other: str = ""
    headers: bool = False
    failing: set[GlobalReference] = field(default_factory=set)
    opcodes: int = _MOST_OPCODES
    entries: int = _MOST_ENTRIES
    _ended: bool = False

    def spent(self, where: str) -> bool:
        """Check whether all is looked at that may be, before more is looked at.

        Args:
            where: What would be looked at next, for people; empty if it is all of the file.

        Returns:
            True if so. The first such place is then named in ``unscanned``.
        """
        if self.opcodes > 0 and self.entries > 0:
            return False
        if not self._ended:
            self.unscanned.append(f"{where}: {_MORE}" if where else _MORE)
        self._ended = True
        return True


@dataclass(frozen=True)
class _Place:
    """A stretch of a file that may be a pickle, or several, or an archive.

    Attributes:
        file: The file.
        start: Position of its first byte.
        stop: Position behind its last.
        where: What it is, for people; empty if it is all of the file that was given.
        named: Whether its name is that of a pickle.
        other: Whether it is a whole file without the name of a checkpoint or pickle.
        archives: How many archives it is in.
    """

    file: IO[bytes]
    start: int
    stop: int
    where: str
    named: bool = False
    other: bool = False
    archives: int = 0

    def about(self, text: str) -> str:
        """Put the place in front of a text."""
        return f"{self.where}: {text}" if self.where else text


def look_through(path: Path, found: Found, where: str = "") -> None:
    """Find what would be imported and called if the pickles in a file were loaded.

    Args:
        path: A regular file.
        found: Takes what is found.
        where: The name of the file, for people; empty if it is the only one.

    Raises:
        OSError: ``path`` cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        named, other = _PICKLE.fullmatch(path.name) is not None, not is_named(path.name)
        place = _Place(file, 0, size, where, named, other)
        looked, legacy = _look(place, found), _is_legacy(file)
    if legacy:
        kind, why = None, legacy_fault(path) if found.headers else None
    else:
        kind, why = kind_of(path, *looked, headers=found.headers)
    if why is not None:
        found.unreadable.append(place.about(why))
    if not where:
        found.other = kind or ""


def _is_legacy(file: IO[bytes]) -> bool:
    file.seek(0)
    return _begins_legacy(file.read(HEAD))


def _begins_legacy(head: bytes) -> bool:
    """Whether it begins with the magic number, which protocols 4 and 5 put into a frame."""
    framed = head[2:3] == b"\x95" and head[11:].startswith(_LEGACY)
    return begins_like_a_pickle(head) and (framed or head[2:].startswith(_LEGACY))


def look_through_distributed(folder: Path, found: Found) -> None:
    """Do the same for the metadata of ``torch.distributed.checkpoint`` and its pieces.

    The pieces are looked through if the metadata states plainly where they are.

    Args:
        folder: The folder with the metadata.
        found: Takes what is found.

    Raises:
        OSError: A file cannot be read.
    """
    look_through(folder / METADATA, found)
    try:
        for path, start, length in stretches(folder):
            if found.spent(path.name):
                return
            with path.open("rb", buffering=0) as file:
                piece = io.BufferedReader(Stretch(file, start, length))
                _look(_Place(piece, 0, length, f"{path.name}, byte {start}"), found)
    except Sam21ConvertError as error:
        found.unscanned.append(f"the pieces of the folder: {error.message}")


class _Looked(NamedTuple):
    """What a stretch of a file turned out to be.

    Attributes:
        pickles: False if it is neither an archive nor pickles to its end.
        listed: Whether it is an archive whose directory can be read.
    """

    pickles: bool
    listed: bool = False


def _look(place: _Place, found: Found) -> _Looked:
    """Look through a stretch of a file, as a pickle and as an archive."""
    if found.spent(place.where):
        return _Looked(pickles=True)  # which is said already
    found.entries -= 1
    place.file.seek(place.start)
    is_archive = place.file.read(4) == _ARCHIVE
    whole_pickles = True
    if not is_archive:
        whole_pickles = _look_at_pickles(place, found)
        place.file.seek(max(place.start, place.stop - _SEARCHED))
        if _END not in place.file.read(min(_SEARCHED, place.stop - place.start)):
            # No program that looks for the end of an archive finds one.
            return _Looked(whole_pickles)
    if place.archives > 1:
        found.unscanned.append(place.about("is an archive in an archive in an archive"))
        return _Looked(whole_pickles)
    whole = place.file
    if place.archives:
        whole = io.BytesIO(_bytes_of(place, found))
    entries, listed = _entries(whole)
    for entry in entries:
        if may_be_pickle(entry[0]):
            _look_at_entry(whole, place, entry, found)
    if is_archive:
        found.others += [place.about(name) for name in others([name for name, *_ in entries])]
    return _Looked(whole_pickles, listed)


def _bytes_of(place: _Place, found: Found) -> bytes:
    """Read an archive that is in another, up to a size."""
    if place.stop - place.start > _MOST_INFLATED:
        found.unscanned.append(place.about("is a large archive in an archive"))
        return b""
    place.file.seek(place.start)
    return place.file.read(place.stop - place.start)


def _look_at_entry(file: IO[bytes], place: _Place, entry: _Stored, found: Found) -> None:
    name, start, stop, method = entry
    where = place.about(name)
    if method == zipfile.ZIP_DEFLATED:
        file.seek(start)
        packed = file.read(min(stop - start, _MOST_INFLATED))
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = inflating.decompress(packed, _MOST_INFLATED)
        except zlib.error:
            return  # no program can read it
        if inflating.unconsumed_tail or stop - start > _MOST_INFLATED:
            found.unscanned.append(f"{where}: is large and compressed")
        file, start, stop = io.BytesIO(data), 0, len(data)
    elif method != zipfile.ZIP_STORED:
        found.unscanned.append(f"{where}: is compressed in a way that PyTorch does not read")
    named = _PICKLE.fullmatch(name) is not None
    looked = _look(_Place(file, start, stop, where, named, archives=place.archives + 1), found)
    file.seek(start)
    if not looked.pickles and (named or begins_like_a_pickle(file.read(2))):
        found.unreadable.append(f"{where}: cannot be read to its end as a pickle")


def _look_at_pickles(place: _Place, found: Found) -> bool:
    """Look through pickles that follow each other; in the legacy format, data follows the fifth.

    True if they go on to the end, or what was not looked through is named.
    """
    place.file.seek(place.start)
    head = place.file.read(min(HEAD, place.stop - place.start))
    legacy = _begins_legacy(head)
    text, known = place.other and is_text(head), kind_by_head(head) is not None
    begins = place.named or begins_like_a_pickle(head)
    position, count = place.start, 0
    while position < place.stop and not (legacy and count == _LEGACY_PICKLES):
        if count == _MOST_PICKLES:
            found.unscanned.append(place.about(_MORE))
            return True
        if found.opcodes <= 0 and found.spent(place.where):
            return True
        look = scan if count else _first
        pickle = look(place.file, position, place.stop, found.opcodes)
        found.opcodes -= pickle.opcodes
        _add(pickle, place, found, begins=begins and count == 0, text=text, known=known)
        if pickle.end is None:
            return not pickle.complete
        position, count = pickle.end, count + 1
    return True


def _first(file: IO[bytes], start: int, stop: int, most: int) -> Scan:
    """Scan the first pickle of a stretch: once, if a command meets the same bytes again."""
    if stop - start > _REMEMBERED:
        return scan(file, start, stop, most)
    file.seek(start)
    stretch = file.read(stop - start)
    if len(stretch) < stop - start:  # the file ends before
        return scan(file, start, stop, most)
    found = _scanned(stretch, most)
    references = [
        replace(one, offset=start + one.offset, arguments=[*one.arguments])
        for one in found.references
    ]
    end = None if found.end is None else start + found.end
    return replace(found, references=tuple(references), end=end)


@lru_cache(maxsize=8)
def _scanned(stretch: bytes, most: int) -> Scan:
    return scan(stretch, most=most)


def _add(
    pickle: Scan, place: _Place, found: Found, *, begins: bool, text: bool, known: bool
) -> None:
    """Add the globals of a pickle.

    Any file has bytes that are opcodes: the text ``import torch`` is an INST. So of texts and of
    files beside others, what neither ends like a pickle, nor begins or is named like one, is
    reported only if it does harm. In a file of a known other kind that never ends like a pickle, a
    line that no import statement can name is no name: every unpickler asks the import system for it
    before it goes on, which fails unless a file with such a name is installed.
    """
    ends = pickle.end is not None or not pickle.complete
    is_one = ends or begins or not (place.where or text)
    for reference in pickle.references:
        reference.offset -= place.start
        if known and not ends and not _can_be_imported(reference):
            found.failing.add(reference)
        if is_one or rate(reference.module, reference.name) == "dangerous":
            found.names.append((place.where, reference))
    if is_one:
        found.doubts += [place.about(doubt) for doubt in pickle.doubts]
        if not pickle.complete:
            found.unscanned.append(place.about("the pickle is too large to be looked through"))


def _can_be_imported(found: GlobalReference) -> bool:
    """Whether module and name are identifiers with dots; what is computed may be anything."""
    module = found.module.split(".")
    return found.computed or not found.module or all(part.isidentifier() for part in module)


def _entries(file: IO[bytes]) -> tuple[list[_Stored], bool]:
    """The entries of an archive, and whether its directory has them, not only what is in it."""
    size = file.seek(0, io.SEEK_END)
    infos = None
    if claimed_directory(file, size) <= MAX_DIRECTORY:  # otherwise zipfile would read all of it
        with suppress(*NOT_A_ZIP), zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    if infos is None:
        return [*_without_directory(file, size)], False
    return [*_listed(file, size, infos)], True


def _listed(file: IO[bytes], size: int, infos: Iterable[zipfile.ZipInfo]) -> Iterator[_Stored]:
    for info in infos:
        if not may_be_pickle(info.orig_filename):
            yield info.orig_filename, 0, 0, 0  # its header, one of many in the file, is not read
            continue
        if not 0 <= info.header_offset < size:
            continue
        file.seek(info.header_offset)
        header = file.read(_HEADER.size)
        if len(header) == _HEADER.size:
            *_, name_length, extra_length = _HEADER.unpack(header)
            start = info.header_offset + _HEADER.size + name_length + extra_length
            stop = max(start, min(size, start + info.compress_size))
            yield info.orig_filename, start, stop, info.compress_type


def _without_directory(file: IO[bytes], size: int) -> Iterator[_Stored]:
    """The entries at the beginning of an archive whose directory is broken or missing."""
    file.seek(0)
    beginning = file.read(_SEARCHED)
    for at in re.finditer(re.escape(_ARCHIVE), beginning):
        header = beginning[at.start() : at.start() + _HEADER.size]
        if len(header) == _HEADER.size:
            _, method, stored, name_length, extra_length = _HEADER.unpack(header)
            start = at.start() + _HEADER.size
            name = beginning[start : start + name_length].decode("utf-8", "replace")
            start += name_length + extra_length
            stop = min(size, start + stored) if stored else size
            yield name, start, max(start, stop), method
