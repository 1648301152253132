"""A parity report as one HTML page, which runs no scripts and loads nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from ..findings import ParityResult
from .heatmap import heatmap
from .markup import Markup, element, joined
from .sections import environment, known_differences, negative_controls, scenarios, tolerances
from .verdict import overview, sides, verdict

_STYLE = Path(__file__).with_name("page.css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(report: ParityResult) -> str:
    """The page.

    Args:
        report: The results.

    Returns:
        A complete HTML document.
    """
    title = _title(report)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(_STYLE.read_text(encoding="utf-8"))),
    )
    known = any(found.status == "known difference" for found in report.scenarios)
    body = element(
        "body",
        element("header", element("h1", title)),
        element(
            "main",
            verdict(report),
            _section("The two sides", sides(report)),
            _section("Scenarios", overview(report)),
            _section("All activations, in the order of computation", heatmap(report)),
            _section("Scenarios in detail", *scenarios(report)),
            _section("Known differences", known_differences(report)) if known else "",
            _section("Negative controls: would a fault be detected?", negative_controls(report)),
            _section("Tolerances", tolerances(report)),
            _section("Run it again", environment(report)),
        ),
    )
    return joined(Markup("<!doctype html>\n"), element("html", head, body, lang="en")) + "\n"


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


def _section(title: str, *parts: str) -> Markup:
    return element("section", element("h2", title), *parts)
