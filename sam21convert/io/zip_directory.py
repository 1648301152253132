"""Check the end of a zip archive before its directory is read.

Follows PKWARE's ``APPNOTE.TXT``, sections 4.3.14 to 4.3.16.
"""

from __future__ import annotations

import re
import struct
import zipfile
from io import RawIOBase
from typing import IO

from ..errors import RefusedError, UnreadableError

_END = struct.Struct("<4s8xIIH")
_LOCATOR = struct.Struct("<4s4xQ4x")
_END64 = struct.Struct("<4s36xQQ")
MAX_DIRECTORY = 4 * 2**20  # bytes, ten times those of a training checkpoint
_TAIL = (1 << 16) + 200  # bytes: the longest comment and all end records before it
# What the standard library raises for archives that it cannot read.
NOT_A_ZIP = (zipfile.BadZipFile, NotImplementedError, OverflowError, ValueError, struct.error)
_NOT_INTACT = "not an intact zip archive"
_AGAIN = "download or copy the file again"


def check_end(file: RawIOBase, size: int, limit: int = MAX_DIRECTORY) -> None:
    """Check that a file is exactly one zip archive with a directory of reasonable size.

    If there are other bytes before, between or after its parts, another program may find another
    archive in the same file.

    Args:
        file: The file.
        size: Its size in bytes.
        limit: Allowed size of the directory in bytes.

    Raises:
        UnreadableError: If the archive is cut short or does not fill the file exactly.
        RefusedError: If the directory is larger than ``limit``.
    """
    tail_size = min(size, _END64.size + _LOCATOR.size + _END.size)
    file.seek(size - tail_size)
    tail = file.read(tail_size) or b""
    at = len(tail) - _END.size
    if at < 0 or not tail.startswith(b"PK\5\6", at):
        raise UnreadableError(
            f"{_NOT_INTACT} (it is cut short, or something follows its end)", hint=_AGAIN
        )
    _, length, start, comment = _END.unpack_from(tail, at)
    at -= _LOCATOR.size
    end = size - _END.size
    if at >= 0 and tail.startswith(b"PK\6\7", at):
        end -= _LOCATOR.size + _END64.size
        if _LOCATOR.unpack_from(tail, at)[1] != end or not tail.startswith(b"PK\6\6"):
            raise UnreadableError(f"{_NOT_INTACT} (its end record is not where its locator says)")
        _, length, start = _END64.unpack_from(tail)
    if comment or start + length != end:
        raise UnreadableError(f"{_NOT_INTACT} (its directory is not where its end record says)")
    if length > limit:
        raise RefusedError(
            f"a zip archive with a directory of {length} bytes, more than the {limit} allowed"
        )


def claimed_directory(file: IO[bytes], size: int) -> int:
    """Find the largest directory size that anything like an end record near the end claims.

    Other programs accept bytes after the archive and end records within comments, and then
    allocate what such a record claims.

    Args:
        file: The file.
        size: Its size in bytes.

    Returns:
        The size in bytes; 0 if there is no end record.
    """
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    found = [0]
    for kind, magic in ((_END, b"PK\5\6"), (_END64, b"PK\6\6")):
        for at in re.finditer(re.escape(magic), tail):
            if at.start() + kind.size <= len(tail):
                found.append(kind.unpack_from(tail, at.start())[1])
    return max(length for length in found if length != 0xFFFFFFFF)
