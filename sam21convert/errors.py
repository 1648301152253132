"""Everything that can go wrong, as one tree.

::

    Sam21ConvertError          exit code 3
    ├── UnreadableError        exit code 3   the bytes are not what they should be
    │   ├── MissingFileError   exit code 3   there is no such file; a FileNotFoundError too
    │   └── UnreachableError   exit code 3   a file that lies elsewhere cannot be had
    ├── RefusedError           exit code 3   readable, but not something this tool takes
    ├── MismatchError          exit code 1   the answer is no: it does not fit, it differs
    └── UsageError             exit code 2   the request itself cannot be met
        └── MissingSourceError exit code 2   no file, folder or published name of that
                                             spelling; a FileNotFoundError too

An error says what was expected and what was found; its ``hint`` says what to do next.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
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


class MissingFileError(UnreadableError, FileNotFoundError):
    """There is no such file. Code that catches FileNotFoundError catches this as well."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.errno, self.strerror = errno.ENOENT, os.strerror(errno.ENOENT)


def unreadable(path: Path, error: OSError) -> UnreadableError:
    """The error for a file that the system does not let us read.

    Args:
        path: The file, as the user knows it.
        error: What the system said.

    Returns:
        An error to raise: a :class:`MissingFileError` where there is no such file.
    """
    missing = isinstance(error, FileNotFoundError)
    return (MissingFileError if missing else UnreadableError)(f"{path}: {error.strerror}")


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


class MissingSourceError(UsageError, FileNotFoundError):
    """What was given for a checkpoint is no file, no folder and no published name."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.errno, self.strerror = errno.ENOENT, os.strerror(errno.ENOENT)
