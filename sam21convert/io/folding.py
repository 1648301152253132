"""Many names of tensors in few words: ``blocks.{0-11}.norm{1,2}.{bias,weight}``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

from ..report import one_line

_Pattern: TypeAlias = tuple[tuple[str, ...], ...]  # the choices at each position


def braced(numbers: Iterable[int]) -> str:
    """Write numbers as ``{0-2,5,6}``; a single one as it is.

    Args:
        numbers: The numbers, in any order.

    Returns:
        The text, in which three that follow each other, or more, are a range.
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [f"{run[0]}-{run[-1]}" if run[2:] else ",".join(map(str, run)) for run in runs]
    text = ",".join(parts)
    return text if text.isdecimal() else f"{{{text}}}"


def few(names: Iterable[str], most: int = 4) -> str:
    """Name some of many tensors, folded: the first of them and the last.

    Args:
        names: Their names.
        most: How many groups are named.

    Returns:
        Text such as ``a.{bias,weight}, b.weight ... z.weight``.
    """
    groups = fold(names)
    if len(groups) <= most:
        return ", ".join(groups)
    return f"{', '.join(groups[: most - 1])} ... {groups[-1]}"


def fold(names: Iterable[str]) -> list[str]:
    """Shorten a list of names for printing.

    ``blocks.0.norm1.weight`` ... ``blocks.11.norm2.bias`` become
    ``blocks.{0-11}.norm{1,2}.{bias,weight}``. Names are only joined when all combinations in the
    braces occur, so that the short form never says more than the list did.

    Args:
        names: The names, each of which counts once.

    Returns:
        Names with braces, in the order in which they occur first. Line breaks and control
        characters are escaped.
    """
    patterns: list[_Pattern] = [
        tuple((piece,) for piece in _pieces(name)) for name in dict.fromkeys(names)
    ]
    for position in reversed(range(max(map(len, patterns), default=0))):
        patterns = _merge(patterns, position)
    return [one_line("".join(map(_brace, pattern))) for pattern in patterns]


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
        return braced(map(int, choices))
    return f"{{{','.join(sorted(choices))}}}"
