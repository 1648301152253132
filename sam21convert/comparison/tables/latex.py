"""``table.tex``: a row for each scenario, to be read with ``\\input``. It needs booktabs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from math import isfinite, isnan

from ...report import one_line
from ..findings import ParityResult, short
from .facts import Verbatim, cells, explanation, head, sides, statements

_BREAK_HERE = "\\allowbreak{}"
_LONG = 24  # characters of a name that may be broken
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # would be an argument of the end of a row
    # Some of babel's languages give these a meaning, and pairs of them are ligatures.
    '"': r"\char34{}",
    "'": r"\char39{}",
    "`": r"\char96{}",
    **{char: f"\\{char}" for char in "{}$&#_%"},
}
# What every engine and font encoding has. Others stop at any letter beyond.
_LETTERS = {
    "ß": "ss",
    "æ": "ae",
    "Æ": "AE",
    "œ": "oe",
    "Œ": "OE",
    "ø": "o",
    "Ø": "O",
    "ł": "l",
    "Ł": "L",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0308": '"',
    "\u030a": "r",
    "\u030c": "v",
    "\u0327": "c",
}
_BREAK = re.compile(r"([/_.=:-]|[0-9a-f]{16})(?=\w)")


def latex(report: ParityResult) -> str:
    """Write the table.

    Args:
        report: The results.

    Returns:
        A ``table`` environment with caption and label.
    """
    rows = [(prose(found.title), *cells(found, _number)) for found in report.scenarios]
    notes = [
        f"\\emph{{{prose(label)}:}} {_sentence(text)}\\par" for label, text in statements(report)
    ]
    return "\n".join(
        (
            r"% Needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            f"\\caption[{_sentence(sides(report))}]{{{_sentence(sides(report))}",
            f"{prose(explanation(report))}}}",
            f"\\label{{{label_of(report)}}}",
            r"\smallskip",
            r"\footnotesize",
            r"\begin{tabular}{llrrrr}",
            r"\toprule",
            _line(one.capitalize() if one.islower() else one for one in head(report)),
            r"\midrule",
            *map(_line, rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
            r"\medskip",
            r"\begin{minipage}{\linewidth}\raggedright",
            *notes,
            r"\end{minipage}",
            r"\end{table}",
            "",
        )
    )


def label_of(report: ParityResult) -> str:
    """Make the label of the table, by which a text refers to it.

    Args:
        report: The results.

    Returns:
        ``tab:parity-`` and the names of both sides, of letters, digits and dashes.
    """
    names = (f"{side.backend} {side.source.stem}" for side in (report.left, report.right))
    plain = re.sub(r"[^a-z0-9]+", "-", " ".join(names).lower()).strip("-")
    return f"tab:parity-{plain}"


def prose(text: str) -> str:
    """Write any text so that LaTeX shows it as it is, whatever engine and fonts it has.

    Args:
        text: Any text.

    Returns:
        LaTeX in one line. Letters that not every font has are written by their numbers.
    """
    characters = unicodedata.normalize("NFC", one_line(text))
    return re.sub("-(?=-)", "-{}", "".join(map(_character, characters)))


def _character(char: str) -> str:
    if char in _ESCAPES or char.isascii():
        return _ESCAPES.get(char, char)
    if char in _LETTERS:
        return f"\\{_LETTERS[char]}{{}}"
    parts = unicodedata.normalize("NFD", char)
    base, marks = parts[0], parts[1:]
    if base.isascii() and marks in _ACCENTS:
        return f"\\{_ACCENTS[marks]}{{{base}}}"
    return prose(ascii(char)[1:-1])


def _sentence(parts: Iterable[str]) -> str:
    return "".join(_code(one) if isinstance(one, Verbatim) else prose(one) for one in parts)


def _code(text: str) -> str:
    """A name in typewriter letters, which may be broken where long names can be."""
    shown = one_line(text)
    pieces = _BREAK.sub("\\1\0", shown).split("\0") if len(shown) > _LONG else [shown]
    return f"\\texttt{{{_BREAK_HERE.join(map(prose, pieces))}}}"


def _number(value: float) -> str:
    if not isfinite(value):
        return "NaN" if isnan(value) else r"$\infty$"
    digits, _, exponent = short(value).partition("e")
    return f"${digits}\\times10^{{{int(exponent)}}}$" if exponent else digits


def _line(cells: Iterable[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
