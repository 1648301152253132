"""``table.csv``: a row for each activation, in full precision, for plots and statistics."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

from ...report import one_line
from ..findings import ActivationResult, ParityResult, ScenarioResult

_ACTIVATION = (*(field.name for field in fields(ActivationResult)), "within")
COLUMNS = (
    *("scenario", "input", "status", "activation", *_ACTIVATION[1:]),
    *("ok", "date", "device", "dtype", "threads", "versions"),
    *(
        f"{side}_{fact}"
        for side in ("left", "right")
        for fact in ("backend", "version", "source", "sha256")
    ),
)


def data(report: ParityResult) -> str:
    """Write the table.

    Args:
        report: The results.

    Returns:
        CSV with a row for each activation, and one for each scenario that was not run. What is
        true of the whole run stands in every row, so that tables of several runs can be joined.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    run = _run(report)
    for found in report.scenarios:
        writer.writerows({**row, **run} for row in _rows(found))
    return text.getvalue()


def _rows(found: ScenarioResult) -> Iterator[dict[str, Any]]:
    scenario = _cells({"scenario": found.name, "input": found.input, "status": found.status})
    if not found.activations:
        yield scenario
    for one in found.activations:
        numbers = {**asdict(one), "within": one.within}
        yield {**scenario, **_cells({"activation": numbers.pop("name"), **numbers})}


def _run(report: ParityResult) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "ok": report.ok,
        "date": report.date,
        "device": report.device,
        "dtype": report.dtype,
        "threads": report.threads,
        "versions": "; ".join(f"{name} {version}" for name, version in report.versions.items()),
    }
    for name, side in (("left", report.left), ("right", report.right)):
        facts |= {
            f"{name}_backend": side.backend,
            f"{name}_version": side.version,
            f"{name}_source": str(side.source),
            f"{name}_sha256": "; ".join(
                digest if len(side.sha256) == 1 else f"{digest} {file}"
                for file, digest in side.sha256.items()
            ),
        }
    return _cells(facts)


def _cells(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _cell(value) for name, value in facts.items()}


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """Text that no spreadsheet takes for a formula; it shows the quote before it, or hides it."""
    text = one_line(text)
    first = unicodedata.normalize("NFKC", text.lstrip()[:1])  # there are wide forms of all four
    return f"'{text}" if first and first in "=+-@" else text
