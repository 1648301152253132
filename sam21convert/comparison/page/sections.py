"""Scenarios one by one, and what makes the answer worth believing."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import ScenarioResult
from ..report import ParityReport, short
from .heatmap import activation_table
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
            *views(found.views, report.left.backend, report.right.backend),
            activation_table(found.activations) if found.activations else "",
            id=f"s{at}",
        )


def known_differences(report: ParityReport) -> Markup:
    """Known differences with their explanation."""
    known = [found for found in report.scenarios if found.status == "known difference"]
    return element(
        "dl",
        *(part for found in known for part in (element("dt", found.title), _explained(found))),
    )


def negative_controls(report: ParityReport) -> Markup:
    """What shows that a difference would have been detected."""
    said = [
        joined(
            code(control.tensor),
            f" was changed by {control.share:.0%} of its scale in {control.scenario}: ",
            "detected, first at " if control.detected else element("b", "not detected"),
            code(control.activation) if control.detected else "",
            ".",
        )
        for control in report.negative_controls
    ]
    return lines([*said, *_proof(report)])


def measured(report: ParityReport) -> Markup:
    """How it was decided what is allowed."""
    unit = (
        "How far apart two results are is the largest difference of two values, in units of the "
        f"largest magnitude that the reference, the {report.reference} side, has in that activation."
    )
    if report.exact:
        return element(
            "p", unit, " Nothing is allowed: every activation must be equal to the last bit."
        )
    variants = f" ({', '.join(report.noise_from)})" if report.noise_from else ""
    return element(
        "p",
        unit,
        f" The ground truth with the weights of the {report.reference} side was run again in ways "
        f"that are mathematically equal{variants}. How far it was from itself is the noise of a "
        "activation, never taken to be less than that of those before it, nor than one unit in the last "
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


def _remarks(found: ScenarioResult) -> Iterator[Markup]:
    """Why nothing was run, what is known to deviate, what is out of tolerance."""
    if found.why:
        emulated = (
            f" {_EMULATED}; the pictures show both sides as they are." if found.activations else ""
        )
        yield element("p", found.why, emulated)
    beyond = [activation for activation in found.activations if not activation.within]
    if beyond:
        first = beyond[0]
        yield element(
            "p",
            f"{len(beyond):,} of {counted(len(found.activations), 'activation')} out of tolerance, first ",
            code(first.name),
            f": {short(first.relative)} apart where {short(first.tolerance)} is allowed.",
            cls="remark",
        )


def _explained(found: ScenarioResult) -> Markup:
    apart = f" As they are, the results are {short(found.apart)} apart." if found.apart else ""
    return element("dd", found.why, apart, f" {_EMULATED}, and all are within tolerance.")


def _proof(report: ParityReport) -> Iterator[Markup]:
    sensitivity = report.sensitivity
    if sensitivity is None:
        return
    seen = sensitivity.tensors - len(sensitivity.undetected)
    yield joined(
        f"{counted(sensitivity.tensors, 'tensor')} changed one at a time: {seen:,} detected."
    )
    for name in sensitivity.undetected:
        if name in sensitivity.expected:
            yield joined("Not detected: ", code(name), f"; {sensitivity.expected[name]}.")
        else:
            yield joined("Not detected, and should have been: ", element("b", code(name)), ".")
