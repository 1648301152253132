"""Commands in a pseudo-terminal, and what is on its screen when they have ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import pyte
import pytest

_LINES = 300  # of the screen, so that nothing leaves it
_COLOURS = {"red": "red", "green": "green", "brown": "yellow", "magenta": "dim"}
# What differs between runs, processors and installations.
_VARIES = re.compile(r"\d+\.\d+e[+-]\d\d|\d+\.\d s\b")


@dataclass(frozen=True)
class Shown:
    """What a command has shown.

    Attributes:
        code: Its exit code.
        raw: Everything that it wrote, escape sequences included.
        screen: The lines that are on the screen in the end, with colours as ``[red]text[/]``.
    """

    code: int
    raw: str
    screen: tuple[str, ...]

    @property
    def plain(self) -> tuple[str, ...]:
        """The lines without colours."""
        return tuple(re.sub(r"\[(red|green|yellow|dim|/)\]", "", line) for line in self.screen)


def in_terminal(
    command: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
    **environment: str,
) -> Shown:
    """Run a command of this process on a pseudo-terminal.

    Args:
        command: Writes to the standard streams; it may raise ``SystemExit``.
        monkeypatch: What changes them.
        columns: The width of the terminal.
        environment: Variables; ``NO_COLOR`` and the like are unset otherwise.

    Returns:
        What was shown.
    """
    with monkeypatch.context() as patch, _terminal(columns) as (terminal, output):
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
            patch.delenv(name, raising=False)
        for name, value in {"TERM": "xterm-256color", **environment}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", terminal)
        code = 0
        try:
            command()
        except SystemExit as end:
            code = int(end.code or 0)
        terminal.flush()
    raw = b"".join(output)
    return Shown(code, raw.decode(), screen(raw, columns))


@contextlib.contextmanager
def _terminal(columns: int) -> Iterator[tuple[TextIO, list[bytes]]]:
    """A stream that is a terminal, and what arrives on its other side."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, columns, 0, 0))
    output: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the other side is closed
            while piece := os.read(reader, 1 << 16):
                output.append(piece)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        with os.fdopen(writer, "w", encoding="utf-8") as terminal:
            yield terminal, output
    finally:
        thread.join()
        os.close(reader)


def screen(raw: bytes, columns: int) -> tuple[str, ...]:
    """Draw what a terminal of a width would show.

    Args:
        raw: What was written to it.
        columns: Its width.

    Returns:
        The lines with colours marked, up to the last that is not empty.
    """
    shown = pyte.Screen(columns, _LINES)
    # pyte does not know dim text, which nothing here shows in magenta.
    pyte.ByteStream(shown).feed(raw.replace(b"\x1b[2m", b"\x1b[35m"))
    lines = [_marked([shown.buffer[y][x] for x in range(columns)]) for y in range(_LINES)]
    while lines and not lines[-1]:
        lines.pop()
    return tuple(lines)


def _marked(characters: list[Any]) -> str:
    text, before = "", ""
    for character in characters:
        colour = _COLOURS.get(character.fg, "")
        if colour != before:
            text += ("[/]" if before else "") + (f"[{colour}]" if colour else "")
        text, before = text + character.data, colour
    return (text + ("[/]" if before else "")).rstrip()


def normal(lines: tuple[str, ...]) -> str:
    """Make what was shown comparable with a recording.

    Args:
        lines: The lines.

    Returns:
        The text, with ``#`` for each digit of a number that varies.
    """
    text = "\n".join(lines) + "\n"
    return _VARIES.sub(lambda found: re.sub(r"\d", "#", found[0]), text)
