"""Read a large JSON object member by member, so that memory holds only what a caller keeps.

Parsed JSON can take thirty times the size of its text. Here only one member at a time is parsed as
such, and its length is limited.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

from .text import unique

SPACE = rb"[ \t\n\r]*"
_SPACE = re.compile(SPACE)
_DECODER = json.JSONDecoder(object_pairs_hook=unique)
_FIRST = 512  # bytes that are looked at first; most members are shorter
_LONGEST_NAME = 1 << 16  # bytes


class TooLongError(ValueError):
    """A name or a value is longer than the caller allows."""


class OtherKindError(ValueError):
    """There is a value of another kind than expected."""


class JsonScanner:
    """A position in the text of a JSON object.

    Members are read by :meth:`name`, :meth:`value` and :meth:`more`, in this order. The caller may
    also move on by itself.

    Args:
        text: The text, in UTF-8.

    Attributes:
        text: The text.
        at: The position in it.

    Raises:
        ValueError: By every method, if the text is not valid there.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0

    def opens(self) -> bool:
        """Enter an object.

        Returns:
            Whether it has members; an empty one is passed.

        Raises:
            OtherKindError: If there is no object here.
        """
        self._space()
        if self._next() != b"{":
            raise OtherKindError(f"expected an object at byte {self.at}")
        self.at += 1
        self._space()
        empty = self._next() == b"}"
        self.at += empty
        return not empty

    def name(self) -> str:
        """Read the name of a member, and the colon.

        Returns:
            The name.

        Raises:
            TooLongError: If it has more than 64 KiB.
            ValueError: If there is no name here, or no colon after it.
        """
        self._space()
        if self._next() != b'"':
            raise ValueError(f"expected a name at byte {self.at}")
        name = self.string(_LONGEST_NAME)
        self._space()
        if self._next() != b":":
            raise ValueError(f"expected a colon at byte {self.at}")
        self.at += 1
        return name

    def value(self, longest: int) -> Any:
        """Read a value whole.

        Args:
            longest: Allowed number of bytes.

        Returns:
            The value.

        Raises:
            TooLongError: If it is longer.
            ValueError: If it is not valid.
        """
        self._space()
        most = longest + 1  # of a number one cannot tell otherwise whether it goes on
        size = min(_FIRST, most)
        while True:
            last = self.at + size >= len(self.text)
            try:
                piece, _ = codecs.utf_8_decode(self.text[self.at : self.at + size], "strict", last)
                value, end = _DECODER.raw_decode(piece)
                length = len(piece[:end].encode())
                if last or length < size:
                    self.at += length
                    return value
            except (ValueError, RecursionError) as error:
                fault: Exception = error
            else:
                fault = TooLongError(f"a value of more than {longest} bytes at byte {self.at}")
            if last or size == most:
                break
            size = min(size << 5, most)
        if isinstance(fault, RecursionError):
            raise ValueError(f"nested too deep at byte {self.at}") from fault
        if not last:
            raise TooLongError(f"a value of more than {longest} bytes at byte {self.at}") from fault
        raise fault

    def string(self, longest: int) -> str:
        """Read a text; any other value is not even parsed.

        Args:
            longest: Allowed number of bytes.

        Returns:
            The text.

        Raises:
            TooLongError: If it is longer.
            OtherKindError: If there is another value.
        """
        self._space()
        if self._next() != b'"':
            raise OtherKindError(f"expected a text at byte {self.at}")
        found: str = self.value(max(0, longest))
        return found

    def more(self) -> bool:
        """Pass what follows a member: a comma, or the end of the object.

        Returns:
            Whether another member follows.

        Raises:
            ValueError: If it is neither.
        """
        self._space()
        found = self._next()
        if found not in (b",", b"}"):
            raise ValueError(f"expected a comma or the end of the object at byte {self.at}")
        self.at += 1
        return found == b","

    def end(self) -> None:
        """Check that nothing follows.

        Raises:
            ValueError: If something does.
        """
        self._space()
        if self.at != len(self.text):
            raise ValueError(f"something follows the object at byte {self.at}")

    def _space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def _next(self) -> bytes:
        return self.text[self.at : self.at + 1]
