"""All errors that this package raises on purpose, as one class tree.

::

    Sam21ConvertError          exit code 3
    ├── UnreadableError        exit code 3   the file is missing, cut short or corrupt
    │   ├── MissingFileError   exit code 3   nothing has this name; also a FileNotFoundError
    │   └── UnreachableError   exit code 3   a remote file cannot be downloaded
    ├── RefusedError           exit code 3   the file is intact, but not supported
    ├── MismatchError          exit code 1   two things that should agree do not
    └── UsageError             exit code 2   the request itself cannot be met
        ├── SeveralCheckpointsError exit code 2  one checkpoint was expected, and there are several
        └── MissingPackageError exit code 2  a package is not installed; also a
                                             ModuleNotFoundError

The message says what was expected and what was found; ``hint`` says what to do next.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar


def printable(text: str) -> str:
    """Escape every character that a terminal might interpret instead of showing it.

    Names of tensors and files come from untrusted input, and must not move a cursor or change a
    colour when they are printed.

    Args:
        text: Any text. Its line breaks are kept.

    Returns:
        ``text`` with all other unprintable characters as backslash escapes.
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def call_of(function: str, path: object, *arguments: str) -> str:
    """Name a call of this package in a hint; the command line prints it as a command.

    Args:
        function: The function, which has the name of its command.
        path: The file or folder to call it with.
        *arguments: Further arguments, such as ``dtype=float32``, with what a shell would split in
            quotes.

    Returns:
        Such as ```convert(model.pt, OUT, dtype=float32)```, with the backticks.
    """
    given = [shlex.quote(str(path)), *(["OUT"] if function == "convert" else []), *arguments]
    return f"`{function}({', '.join(given)})`"


def nearest(word: str, names: Iterable[str]) -> list[str]:
    """Find the names that someone may have meant.

    Args:
        word: What was written.
        names: The names that there are.

    Returns:
        At most three names, the nearest first, whatever their case; those that hold ``word`` if
        none is spelt like it.
    """
    from difflib import get_close_matches

    folded = {name.casefold(): name for name in names}
    word = word.casefold()
    close = get_close_matches(word, folded)
    holding = [name for name in folded if len(word) > 2 and word in name]
    return [folded[name] for name in (close or holding[:3])]


def did_you_mean(near: Sequence[str], otherwise: str | None = None) -> str | None:
    """Make the hint for a name that does not exist.

    Args:
        near: The names that may be meant, such as :func:`nearest` finds.
        otherwise: The hint if there are none.

    Returns:
        The hint, with what a shell would split in quotes.
    """
    return f"did you mean {' or '.join(map(shlex.quote, near))}?" if near else otherwise


class Sam21ConvertError(Exception):
    """Base class of every error that this package raises on purpose.

    Args:
        message: What was expected and what was found, beginning with the file or the argument.
        hint: What to do next, or None.

    Example:
        >>> try:
        ...     sam21convert.inspect("picture.jpg")
        ... except sam21convert.Sam21ConvertError as error:
        ...     print(error.exit_code)
        3
    """

    exit_code: ClassVar[int] = 3  # of the command that ends with this error

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class UnreadableError(Sam21ConvertError):
    """A file is missing, cut short, corrupt, or not in the format it claims to be in.

    Example:
        >>> _ = open("empty.pt", "w").close()
        >>> try:
        ...     sam21convert.inspect("empty.pt")
        ... except sam21convert.UnreadableError as error:
        ...     print(error.message)
        empty.pt: is empty
    """


class MissingFileError(UnreadableError, FileNotFoundError):
    """There is no such file, folder, config or published checkpoint.

    Code that catches ``FileNotFoundError`` catches this as well.

    Args:
        message: What was expected and what was found.
        hint: What to do next, or None.

    Example:
        >>> try:
        ...     sam21convert.inspect("gone.pt")
        ... except FileNotFoundError as error:
        ...     print(type(error).__name__)
        MissingFileError
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.errno, self.strerror = errno.ENOENT, os.strerror(errno.ENOENT)


def unreadable(path: str | Path, error: OSError) -> UnreadableError:
    """Make the error for a file that cannot be read.

    Args:
        path: The file, as the user gave it.
        error: The error of the operating system; or one that says what the file is, for a kind
            of file that is not read.

    Returns:
        The error to raise: a :class:`MissingFileError` if there is no such file, otherwise an
        :class:`UnreadableError`.
    """
    missing = isinstance(error, FileNotFoundError)
    return (MissingFileError if missing else UnreadableError)(
        f"{path}: {error.strerror or f'is {error}'}"
    )


class UnreachableError(UnreadableError):
    """A remote file cannot be downloaded. The message names the file and is passed on as it is."""


class RefusedError(Sam21ConvertError):
    """A file is intact, but it is not a SAM 2 checkpoint or uses an unsupported format.

    Example:
        >>> try:
        ...     sam21convert.inspect("picture.jpg")
        ... except sam21convert.RefusedError as error:
        ...     print("refused")
        refused
    """


class MismatchError(Sam21ConvertError):
    """A checkpoint does not fit its config or dialect, or things that should be equal differ.

    Example:
        >>> try:
        ...     sam21convert.convert("model.pt", "out.pt", config="sam2.1/sam2.1_hiera_l")
        ... except sam21convert.MismatchError as error:
        ...     print(error.exit_code)
        1
    """

    exit_code = 1


class UsageError(Sam21ConvertError):
    """The request cannot be met: an output exists already, or two options contradict each other.

    Example:
        >>> try:
        ...     sam21convert.convert("model.pt", "out.onnx")
        ... except sam21convert.UsageError as error:
        ...     print(error.exit_code)
        2
    """

    exit_code = 2


class SeveralCheckpointsError(UsageError):
    """A repository or folder holds several checkpoints, where one was expected.

    Args:
        message: What was expected and what was found.
        hint: What to do next.
        sources: What to give in order to read each of them.
    """

    def __init__(self, message: str, *, hint: str | None = None, sources: Sequence[str]) -> None:
        super().__init__(message, hint=hint)
        self.sources = tuple(sources)


class MissingPackageError(UsageError, ModuleNotFoundError):
    """What was asked for needs a package that is not installed; the hint is the command for it.

    Code that catches ``ImportError`` catches this as well.

    Example:
        >>> try:
        ...     _ = sam21convert.load_model("model.pt")
        ... except sam21convert.MissingPackageError as error:  # torch is not installed
        ...     print(error.hint)
    """


def shortage(error: BaseException, what: str = "") -> RefusedError | None:
    """Make the error for a lack of memory, which Python and torch report in their own ways.

    Args:
        error: The error.
        what: What did not fit; empty if that is not known.

    Returns:
        The error to raise; None if it is about something else.
    """
    text = printable(str(error)).replace("\n", "\\n")
    torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in text
    if not torch and not isinstance(error, MemoryError):
        return None
    return RefusedError(": ".join(filter(None, (what, "not enough memory", text))))
