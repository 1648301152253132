"""What the tables for people say: a row for each scenario, and what a reader needs to know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from ...report import counted, share
from ..findings import ParityResult, ParitySide, ScenarioResult


class Verbatim(str):
    """A name, hash or command, which is shown letter by letter."""

    __slots__ = ()


Sentence: TypeAlias = tuple[str, ...]  # words and names, one after another


def head(report: ParityResult) -> tuple[str, ...]:
    """Name the columns.

    Args:
        report: The results.

    Returns:
        Their heads; the third is the number of what was compared.
    """
    return "scenario", "result", f"{report.noun}s", "difference", "tolerance", "IoU"


def cells(found: ScenarioResult, number: Callable[[float], str]) -> tuple[str, ...]:
    """Sum up a scenario.

    Args:
        found: Its result.
        number: Writes a number.

    Returns:
        The cells of all columns after the title. They are those of the first activation out of
        tolerance, or else of the one nearest to its tolerance.
    """
    shown = found.telling
    numbers = (
        (str(len(found.activations)), found.differences(number), number(shown.tolerance))
        if shown
        else ("", "", "")
    )
    return found.status, *numbers, share(found.iou)


def sides(report: ParityResult) -> Sentence:
    """Name what was compared, and give the verdict.

    Args:
        report: The results.

    Returns:
        A sentence.
    """
    left, right = (
        Verbatim(f"{side.backend}:{side.source.name}") for side in (report.left, report.right)
    )
    return left, " and ", right, " are in parity." if report.ok else " are not in parity."


def explanation(report: ParityResult) -> str:
    """Say what the columns mean.

    Args:
        report: The results.

    Returns:
        Sentences.
    """
    tolerance = (
        "It must be 0, as both do the same arithmetic in the same order."
        if report.exact
        else f"The tolerance is {report.multiple:g} times the noise: how far the reference is "
        "from itself when it computes the same in another way "
        f"({', '.join(report.noise_from) or 'none was measured'})."
    )
    emulated = (
        "A known difference is emulated; in parentheses, how far the results are apart without "
        "that. "
    )
    return (
        "Difference: the largest of any element, divided by the largest magnitude of the "
        f"{report.noun} on the {report.reference} side. Of each scenario, the first {report.noun} "
        "out of tolerance is shown, or else the one nearest to it. "
        f"{'' if report.gradients else emulated}{tolerance}"
    )


def statements(report: ParityResult) -> Iterator[tuple[str, Sentence]]:
    """Say everything else that belongs to the table as evidence.

    Args:
        report: The results.

    Yields:
        A label, and what it labels.
    """
    yield "left", _side(report.left)
    yield "right", _side(report.right)
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    on = f"on {report.device} in {report.dtype}, threads: {report.threads}"
    yield "run", (f"{report.date} {on}; {versions}",)
    for problem in report.problems:
        yield "problem", (problem,)
    for status, titles, why in report.reasons():
        yield status, (f"{titles}: {why}",)
    for scenario in report.scenarios:
        for side, reason, names in scenario.missing():
            where = "both sides" if side == "both" else f"the {side}"
            why = f" ({reason})" if reason else ""
            count = counted(len(names), "parameter")
            yield "no gradient", (f"{scenario.title}: {count} on {where}{why}",)
    controls = report.negative_controls
    detected = sum(control.detected for control in controls)
    yield "negative controls", (f"{detected} of {len(controls)} detected",)
    if report.sensitivity is not None:
        found = report.sensitivity.tensors - len(report.sensitivity.undetected)
        yield (
            "sensitivity",
            (f"changes of {found} of {report.sensitivity.tensors} tensors detected",),
        )
    yield "command", (Verbatim(report.command),)


def _side(side: ParitySide) -> Sentence:
    model = f"{side.dialect}, SAM {side.generation} {side.config}, {side.image_size} pixels"
    hashes: list[str] = []
    for name, digest in side.sha256.items():
        hashes += [", ", *([Verbatim(name), " "] if len(side.sha256) > 1 else [])]
        hashes.append(Verbatim(digest))
    head = f"{side.backend} {side.version}, "
    return head, Verbatim(str(side.source)), f", {model}; SHA-256 ", *hashes[1:]
