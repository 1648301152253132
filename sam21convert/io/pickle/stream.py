"""The bytes of a pickle, read through a window: long texts and data are passed by, not kept."""

from __future__ import annotations

import io
from struct import Struct
from struct import error as StructError
from typing import IO, Any, TypeAlias

from ...errors import UnreadableError
from ..source import Placeholder

Data: TypeAlias = bytes | IO[bytes] | io.RawIOBase
_WINDOW = 1 << 16
REACH = 16  # bytes: more than an opcode and a number of fixed size
LONG = 1 << 16  # bytes of a text or of data, above which it is passed by
ENDED = "the data ends before the pickle does"


class CutShortError(UnreadableError):
    """The data ends before the pickle does."""


class Stream:
    """A range of a file, and the position in it.

    Args:
        data: The file that holds the pickle, or its bytes.
        start: Position at which the pickle begins.
        stop: Position behind the last byte that may belong to it; None for the end of the data.

    Attributes:
        start: Position at which the pickle begins.
        position: The position of the next byte to be read.
        window: Bytes of the file from ``base`` on.
        base: The position of the first byte of ``window``.
        ahead: The last index in ``window`` at which an opcode can be read at once.
    """

    def __init__(self, data: Data, start: int = 0, stop: int | None = None) -> None:
        whole = isinstance(data, bytes)
        self._file: IO[bytes] | io.RawIOBase = io.BytesIO(data) if isinstance(data, bytes) else data
        self.stop = self._file.seek(0, io.SEEK_END) if stop is None else stop
        self.position = self.start = start
        self.window, self.base = (data, 0) if isinstance(data, bytes) else (b"", start)
        if whole and self.stop < len(self.window):
            self.window = self.window[: self.stop]
        self.ahead = -1

    def refill(self) -> bool:
        """Move the window to the position.

        Returns:
            Whether there is a byte at the position.
        """
        if self.position >= self.stop:
            return False
        if self.position - self.base <= len(self.window) - REACH:
            return True
        end = self.base + len(self.window)
        if self.position < end and end == self.stop:
            return True
        self._move(self.position)
        return bool(self.window)

    def _move(self, position: int) -> None:
        self.base, self.window = position, self._read(position, _WINDOW)
        self.ahead = -1

    def _read(self, start: int, count: int) -> bytes:
        """Read up to ``count`` bytes within the range; a raw file may give fewer at a time."""
        self._file.seek(start)
        pieces, left = [], min(count, self.stop - start)
        while left > 0 and (piece := self._file.read(left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def number(self, packed: Struct) -> Any:
        """Read a number of fixed size, of 8 bytes at most, behind an opcode.

        Args:
            packed: Its format, of one field.

        Returns:
            An int or a float, according to the format.

        Raises:
            CutShortError: If the data ends before.
        """
        try:
            (value,) = packed.unpack_from(self.window, self.position - self.base)
        except StructError:
            raise CutShortError(ENDED) from None
        self.position += packed.size
        return value

    def take(self, count: int) -> bytes | Placeholder:
        """Read bytes.

        Args:
            count: How many.

        Returns:
            Exactly that many bytes; a placeholder if there are more than ``LONG``.

        Raises:
            UnreadableError: If ``count`` is negative.
            CutShortError: If the data ends before.
        """
        if count < 0:
            raise UnreadableError("a length is negative")
        if count > self.stop - self.position:
            raise CutShortError(ENDED)
        here = self.position - self.base
        if here + count <= len(self.window) and count <= LONG:
            piece = self.window[here : here + count]
        elif count > LONG:
            self.position += count
            return Placeholder("bytes")
        else:
            piece = self._read(self.position, count)
            if len(piece) != count:  # the file was cut meanwhile
                raise CutShortError(ENDED)
        self.position += count
        return piece

    def line(self, *, ended: bool = True) -> bytes | Placeholder:
        """Read the argument of a text opcode, which ends with a line feed.

        Args:
            ended: Whether the line feed is required. CPython takes a last line without one, and
                drops its last byte.

        Returns:
            The bytes before the line feed; a placeholder if there are more than ``LONG``.

        Raises:
            CutShortError: If there is no line feed.
        """
        start = at = self.position
        while True:
            found = self.window.find(b"\n", at - self.base)
            if found >= 0:
                end = self.base + found
                self.position = end + 1
                break
            at = self.base + len(self.window)
            if at >= self.stop:
                if ended:
                    raise CutShortError(ENDED)
                self.position, end = self.stop, max(start, self.stop - 1)
                break
            self._move(at)
            if not self.window:
                raise CutShortError(ENDED)
        if end - start > LONG:
            return Placeholder("str")
        if start >= self.base:
            return self.window[start - self.base : end - self.base]
        return self._read(start, end - start)
