"""The answer of :func:`sam21convert.parity`: as text for a terminal, as a page in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..io.folding import few
from ..report import BLANK, Part, Table, Tone, Toned, counted, heading, share, table
from .findings import (
    CaseStatus,
    NegativeControl,
    ParityResult,
    ScenarioResult,
    Sensitivity,
    short,
)

_TONES: dict[CaseStatus, Tone] = {
    "same": "good",
    "known difference": "note",
    "differs": "bad",
    "not run": "note",
}
HEAD = ("scenario", "result", "difference", "tolerance", "IoU", "activation")


@dataclass(frozen=True)
class ParityReport(ParityResult):
    """The answer of :func:`sam21convert.parity`.

    ``print(report)`` shows a summary, ``report.ok`` is the verdict, ``report.first_mismatch`` the
    first difference, and a notebook shows the HTML page. The fields are described in
    :class:`~.findings.ParityResult`.

    Example:
        >>> report = sam21convert.parity("model.pt", "my_finetune.pt", scenarios="point")
        >>> report.first_mismatch[0]
        'encoder'
    """

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            Both sides, a line for each scenario, the negative controls, and the verdict last.
        """
        return _parts(self)

    def _repr_html_(self) -> str:
        """The HTML page in a frame, which is how a notebook shows the report."""
        from .page.page import framed  # needs torch

        return framed(self)


def scenario_row(found: ScenarioResult) -> tuple[str, ...]:
    """One scenario in the columns of ``HEAD``.

    Args:
        found: The result of the scenario.

    Returns:
        Title, status, and the difference and tolerance of an activation with its name: the first
        out of tolerance, or else the one nearest to its tolerance. For a known difference, which
        is emulated, the difference without that stands in parentheses. ``IoU`` is the smallest of
        all masks. Cells without a value are empty.
    """
    shown = found.telling
    if shown is None:
        return (found.title, found.status, "", "", "", "")
    return (
        found.title,
        found.status,
        found.differences(short),
        short(shown.tolerance),
        share(found.iou),
        shown.name,
    )


def _parts(report: ParityResult) -> list[Part]:
    facts = [
        ("left", str(report.left)),
        ("right", str(report.right)),
        ("run", f"on {report.device} in {report.dtype}, {report.threads} threads"),
        ("tolerance", _tolerance(report)),
        *(("note", note) for side in (report.left, report.right) for note in side.notes),
    ]
    closing: list[tuple[str, str | tuple[str, ...]]] = [
        *((status, f"{titles}: {why}") for status, titles, why in report.reasons()),
        *(("no gradient", text) for text in _without_gradient(report.scenarios)),
        *(("negative control", _control(control)) for control in report.negative_controls),
        *(("sensitivity", _sensitivity(found)) for found in [report.sensitivity] if found),
        ("verdict", _good("in parity") if report.ok else _bad("not in parity")),
        *(("", _bad(problem)) for problem in report.problems),
        *(("hint", difference.hint) for difference in report.diagnosis if difference.hint),
    ]
    return [table(facts), BLANK, _scenarios(report), BLANK, table(closing)]


def _tolerance(report: ParityResult) -> str:
    if report.exact:
        return "0: both sides do the same arithmetic in the same order"
    noise = " and ".join(report.noise_from) or "none was measured"
    return (
        f"{report.multiple:g} times the noise of the ground truth with the weights of the "
        f"{report.reference} side ({noise})"
    )


def _good(text: str) -> Toned:
    return Toned(text, "good")


def _bad(text: str) -> Toned:
    return Toned(text, "bad")


def _scenarios(report: ParityResult) -> Table:
    *heads, iou, _ = HEAD
    masks = () if report.gradients else (iou,)  # no step of training gives masks
    rows: list[tuple[str, ...]] = [heading((*heads, *masks, report.noun))]
    for found in report.scenarios:
        title, status, difference, tolerance, overlap, name = scenario_row(found)
        if found.first is not None:  # the number that is over the allowed one
            difference = _bad(difference)
        toned = Toned(status, _TONES[found.status])
        rows.append((title, toned, difference, tolerance, *([overlap] if masks else []), name))
    return Table(tuple(rows))


def _without_gradient(scenarios: tuple[ScenarioResult, ...]) -> Iterator[str]:
    """The parameters without a gradient, but for those that are a problem."""
    for found in scenarios:
        for side, _, names in found.missing():
            if side == "both":
                count = counted(len(names), "parameter")
                yield f"{found.title}: {count} on both sides: {few(names)}"
            elif found.status == "known difference":
                yield f"{found.title}: {counted(len(names), 'parameter')} on the {side}"


def _control(control: NegativeControl) -> str:
    at = f"detected at {control.activation}" if control.detected else "not detected"
    change = control.change.removesuffix(" of its scale")
    told = f"{control.tensor} {change} in {control.scenario}: {at}"
    return told if control.detected else _bad(told)


def _sensitivity(sensitivity: Sensitivity) -> tuple[str, ...]:
    detected = sensitivity.tensors - len(sensitivity.undetected)
    lines = [f"{sensitivity.tensors} tensors changed one at a time, {detected} changes detected"]
    for reason in dict.fromkeys(sensitivity.expected.values()):
        names = [name for name, why in sensitivity.expected.items() if why == reason]
        lines.append(f"cannot be detected ({reason}): {few(names)}")
    return tuple(lines)
