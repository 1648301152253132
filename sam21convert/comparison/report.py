"""A parity report for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ..report import Report, fold, table
from .activations import kind, rank
from .findings import (
    ActivationResult,
    Diagnosis,
    NegativeControl,
    ParitySide,
    ScenarioResult,
    Sensitivity,
)

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
        *(("deviation", f"{name}: {why}") for name, why in _reasons(report, "known difference")),
        *(("not run", f"{name}: {why}") for name, why in _reasons(report, "not run")),
        *(("control", _control(control)) for control in report.negative_controls),
        *([] if report.sensitivity is None else [("proof", _proof(report.sensitivity))]),
        ("verdict", "in parity" if report.ok else "not in parity"),
        *(("", problem) for problem in report.problems),
        *(("hint", cause.hint) for cause in report.diagnosis if cause.hint),
    ]
    return "\n\n".join((table(facts), _scenarios(report.scenarios), table(closing)))


def short(number: float) -> str:
    """A difference in few characters: 0, or two digits and an exponent."""
    return "0" if number == 0 else f"{number:.1e}"


def furthest(found: ScenarioResult) -> ActivationResult | None:
    """The activation that comes nearest to its tolerance, or goes furthest beyond."""
    return max(
        found.activations,
        key=lambda activation: (
            activation.relative / activation.tolerance
            if activation.tolerance
            else activation.relative
        ),
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


def _scenarios(found: tuple[ScenarioResult, ...]) -> str:
    rows = [HEAD, *(scenario_row(one) for one in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def scenario_row(found: ScenarioResult) -> tuple[str, ...]:
    """A scenario in the columns of ``HEAD``."""
    worst = furthest(found)
    if worst is None:
        return (found.title, found.status, "", "", "", "")
    first = next(
        (activation for activation in found.activations if activation.name == found.first_mismatch),
        worst,
    )
    overlaps = [activation.iou for activation in found.activations if activation.iou is not None]
    return (
        found.title,
        found.status,
        short(first.relative),
        short(first.tolerance),
        f"{min(overlaps):.4f}" if overlaps else "",
        first.name,
    )


def _reasons(report: ParityReport, outcome: str) -> Iterator[tuple[str, str]]:
    """Scenarios of an outcome and why, those of the same reason together."""
    together: dict[str, list[str]] = {}
    for found in report.scenarios:
        if found.status == outcome:
            size = "" if found.apart is None else f" (apart by {short(found.apart)})"
            together.setdefault(f"{found.why}{size}", []).append(found.title)
    for why, titles in together.items():
        yield ", ".join(titles), why


def _control(control: NegativeControl) -> str:
    at = f"detected at {control.activation}" if control.detected else "not detected"
    return f"{control.tensor} changed by {control.share:.0%} in {control.scenario}: {at}"


def _proof(sensitivity: Sensitivity) -> str:
    seen = sensitivity.tensors - len(sensitivity.undetected)
    lines = [f"each of {sensitivity.tensors} tensors changed in turn, {seen} were detected"]
    for reason in dict.fromkeys(sensitivity.expected.values()):
        names = [name for name, why in sensitivity.expected.items() if why == reason]
        lines.append(f"cannot be seen ({reason}): {', '.join(names)}")
    return "\n".join(lines)


@dataclass(frozen=True)
class ParityReport(Report):
    """The answer of :func:`sam21convert.parity`.

    ``exact`` says that 0 was asked for everywhere; else tolerances are ``multiple`` times the noise
    of the reference. ``ok`` is the verdict, and ``first`` the scenario and activation where the two part.
    ``command`` asks for the same again.
    """

    left: ParitySide
    right: ParitySide
    reference: Literal["left", "right"]
    device: str
    dtype: str
    threads: int
    versions: dict[str, str]
    exact: bool
    multiple: float
    noise_from: tuple[str, ...]  # the variants of the reference that were run
    scenarios: tuple[ScenarioResult, ...]
    diagnosis: tuple[Diagnosis, ...]
    negative_controls: tuple[NegativeControl, ...]
    sensitivity: Sensitivity | None
    command: str
    seconds: float

    def __str__(self) -> str:
        return as_text(self)

    @property
    def first_mismatch(self) -> tuple[str, str | None] | None:
        """Scenario and activation where the two part first, in the order of the data flow."""
        return next(((found.title, found.first_mismatch) for found in self.differing), None)

    @property
    def differing(self) -> tuple[ScenarioResult, ...]:
        """Scenarios in which the two part, those that do so earlier in the data flow first."""
        apart = (found for found in self.scenarios if found.status == "differs")
        return tuple(
            sorted(
                apart,
                key=lambda one: rank(kind(one.first_mismatch) if one.first_mismatch else None),
            )
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the answer is no, the most telling first; empty when it is yes."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        for found in self.differing:
            at = next(
                (
                    activation
                    for activation in found.activations
                    if activation.name == found.first_mismatch
                ),
                None,
            )
            if at is None:
                yield f"{found.title}: {found.why}"
            else:
                yield (
                    f"{found.title} parts at {found.first_mismatch}: {at.relative:.2g} of its scale, "
                    f"{at.tolerance:.2g} allowed"
                )
        yield from (cause.text for cause in self.diagnosis)
        for control in self.negative_controls:
            if not control.detected:
                yield (
                    f"the comparison is blind: {control.tensor} was changed by "
                    f"{control.share:.0%} of its scale in {control.scenario}, and nothing showed it"
                )
        if self.sensitivity is not None and self.sensitivity.unexpected:
            yield f"no scenario of this run sees {', '.join(fold(self.sensitivity.unexpected))}"
        if not any(found.status in ("same", "known difference") for found in self.scenarios):
            yield "nothing was found the same: no scenario could be run, or all differ"

    @property
    def ok(self) -> bool:
        """Whether the two are in parity, and the run has shown that it could have told."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0 for parity, 1 for anything else."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, Any]:
        """All but the pictures; what had another name also under that."""
        diagnosis = [found.to_dict() for found in self.diagnosis]
        controls = [control.to_dict() for control in self.negative_controls]
        sensitivity = None if self.sensitivity is None else self.sensitivity.to_dict()
        return {
            **super().to_dict(),
            "ok": self.ok,
            "problems": list(self.problems),
            "first_mismatch": self.first_mismatch,
            "left": self.left.to_dict(),
            "right": self.right.to_dict(),
            "scenarios": [found.to_dict() for found in self.scenarios],
            "diagnosis": diagnosis,
            "negative_controls": controls,
            "sensitivity": sensitivity,
            # As they were called in 0.1.
            "first": self.first_mismatch,
            "causes": diagnosis,
            "controls": controls,
            "proof": sensitivity,
        }
