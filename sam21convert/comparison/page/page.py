"""A parity report as one HTML page, which runs no scripts and loads nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from ...markup.document import document, section
from ...markup.elements import element
from ..findings import ParityResult
from .heatmap import heatmap
from .sections import (
    environment,
    known_differences,
    negative_controls,
    scenarios,
    tolerances,
    without_gradient,
)
from .verdict import overview, sides, verdict

_STYLE = Path(__file__).with_name("page.css")


def page(report: ParityResult) -> str:
    """The page.

    Args:
        report: The results.

    Returns:
        A complete HTML document.
    """
    known = any(found.status == "known difference" for found in report.scenarios)
    return document(
        _title(report),
        _STYLE,
        verdict(report),
        section("The two sides", sides(report)),
        section("Scenarios", overview(report)),
        section(f"All {report.noun}s, in the order of computation", heatmap(report)),
        section("Scenarios in detail", *scenarios(report)),
        section("Parameters without a gradient", without_gradient(report))
        if report.gradients
        else "",
        section("Known differences", known_differences(report)) if known else "",
        section("Negative controls: would a fault be detected?", negative_controls(report)),
        section("Tolerances", tolerances(report)),
        section("Run it again", environment(report)),
    )


def framed(report: ParityResult) -> str:
    """The page in a frame, for a notebook: its style stays within the frame.

    Args:
        report: The results.

    Returns:
        An ``iframe`` element that contains the page and runs no scripts.
    """
    return element(
        "iframe",
        srcdoc=page(report),
        sandbox="",
        title=_title(report),
        style="width: 100%; height: 40rem; border: 0;",
    )


def _title(report: ParityResult) -> str:
    left, right = (f"{side.backend}:{side.source.name}" for side in (report.left, report.right))
    return f"Parity of {left} and {right}"
