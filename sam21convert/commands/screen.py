"""Printing the parts of an answer: in colour and fitted to a terminal, plain anywhere else.

rich is imported only when there is something to colour or to fit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from ..report import Line, Part, labelled
from .ending import say

_COLUMNS = 80  # of a terminal that does not tell


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether people watch a stream.

    Args:
        stream: A standard stream; None if it is closed.

    Returns:
        True for a terminal.
    """
    return stream is not None and stream.isatty()


def has_colours(stream: TextIO | None) -> bool:
    """Tell whether to write colours to a stream.

    Args:
        stream: A standard stream; None if it is closed.

    Returns:
        True for a terminal that has them, unless ``NO_COLOR`` is set, and with ``FORCE_COLOR``.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream) and os.environ.get("TERM") not in ("dumb", "unknown")


def columns_of(stream: TextIO | None) -> int | None:
    """Measure the width that texts are fitted to.

    Args:
        stream: A standard stream; None if it is closed.

    Returns:
        The number of columns; None where nothing is fitted, because programs read it.
    """
    if stream is None or not is_terminal(stream):
        return None
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except (OSError, ValueError):  # a stream of a test, without a file
        return _COLUMNS


def show(parts: Sequence[Part], words: Callable[[str], str] = str, *, err: bool = False) -> None:
    """Print the parts of an answer.

    Args:
        parts: The parts.
        words: What is made of each text.
        err: Whether to print to standard error.
    """
    say(text_of(parts, words, err=err), err=err)


def text_of(parts: Sequence[Part], words: Callable[[str], str] = str, *, err: bool = False) -> str:
    """Make the text of an answer, for the stream to which it is printed.

    Args:
        parts: The parts.
        words: What is made of each text.
        err: Whether it is printed to standard error.

    Returns:
        The lines.
    """
    stream = sys.stderr if err else sys.stdout
    width, colours = columns_of(stream), has_colours(stream)
    if width is None and not colours:
        return words("\n".join(map(str, parts)))
    from .drawing import drawn

    return drawn(parts, width, colours=colours, words=words)


def failure(message: str, hint: str | None) -> list[Line]:
    """Make the lines of an error.

    Args:
        message: What is wrong; a report of differences has several lines.
        hint: What to do about it.

    Returns:
        The lines.
    """
    first, *others = message.split("\n")
    lines = [labelled("error", first), *(Line((other,), hang=4) for other in others)]
    return [*lines, *([] if hint is None else [labelled("hint", hint)])]
