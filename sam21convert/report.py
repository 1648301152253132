"""What every answer of this package is: plain data that prints, and that a machine can read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

_NAMED = 3  # of the files that are only counted
_CHARACTERS = 60  # of a value in a message
_SHORT_LIST, _SHOWN = 8, 50  # of a list in a notebook: what is not folded, and what is shown


def head(schema: str, exit_code: int) -> dict[str, Any]:
    """What every answer of a command in JSON begins with, errors included.

    Args:
        schema: The name and version of its fields, such as ``inspect/1``.
        exit_code: That of the command.

    Returns:
        ``schema``, ``ok`` and ``exit_code``.
    """
    return {"schema": f"sam21convert/{schema}", "ok": exit_code == 0, "exit_code": exit_code}


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    Args:
        count: The number.
        noun: The noun in the singular.

    Returns:
        Such as ``1 pixel`` or ``1,024 pixels``.
    """
    return f"{count:,} {noun if count == 1 else noun + 's'}"


Tone: TypeAlias = Literal["good", "bad", "note", "dim"]
# Labels that mean the same wherever they stand.
_LABELS: Mapping[str, Tone] = {
    **dict.fromkeys(("error", "problem", "dangerous", "failed", "unread"), "bad"),
    **dict.fromkeys(("hint", "note", "warning", "unknown", "left out", "not scanned"), "note"),
    **dict.fromkeys(("known difference", "not run", "what to do"), "note"),
}


_REMARKS = ("note", "warning")


class Toned(str):
    """A text of a report that says something good or bad, for a terminal that has colours.

    Args:
        text: The text.
        tone: What it says.
    """

    tone: Tone

    def __new__(cls, text: str, tone: Tone) -> Toned:
        """Make a text of which ``str`` is all that others see."""
        made = super().__new__(cls, text)
        made.tone = tone
        return made


def label(text: str) -> str:
    """Make the label of a line.

    Args:
        text: The label, such as ``note``.

    Returns:
        The label, with its tone if it has one.
    """
    return Toned(text, _LABELS[text]) if text in _LABELS else text


@dataclass(frozen=True)
class Line:
    """A line of a report.

    Attributes:
        pieces: What it consists of; line breaks and control characters are escaped.
        hang: The column at which it goes on in the next line of a narrow terminal.
    """

    pieces: tuple[str, ...]
    hang: int = 2

    def __str__(self) -> str:
        return "".join(map(one_line, self.pieces))


def labelled(name: str, text: str, indent: int = 0) -> Line:
    """A line such as ``note: text``.

    Args:
        name: The label.
        text: The text.
        indent: The number of spaces before the label.

    Returns:
        The line, which goes on below the text.
    """
    pieces = (" " * indent, label(name), ": ", text)
    return Line(pieces, indent + len(name) + 2)


@dataclass(frozen=True)
class Table:
    """Rows of cells, in columns that are as wide as the widest cell.

    Attributes:
        rows: The cells of each row, in which line breaks and control characters are escaped; a
            line among the rows belongs to the row above it.
        gives: The column that a narrow terminal makes narrower.
        right: The columns of numbers, which stand on the right.
        cut: Whether a cell that is too long loses its beginning instead of going on below.
    """

    rows: tuple[tuple[str, ...] | Line, ...]
    gives: int = -1
    right: tuple[int, ...] = ()
    cut: bool = False

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        rows = [row for row in self.rows if isinstance(row, tuple)]
        columns = range(max(map(len, rows), default=0))
        widths = [max(len(one_line(row[at])) for row in rows if at < len(row)) for at in columns]
        for row in self.rows:
            if isinstance(row, Line):
                yield str(row)
                continue
            cells = [*map(one_line, row)]
            while cells and not cells[-1]:
                cells.pop()
            padded = [
                cell.rjust(width) if at in self.right else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(cells[:-1], widths, strict=False))
            ]
            last = len(padded)
            right = last in self.right
            yield "  ".join(
                [*padded, *(cell.rjust(widths[last]) if right else cell for cell in cells[-1:])]
            )


def heading(names: Iterable[str]) -> tuple[str, ...]:
    """Make the first row of a table.

    Args:
        names: What the columns hold.

    Returns:
        The cells.
    """
    return tuple(Toned(name, "dim") for name in names)


Part: TypeAlias = Line | Table
BLANK = Line(())


def without_remarks(parts: Iterable[Part]) -> list[Part]:
    """Leave out notes and warnings, for who asked for the answer alone.

    Args:
        parts: The parts of a report.

    Returns:
        The others; a table without its rows of notes and what stands below them.
    """
    found: list[Part] = []
    for part in parts:
        if isinstance(part, Table):
            rows = tuple(_answering(part.rows))
            found += [replace(part, rows=rows)] if rows else []
        elif not _is_remark(part):
            found.append(part)
    return found


def _answering(
    rows: Iterable[tuple[str, ...] | Line],
) -> Iterator[tuple[str, ...] | Line]:
    left_out = False
    for row in rows:
        goes_on = isinstance(row, tuple) and bool(row) and not row[0]
        left_out = left_out if goes_on else _is_remark(row)
        if not left_out:
            yield row


def _is_remark(row: tuple[str, ...] | Line) -> bool:
    """Whether a row has the label of a note; a file may have such a name, but has no tone."""
    pieces = row.pieces if isinstance(row, Line) else row[:1]
    first = next(filter(str.strip, pieces), "")
    return isinstance(first, Toned) and first in _REMARKS


class Report:
    """Base of the report dataclasses.

    ``str()`` and ``repr()`` are for people, :meth:`to_dict` and :meth:`to_json` for machines. A
    notebook shows tables.
    """

    _schema: ClassVar[str] = ""

    def __init_subclass__(cls, schema: str = "") -> None:
        cls._schema = schema or cls._schema
        # A dataclass keeps a __repr__ that its class has: all fields of a report fill pages.
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Report.__repr__  # type: ignore[method-assign]

    def __str__(self) -> str:
        return "\n".join(map(str, self.shown()))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the fields in a table, long lists folded."""
        return _html_table(self.to_dict())

    @property
    def exit_code(self) -> int:
        """0 when the answer is yes, 1 when it is no."""
        return 0

    @property
    def ok(self) -> bool:
        """Whether the answer is yes: the ``ok`` of the JSON."""
        return self.exit_code == 0

    @property
    def schema(self) -> str:
        """The name and version of what :meth:`to_json` gives, such as ``inspect/1``."""
        return self._schema

    def shown(self) -> Sequence[Part]:
        """What people see, in the parts that a terminal colours and fits to its width.

        A report defines this or ``__str__``.

        Returns:
            The parts; ``str()`` is their lines.
        """
        return [Line((text,)) for text in str(self).split("\n")]

    def alerts(self) -> tuple[str, ...]:
        """What a command prints as a warning on standard error, besides the report.

        Returns:
            A line for each warning.
        """
        return ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data.

        Returns:
            A dict of what JSON can hold, with paths as text.
        """
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]

    def to_json(self) -> str:
        """The same as JSON.

        Returns:
            Indented text.
        """
        return json.dumps(self.to_answer(), indent=2)

    def to_answer(self) -> dict[str, Any]:
        """The fields as plain data, after what every answer of a command has.

        Returns:
            The schema, whether the answer is yes, the exit code, and the fields, with None for each
            number that is not finite.
        """
        return {**head(self.schema, self.exit_code), **plain(self.to_dict())}


def json_lines(reports: Iterable[Report]) -> str:
    """Write reports as JSON, one object a line.

    Args:
        reports: The reports.

    Returns:
        The lines.
    """
    return "\n".join(json.dumps(one.to_answer()) for one in reports)


class Progress:
    """What long work tells of itself while it goes on. This one shows nothing; subclasses do.

    Methods may be called from any thread.

    Example:
        >>> class Dots(sam21convert.Progress):
        ...     def start(self, label, total):
        ...         print(label)
        >>> done = sam21convert.convert("model.pt", "copy.safetensors", progress=Dots())
        converting
    """

    def start(self, label: str, total: int) -> None:
        """Begin a stage.

        Args:
            label: What is done, such as "converting".
            total: How much there is to do: bytes, frames or steps. 0 where it is not known.
        """

    def advance(self, count: int, doing: str = "") -> None:
        """Report what was done since the last call.

        Args:
            count: How much of the total; it may be 0.
            doing: What begins now, by name, where stages have named steps.
        """

    def tell(self, text: str) -> None:
        """Say how far the stage is, where numbers alone do not.

        Args:
            text: A few words, in place of those told before.
        """


SILENT = Progress()


def plain(value: Any) -> Any:
    """A value as JSON can hold it.

    Args:
        value: The value.

    Returns:
        It with paths as text, tuples as lists, and None for each number that is not finite, at any
        depth.
    """
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def _html_table(facts: Mapping[str, Any]) -> str:
    """Names and values in two columns, the first ``_SHOWN`` of them."""
    shown = list(facts.items())[:_SHOWN]
    rows = [f"<tr><th>{_escaped(name)}</th><td>{_html(value)}</td></tr>" for name, value in shown]
    return f"<table>{''.join(rows)}</table>{_more(len(facts))}"


def _html(value: Any) -> str:
    """A value as HTML: text as it is, few values in a line, many values and tables folded."""
    if isinstance(value, dict):
        return _folded(len(value), _html_table(value)) if value else ""
    if not isinstance(value, list):
        return "" if value is None else _escaped(str(value))
    if not any(isinstance(item, (dict, list)) for item in value):
        line = _escaped(", ".join(map(str, value)))
        return line if len(value) <= _SHORT_LIST else _folded(len(value), line)
    shown = "".join(f"<li>{_html(item)}</li>" for item in value[:_SHOWN])
    return _folded(len(value), f"<ol>{shown}</ol>{_more(len(value))}")


def _escaped(text: str) -> str:
    from html import escape  # a table of all characters, for notebooks alone

    return escape(text)


def _more(count: int) -> str:
    return f"<p>and {count - _SHOWN:,} more</p>" if count > _SHOWN else ""


def _folded(count: int, inside: str) -> str:
    return f"<details><summary>{count:,}</summary>{inside}</details>"


def size_text(nbytes: int) -> str:
    """A number of bytes for people, in decimal units, as file managers give it.

    Args:
        nbytes: The number.

    Returns:
        Text such as ``"155.9 MB"``.
    """
    size = float(nbytes)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def share(value: float | None) -> str:
    """An IoU as text.

    Args:
        value: The IoU; None for none.

    Returns:
        Four digits, ``1`` only for exactly 1 and ``0`` only for exactly 0; empty for None.
    """
    if value is None:
        return ""
    return f"{value:g}" if value in (0, 1) else f"{min(value, 0.9999):.4f}"


def one_line(text: str) -> str:
    """Escape line breaks and every other character that a terminal might interpret.

    Names of files and tensors come from untrusted input. In a report they must not begin a line of
    their own, move the cursor or change a colour.

    Args:
        text: Any text, usually a name.

    Returns:
        ``text`` with all unprintable characters as backslash escapes.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def short_json(value: Any) -> str:
    """A value of a JSON file as a message shows it: in one line, and not at any length.

    Args:
        value: What ``json.dumps`` takes.

    Returns:
        At most its first 60 characters.
    """
    text = one_line(json.dumps(value))
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}..."


def table(rows: Sequence[tuple[str, str | tuple[str, ...]]]) -> Table:
    """Text in two columns.

    Args:
        rows: Label and text of each row. A text of several lines is a tuple of them.

    Returns:
        A table whose second column gives way.
    """
    found: list[tuple[str, str]] = []
    for name, text in rows:
        first, *others = (text,) if isinstance(text, str) else text
        found += [(label(name), first), *(("", other) for other in others)]
    return Table(tuple(found))


def not_checkpoints(names: Sequence[str]) -> str:
    """Count files that are no checkpoints, and name the first of them.

    Args:
        names: Their names, at least one.

    Returns:
        A line.
    """
    files = counted(len(names), "file")
    more = ", ..." if len(names) > _NAMED else ""
    return f"no checkpoints: {files}: {', '.join(map(one_line, names[:_NAMED]))}{more}"
