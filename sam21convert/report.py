"""What every answer of this package is: plain data that prints, and that a machine can read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias


class Report:
    """Base of the report dataclasses. ``str()`` is for people, ``to_dict()`` for machines."""

    @property
    def exit_code(self) -> int:
        """0 when the answer is yes, 1 when it is no."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """The fields, with paths as text."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]

    def to_json(self) -> str:
        """The same as JSON text."""
        return json.dumps(self.to_dict(), indent=2)


class Progress:
    """What long work tells of itself while it goes on. This one shows nothing; subclasses do.

    Methods may be called from any thread.
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


SILENT = Progress()


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def size_text(nbytes: int) -> str:
    """A number of bytes in decimal units, as file managers give it."""
    size = float(nbytes)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def table(rows: list[tuple[str, str]]) -> str:
    """Two columns, the first as wide as its longest entry; later lines are indented."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(
        f"{label:<{width}}  " + text.replace("\n", "\n" + " " * (width + 2)) for label, text in rows
    )


_Pattern: TypeAlias = tuple[tuple[str, ...], ...]  # the choices at each position


def fold(names: Iterable[str]) -> list[str]:
    """Names with their numbers drawn together, for printing.

    ``blocks.0.norm1.weight`` ... ``blocks.11.norm2.bias`` become
    ``blocks.{0...11}.norm{1,2}.{bias,weight}``. Only names that together fill the whole product of
    the braces are drawn together, so that the folded form never says more than the list did.
    """
    patterns: list[_Pattern] = [
        tuple((piece,) for piece in _pieces(name)) for name in dict.fromkeys(names)
    ]
    for position in reversed(range(max(map(len, patterns), default=0))):
        patterns = _merge(patterns, position)
    return ["".join(map(_brace, pattern)) for pattern in patterns]


def _pieces(name: str) -> list[str]:
    """Cut a name into text, number, text, ... and its last segment."""
    stem, dot, last = name.rpartition(".")
    return [*re.split(r"(\d+)", stem + dot), *re.split(r"(\d+)", last)]


def _merge(patterns: list[_Pattern], position: int) -> list[_Pattern]:
    """Join the patterns that are alike but for a number or last segment at ``position``."""
    choices: dict[tuple[_Pattern, _Pattern | None], list[str]] = {}
    for pattern in patterns:
        last = position == len(pattern) - 1
        if position < len(pattern) and (last or all(map(str.isdecimal, pattern[position]))):
            alike = (pattern[:position], pattern[position + 1 :])
            choices.setdefault(alike, []).extend(pattern[position])
        else:
            choices[pattern, None] = []
    return [
        before if after is None else (*before, tuple(found), *after)
        for (before, after), found in choices.items()
    ]


def _brace(choices: tuple[str, ...]) -> str:
    if len(choices) == 1:
        return choices[0]
    if all(map(str.isdecimal, choices)):
        numbers = sorted(map(int, choices))
        if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"{{{numbers[0]}...{numbers[-1]}}}"
        return f"{{{','.join(map(str, numbers))}}}"
    return f"{{{','.join(sorted(choices))}}}"
