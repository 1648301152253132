"""The parts of an answer as a terminal shows them, with rich."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ..report import Line, Part, Table, Tone, Toned, one_line

_STYLES: dict[Tone, str] = {"good": "green", "bad": "red", "note": "yellow", "dim": "dim"}
# What a column keeps that is made narrower, of the terminal or of itself; or a row goes on below.
_LEAST, _LEAST_OF_ITSELF = 0.3, 0.5
_LEAST_CUT = 16  # columns of what loses its beginning
_NARROWEST = 20  # columns; a narrower terminal wraps by itself
_GAP = "  "
_ANY = 1 << 20  # columns of what is not wrapped

_CUT = "..."
_WORD = re.compile(r"\S+")
_SEAM = re.compile(r"[./_,:}-]")

_Words: TypeAlias = Callable[[str], str]


def drawn(parts: Sequence[Part], width: int | None, *, colours: bool, words: _Words) -> str:
    """Draw the parts of an answer.

    Args:
        parts: The parts.
        width: The columns of the terminal; None to leave lines as long as they are.
        colours: Whether to colour what has a tone.
        words: What is made of each text.

    Returns:
        The lines, with escape sequences if there are colours.
    """
    console = Console(
        width=_ANY,
        color_system="standard" if colours else None,
        force_terminal=colours,
        no_color=not colours,
        highlight=False,
        legacy_windows=False,
    )
    drawing = _Drawing(console, max(width or _ANY, _NARROWEST), words)
    with console.capture() as captured:
        for part in parts:
            for line in drawing.table(part) if isinstance(part, Table) else drawing.line(part):
                line.rstrip()
                console.print(line, soft_wrap=True)
    return captured.get().removesuffix("\n")


def _breaks(text: str, width: int) -> list[int]:
    """Where a text goes on in the next line.

    It does between words; and within a word that is wider than a line, after a dot or the like.
    """
    breaks, start = [], 0
    for word in _WORD.finditer(text):
        if cell_len(text[start : word.end()]) <= width:
            continue
        if word.start() > start:
            start = word.start()
            breaks.append(start)
        while cell_len(text[start : word.end()]) > width:
            end = start + 1
            while cell_len(text[start : end + 1]) <= width:
                end += 1
            seams = [seam.end() for seam in _SEAM.finditer(text, start + 1, end)]
            start = seams[-1] if seams else end
            breaks.append(start)
    return breaks


def _cut(cell: Text, width: int) -> Text:
    """The end of a cell that is too wide: a tensor is told from others by the end of its name."""
    if cell.cell_len <= width:
        return cell
    end = cell[len(cell) - width + len(_CUT) :]
    while cell_len(_CUT) + end.cell_len > width:
        end = end[1:]
    return Text.assemble(_CUT, end)


class _Drawing:
    """What the parts become on a terminal of a width."""

    def __init__(self, console: Console, width: int, words: _Words) -> None:
        self.console, self.width, self.words = console, width, words

    def text(self, piece: str) -> Text:
        """A piece or a cell, escaped before it is looked at any closer."""
        style = _STYLES[piece.tone] if isinstance(piece, Toned) else ""
        return Text(self.words(one_line(piece)), style)

    def hanging(self, text: Text, width: int, hang: int) -> list[Text]:
        """A text in lines, of which all but the first are indented."""
        if text.cell_len <= width:
            return [text]
        hang = min(hang, width // 2)
        start, rest = text[:hang], text[hang:]
        first, *others = rest.divide(_breaks(rest.plain, width - hang))
        for line in (first, *others):
            line.rstrip()
        return [start + first, *(Text(" " * hang) + other for other in others)]

    def line(self, line: Line) -> list[Text]:
        text = Text.assemble(*map(self.text, line.pieces))
        return self.hanging(text, self.width, line.hang)

    def table(self, table: Table) -> Iterator[Text]:
        rows = [row if isinstance(row, Line) else [*map(self.text, row)] for row in table.rows]
        widths = self.widths([row for row in rows if not isinstance(row, Line)])
        first, gives = widths[0], table.gives % len(widths)
        room = self.width - sum(widths) - len(_GAP) * (len(widths) - 1)
        least = min(_LEAST * self.width, _LEAST_OF_ITSELF * widths[gives])
        if table.cut:
            least = min(least, _LEAST_CUT)
        fits = room >= 0 or widths[gives] + room >= least
        widths[gives] += min(room, 0)
        if table.cut and fits:
            for row in rows:
                if not isinstance(row, Line):
                    row[gives] = _cut(row[gives], widths[gives])
        for row in rows:
            if isinstance(row, Line):
                yield from self.line(row)
            elif fits:
                yield from self.aligned(row, widths, table.right)
            else:
                yield from self.flowing(row, first)

    def widths(self, rows: Sequence[Sequence[Text]]) -> list[int]:
        columns = max(map(len, rows))
        return [max(row[at].cell_len for row in rows if at < len(row)) for at in range(columns)]

    def aligned(
        self, row: Sequence[Text], widths: Sequence[int], right: Sequence[int]
    ) -> Iterator[Text]:
        """A row in columns; a cell that is wider than its column is wrapped within it."""
        cells = [
            self.hanging(cell, width, 0 if at else 2)
            for at, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        for below in range(max(map(len, cells))):
            line, end = Text(), 0
            for at, lines in enumerate(cells):
                cell = lines[below] if below < len(lines) else Text()
                pad = widths[at] - cell.cell_len if at in right else 0
                if cell:
                    line.append(" " * (end - line.cell_len + pad)).append_text(cell)
                end += widths[at] + len(_GAP)
            yield line

    def flowing(self, row: Sequence[Text], first: int) -> Iterator[Text]:
        """A row whose cells follow each other, and go on below the second."""
        hang = first + len(_GAP)
        if hang > self.width // 2:
            hang = 2 * len(_GAP)
        *lines, line = self.hanging(row[0], self.width, hang)
        for cell in filter(None, row[1:]):
            start = max(line.cell_len + len(_GAP), hang)
            if start > hang and start + cell.cell_len > self.width:
                lines.append(line)
                line, start = Text(), hang
            here, *below = self.hanging(cell, self.width - start, 0)
            line = Text.assemble(line, " " * (start - line.cell_len), here)
            for one in below:
                lines.append(line)
                line = Text.assemble(" " * hang, one)
        yield from (*lines, line)
