"""Everything that can go wrong, as one tree.

::

    Sam21ConvertError          exit code 3
    ├── UnreadableError        exit code 3   the bytes are not what they should be
    │   └── UnreachableError   exit code 3   a file that lies elsewhere cannot be had
    ├── RefusedError           exit code 3   readable, but not something this tool takes
    ├── MismatchError          exit code 1   the answer is no: it does not fit, it differs
    └── UsageError             exit code 2   the request itself cannot be met

An error says what was expected and what was found; its ``hint`` says what to do next.
"""

from __future__ import annotations

from typing import ClassVar


def printable(text: str) -> str:
    """``text`` with all that could move a cursor, or not be printed, escaped; lines stay lines."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class Sam21ConvertError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class UnreadableError(Sam21ConvertError):
    """A file is missing, cut short, corrupt, or not in the format it claims to be in."""


class UnreachableError(UnreadableError):
    """A file is on the Hub and cannot be had. The message names the file; nobody adds to it."""


class RefusedError(Sam21ConvertError):
    """A file is intact but is not a SAM 2 checkpoint, or cannot be taken as it is."""


class MismatchError(Sam21ConvertError):
    """A checkpoint does not fit a config or dialect, or things that should be equal differ."""

    exit_code = 1


class UsageError(Sam21ConvertError):
    """The request cannot be met: the output exists, an option contradicts another."""

    exit_code = 2
