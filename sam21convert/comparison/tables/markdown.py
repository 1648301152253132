"""``table.md``: a row for each scenario, for a README, a pull request or an issue."""

from __future__ import annotations

from collections.abc import Iterable

from ...io.markdown import code, prose, table
from ..findings import ParityResult, ScenarioResult, short
from .facts import Verbatim, cells, explanation, head, sides, statements


def markdown(report: ParityResult) -> str:
    """Write the table.

    Args:
        report: The results.

    Returns:
        The verdict, the table, and a list of what belongs to it.
    """
    rows = (_row(found) for found in report.scenarios)
    return (
        "\n\n".join(
            (
                _sentence(sides(report)),
                table((*head(report), report.noun), rows),
                prose(explanation(report)),
                "\n".join(f"- {label}: {_sentence(text)}" for label, text in statements(report)),
            )
        )
        + "\n"
    )


def _sentence(parts: Iterable[str]) -> str:
    pieces = [(one, isinstance(one, Verbatim)) for one in parts]
    return "".join(code(text) if verbatim else _words(text) for text, verbatim in pieces)


def _words(text: str) -> str:
    """Words between names, with the spaces at their ends."""
    start, end = text[: len(text) - len(text.lstrip(" "))], text[len(text.rstrip(" ")) :]
    return f"{start}{prose(text)}{end}" if text.strip(" ") else text


def _row(found: ScenarioResult) -> tuple[str, ...]:
    name = code(found.telling.name) if found.telling else ""
    return prose(found.title), *cells(found, short), name
