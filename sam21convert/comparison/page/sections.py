"""Scenarios one by one, and what makes the answer worth believing."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import ScenarioFinding
from ..report import ParityReport, short
from .heatmap import tap_table
from .markup import Markup, code, counted, element, joined, lines
from .pictures import views
from .verdict import outcome

_EMULATED = "The numbers are against the ground truth, made to deviate in the same way"


def scenarios(report: ParityReport) -> Iterator[Markup]:
    """What was asked, what came back, and all numbers."""
    for at, found in enumerate(report.scenarios):
        yield element(
            "article",
            element(
                "header", element("h3", found.title), outcome(found), element("p", found.summary)
            ),
            *_remarks(found),
            *views(found.views, report.left.runner, report.right.runner),
            tap_table(found.taps) if found.taps else "",
            id=f"s{at}",
        )


def deviations(report: ParityReport) -> Markup:
    """Known deviations with their explanation."""
    known = [found for found in report.scenarios if found.outcome == "known deviation"]
    return element(
        "dl",
        *(part for found in known for part in (element("dt", found.title), _explained(found))),
    )


def controls(report: ParityReport) -> Markup:
    """What shows that a difference would have been noticed."""
    said = [
        joined(
            code(control.tensor),
            f" was put off by {control.share:.0%} of its scale in {control.scenario}: ",
            "noticed, first at " if control.noticed else element("b", "not noticed"),
            code(control.tap) if control.noticed else "",
            ".",
        )
        for control in report.controls
    ]
    return lines([*said, *_proof(report)])


def measured(report: ParityReport) -> Markup:
    """How it was decided what is allowed."""
    unit = (
        "How far apart two results are is the largest difference of two values, in units of the "
        f"largest magnitude that the reference, the {report.reference} side, has in that tap."
    )
    if report.exact:
        return element("p", unit, " Nothing is allowed: every tap must be equal to the last bit.")
    variants = f" ({', '.join(report.noise_from)})" if report.noise_from else ""
    return element(
        "p",
        unit,
        f" The ground truth with the weights of the {report.reference} side was run again in ways "
        f"that are mathematically equal{variants}. How far it was from itself is the noise of a "
        "tap, never taken to be less than that of those before it, nor than one unit in the last "
        f"place; {report.multiple:g} times the noise is allowed. An object score, a single logit, "
        "is in units of 1 at least. Memories, which are kept in bfloat16, are brought together "
        "where they are neighbouring values of it.",
    )


def circumstances(report: ParityReport) -> Markup:
    """Where it was run, and how to run it again."""
    ran = [
        report.device,
        report.dtype,
        counted(report.threads, "thread"),
        f"{report.seconds:.1f} seconds",
        *(f"{name} {version}" for name, version in report.versions.items()),
    ]
    return joined(element("p", " · ".join(ran)), element("pre", element("code", report.command)))


def _remarks(found: ScenarioFinding) -> Iterator[Markup]:
    """Why nothing was run, what is known to deviate, what is out of tolerance."""
    if found.why:
        emulated = f" {_EMULATED}; the pictures show both sides as they are." if found.taps else ""
        yield element("p", found.why, emulated)
    beyond = [tap for tap in found.taps if not tap.within]
    if beyond:
        first = beyond[0]
        yield element(
            "p",
            f"{len(beyond):,} of {counted(len(found.taps), 'tap')} out of tolerance, first ",
            code(first.name),
            f": {short(first.relative)} apart where {short(first.tolerance)} is allowed.",
            cls="remark",
        )


def _explained(found: ScenarioFinding) -> Markup:
    apart = f" As they are, the results are {short(found.apart)} apart." if found.apart else ""
    return element("dd", found.why, apart, f" {_EMULATED}, and all are within tolerance.")


def _proof(report: ParityReport) -> Iterator[Markup]:
    proof = report.proof
    if proof is None:
        return
    seen = proof.tensors - len(proof.unseen)
    yield joined(f"{counted(proof.tensors, 'tensor')} put off one at a time: {seen:,} noticed.")
    for name in proof.unseen:
        if name in proof.expected:
            yield joined("Not noticed: ", code(name), f"; {proof.expected[name]}.")
        else:
            yield joined("Not noticed, and should have been: ", element("b", code(name)), ".")
