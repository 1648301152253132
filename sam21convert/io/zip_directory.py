"""Where a zip archive ends: checked before any of its directory is read.

After PKWARE's ``APPNOTE.TXT``, 4.3.14 to 4.3.16.
"""

from __future__ import annotations

import re
import struct
from io import RawIOBase
from typing import IO

from ..errors import RefusedError, UnreadableError

_END = struct.Struct("<4s8xIIH")
_LOCATOR = struct.Struct("<4s4xQ4x")
_END64 = struct.Struct("<4s36xQQ")
MAX_DIRECTORY = 4 * 2**20  # ten times that of a training checkpoint
_TAIL = (1 << 16) + 200  # bytes: a comment and all that the end has before it
_NOT_INTACT = "not an intact zip archive"
_AGAIN = "download or copy the file again"


def check_end(file: RawIOBase, size: int, limit: int = MAX_DIRECTORY) -> None:
    """Raise an error unless an archive of ``size`` bytes is all there is, with a sane directory.

    Another program may see another archive in a file with something before, between or after.
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
            raise UnreadableError(f"{_NOT_INTACT} (its end is not where it is said to be)")
        _, length, start = _END64.unpack_from(tail)
    if comment or start + length != end:
        raise UnreadableError(f"{_NOT_INTACT} (its directory is not where it is said to be)")
    if length > limit:
        raise RefusedError(
            f"a zip archive with a directory of {length} bytes, more than the {limit} allowed"
        )


def claimed_directory(file: IO[bytes], size: int) -> int:
    """Bytes that a directory may be said to have, by any of what looks like the end of an archive.

    Also where something follows it, or is behind it in a comment.
    """
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    found = [0]
    for kind, magic in ((_END, b"PK\5\6"), (_END64, b"PK\6\6")):
        for at in re.finditer(re.escape(magic), tail):
            if at.start() + kind.size <= len(tail):
                found.append(kind.unpack_from(tail, at.start())[1])
    return max(length for length in found if length != 0xFFFFFFFF)
