"""The sections of the page: scenarios in detail, known differences, controls and tolerances."""

from __future__ import annotations

from collections.abc import Iterator

from ...io.folding import fold
from ...markup.elements import Markup, code, element, joined, lines
from ...report import counted
from ..findings import ParityResult, ScenarioResult, short
from .heatmap import activation_table
from .pictures import views
from .verdict import outcome

_UNITS = (
    "The difference of an object score, which is a single logit, is divided by 1 at least. "
    "Memories are kept in bfloat16; where the two sides have neighbouring bfloat16 values, both "
    "continue with the value of the reference."
)
_UNITS_OF_TRAINING = (
    "The gradients of some biases of keys are nothing but rounding, because softmax ignores what "
    "all scores share; they are given in units of the gradients of their weights."
)
_EMULATED = "The numbers compare with the ground truth after the same change was made to it"


def scenarios(report: ParityResult) -> Iterator[Markup]:
    """For each scenario, what was asked, what the two sides gave, and all numbers.

    Args:
        report: The results.

    Yields:
        One ``article`` for each scenario.
    """
    for at, found in enumerate(report.scenarios):
        yield element(
            "article",
            element(
                "header", element("h3", found.title), outcome(found), element("p", found.summary)
            ),
            *_remarks(found, report.noun),
            *views(found.views, report.left.backend, report.right.backend),
            activation_table(found.activations, report.noun) if found.activations else "",
            id=f"s{at}",
        )


def known_differences(report: ParityResult) -> Markup:
    """The scenarios with a known difference, each with an explanation.

    Args:
        report: The results.

    Returns:
        A ``dl`` element.
    """
    known = [found for found in report.scenarios if found.status == "known difference"]
    return element(
        "dl",
        *(part for found in known for part in (element("dt", found.title), _explained(found))),
    )


def negative_controls(report: ParityResult) -> Markup:
    """Which changes made on purpose were detected, and the sensitivity if it was measured.

    Args:
        report: The results.

    Returns:
        A list.
    """
    texts = [
        joined(
            code(control.tensor),
            f" was {control.change} in {control.scenario}: ",
            "detected, first at " if control.detected else element("b", "not detected"),
            code(control.activation) if control.detected else "",
            ".",
        )
        for control in report.negative_controls
    ]
    return lines([*texts, *_sensitivity(report)])


def without_gradient(report: ParityResult) -> Markup:
    """The parameters that got no gradient, on one side or on both.

    Args:
        report: The results of training steps.

    Returns:
        A list, with the names folded up.
    """
    return lines(
        joined(
            element("b", found.title),
            f" on {'both sides' if side == 'both' else f'the {side}'}: ",
            element(
                "details",
                element(
                    "summary", counted(len(names), "parameter"), f"; {reason}" if reason else ""
                ),
                lines(map(code, fold(names))),
            ),
        )
        for found in report.scenarios
        for side, reason, names in found.missing()
    )


def tolerances(report: ParityResult) -> Markup:
    """How differences are measured, and where the tolerances come from.

    Args:
        report: The results.

    Returns:
        A paragraph.
    """
    noun = report.noun
    article = "an" if noun.startswith("a") else "a"
    unit = (
        f"The difference of {article} {noun} is the largest difference of two values, divided by "
        f"the largest magnitude that it has on the reference side ({report.reference})."
    )
    if report.exact:
        return element(
            "p", unit, f" The tolerance is 0: every {noun} must be equal to the last bit."
        )
    variants = f" ({', '.join(report.noise_from)})" if report.noise_from else ""
    return element(
        "p",
        unit,
        f" The ground truth with the weights of the {report.reference} side was also run in ways "
        f"that are mathematically equal{variants}. The largest difference that this makes is the "
        f"noise of {article} {noun}. It is never taken to be smaller than the noise of earlier "
        f"{noun}s, or than one unit in the last place. The tolerance is {report.multiple:g} "
        f"times the noise. {_UNITS_OF_TRAINING if report.gradients else _UNITS}",
    )


def environment(report: ParityResult) -> Markup:
    """When and where the comparison ran, and the command that runs it again.

    Args:
        report: The results.

    Returns:
        A paragraph and the command.
    """
    ran = [
        report.date,
        report.device,
        report.dtype,
        counted(report.threads, "thread"),
        f"{report.seconds:.1f} seconds",
        *(f"{name} {version}" for name, version in report.versions.items()),
    ]
    return joined(element("p", " · ".join(ran)), element("pre", element("code", report.command)))


def _remarks(found: ScenarioResult, noun: str) -> Iterator[Markup]:
    """Why nothing was run, the known difference, and what is out of tolerance."""
    if found.why:
        emulated = (
            f" {_EMULATED}; the pictures show the unchanged results." if found.activations else ""
        )
        yield element("p", found.why, emulated)
    beyond = [activation for activation in found.activations if not activation.within]
    if beyond:
        first = beyond[0]
        yield element(
            "p",
            f"{len(beyond):,} of {counted(len(found.activations), noun)} out of tolerance, first ",
            code(first.name),
            f": difference {short(first.relative)}, tolerance {short(first.tolerance)}.",
            cls="remark",
        )


def _explained(found: ScenarioResult) -> Markup:
    if not found.activations:
        return element("dd", found.why)
    apart = f" The results differ by {short(found.apart)}." if found.apart else ""
    return element("dd", found.why, apart, f" {_EMULATED}; all are within tolerance.")


def _sensitivity(report: ParityResult) -> Iterator[Markup]:
    sensitivity = report.sensitivity
    if sensitivity is None:
        return
    detected = sensitivity.tensors - len(sensitivity.undetected)
    yield joined(
        f"{counted(sensitivity.tensors, 'tensor')} changed one at a time: {detected:,} detected."
    )
    for name in sensitivity.undetected:
        if name in sensitivity.expected:
            yield joined("Not detectable: ", code(name), f"; {sensitivity.expected[name]}.")
        else:
            yield joined("Not detected, and should have been: ", element("b", code(name)), ".")
