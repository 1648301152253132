"""A parity report for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..report import table

if TYPE_CHECKING:
    from .findings import Control, ParityReport, Proof, ScenarioFinding, TapFinding

HEAD = ("scenario", "outcome", "furthest", "allowed", "IoU", "at")


def as_text(report: ParityReport) -> str:
    """Both sides, a line for each scenario, what was controlled, and the verdict last."""
    facts = [
        ("left", str(report.left)),
        ("right", str(report.right)),
        ("computed", f"on {report.device} in {report.dtype}, {report.threads} threads"),
        ("tolerance", _tolerance(report)),
        *(("note", note) for side in (report.left, report.right) for note in side.notes),
    ]
    closing = [
        *(("deviation", f"{name}: {why}") for name, why in _reasons(report, "known deviation")),
        *(("not run", f"{name}: {why}") for name, why in _reasons(report, "not run")),
        *(("control", _control(control)) for control in report.controls),
        *([] if report.proof is None else [("proof", _proof(report.proof))]),
        ("verdict", "in parity" if report.ok else "not in parity"),
        *(("", problem) for problem in report.problems),
        *(("hint", cause.hint) for cause in report.causes if cause.hint),
    ]
    return "\n\n".join((table(facts), _scenarios(report.scenarios), table(closing)))


def short(number: float) -> str:
    """A difference in few characters: 0, or two digits and an exponent."""
    return "0" if number == 0 else f"{number:.1e}"


def furthest(found: ScenarioFinding) -> TapFinding | None:
    """The tap that comes nearest to its tolerance, or goes furthest beyond."""
    return max(
        found.taps,
        key=lambda tap: tap.relative / tap.tolerance if tap.tolerance else tap.relative,
        default=None,
    )


def _tolerance(report: ParityReport) -> str:
    if report.exact:
        return "0: the same arithmetic on both sides"
    noise = " and ".join(report.noise_from) or "none was measured"
    return (
        f"{report.multiple:g} times the noise of the ground truth with the weights of the "
        f"{report.reference} side ({noise})"
    )


def _scenarios(found: tuple[ScenarioFinding, ...]) -> str:
    rows = [HEAD, *(scenario_row(one) for one in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def scenario_row(found: ScenarioFinding) -> tuple[str, ...]:
    """A scenario in the columns of ``HEAD``."""
    worst = furthest(found)
    if worst is None:
        return (found.title, found.outcome, "", "", "", "")
    first = next((tap for tap in found.taps if tap.name == found.first), worst)
    overlaps = [tap.iou for tap in found.taps if tap.iou is not None]
    return (
        found.title,
        found.outcome,
        short(first.relative),
        short(first.tolerance),
        f"{min(overlaps):.4f}" if overlaps else "",
        first.name,
    )


def _reasons(report: ParityReport, outcome: str) -> Iterator[tuple[str, str]]:
    """Scenarios of an outcome and why, those of the same reason together."""
    together: dict[str, list[str]] = {}
    for found in report.scenarios:
        if found.outcome == outcome:
            size = "" if found.apart is None else f" (apart by {short(found.apart)})"
            together.setdefault(f"{found.why}{size}", []).append(found.title)
    for why, titles in together.items():
        yield ", ".join(titles), why


def _control(control: Control) -> str:
    at = f"noticed at {control.tap}" if control.noticed else "not noticed"
    return f"{control.tensor} put off by {control.share:.0%} in {control.scenario}: {at}"


def _proof(proof: Proof) -> str:
    seen = proof.tensors - len(proof.unseen)
    lines = [f"each of {proof.tensors} tensors put off in turn, {seen} were noticed"]
    for reason in dict.fromkeys(proof.expected.values()):
        names = [name for name, why in proof.expected.items() if why == reason]
        lines.append(f"cannot be seen ({reason}): {', '.join(names)}")
    return "\n".join(lines)
