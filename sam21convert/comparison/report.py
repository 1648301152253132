"""A parity report for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..report import Report, fold, table
from .activations import kind, rank
from .findings import Cause, Control, Proof, ScenarioFinding, Side, TapFinding

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


@dataclass(frozen=True)
class ParityReport(Report):
    """The answer of :func:`sam21convert.parity`.

    ``exact`` says that 0 was asked for everywhere; else tolerances are ``multiple`` times the noise
    of the reference. ``ok`` is the verdict, and ``first`` the scenario and tap where the two part.
    ``command`` asks for the same again.
    """

    left: Side
    right: Side
    reference: Literal["left", "right"]
    device: str
    dtype: str
    threads: int
    versions: dict[str, str]
    exact: bool
    multiple: float
    noise_from: tuple[str, ...]  # the variants of the reference that were run
    scenarios: tuple[ScenarioFinding, ...]
    causes: tuple[Cause, ...]
    controls: tuple[Control, ...]
    proof: Proof | None
    command: str
    seconds: float

    def __str__(self) -> str:
        return as_text(self)

    @property
    def first(self) -> tuple[str, str | None] | None:
        """Scenario and tap where the two part first, in the order of the data flow."""
        return next(((found.title, found.first) for found in self.differing), None)

    @property
    def differing(self) -> tuple[ScenarioFinding, ...]:
        """Scenarios in which the two part, those that do so earlier in the data flow first."""
        apart = (found for found in self.scenarios if found.outcome == "differs")
        return tuple(sorted(apart, key=lambda one: rank(kind(one.first) if one.first else None)))

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the answer is no, the most telling first; empty when it is yes."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        for found in self.differing:
            at = next((tap for tap in found.taps if tap.name == found.first), None)
            if at is None:
                yield f"{found.title}: {found.why}"
            else:
                yield (
                    f"{found.title} parts at {found.first}: {at.relative:.2g} of its scale, "
                    f"{at.tolerance:.2g} allowed"
                )
        yield from (cause.text for cause in self.causes)
        for control in self.controls:
            if not control.noticed:
                yield (
                    f"the comparison is blind: {control.tensor} was put off by "
                    f"{control.share:.0%} of its scale in {control.scenario}, and nothing showed it"
                )
        if self.proof is not None and self.proof.surprising:
            yield f"no scenario of this run sees {', '.join(fold(self.proof.surprising))}"
        if not any(found.outcome in ("same", "known deviation") for found in self.scenarios):
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
        """All but the pictures."""
        return {
            **super().to_dict(),
            "ok": self.ok,
            "problems": list(self.problems),
            "first": self.first,
            "left": _plain(self.left),
            "right": _plain(self.right),
            "scenarios": [found.to_dict() for found in self.scenarios],
            "causes": [asdict(cause) for cause in self.causes],
            "controls": [asdict(control) for control in self.controls],
            "proof": None if self.proof is None else asdict(self.proof),
        }


def _plain(side: Side) -> dict[str, Any]:
    return {**asdict(side), "source": str(side.source)}
