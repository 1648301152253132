"""A parity report as one self-contained page: no scripts, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from ...io.output.atomic import new_folder
from ..report import ParityReport
from .heatmap import heat
from .markup import Markup, element, joined
from .sections import circumstances, known_differences, measured, negative_controls, scenarios
from .verdict import overview, sides, verdict

_STYLE = Path(__file__).with_name("page.css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(report: ParityReport, folder: Path, *, overwrite: bool = False) -> Path:
    """Write ``index.html`` and ``report.json`` into a folder, and return the path of the page.

    The folder is made where there is none. Raises :class:`UsageError` for one with something in it
    unless ``overwrite`` is true; other files in it stay. Both files appear whole or not at all.
    """
    with new_folder(folder, overwrite=overwrite) as new:
        (new / "index.html").write_text(page(report), encoding="utf-8")
        (new / "report.json").write_text(report.to_json() + "\n", encoding="utf-8")
    return folder / "index.html"


def page(report: ParityReport) -> str:
    """The page as HTML."""
    names = [f"{side.backend}:{side.source.name}" for side in (report.left, report.right)]
    title = f"Parity of {names[0]} and {names[1]}"
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
            _section("Every activation, in the order of the data flow", heat(report)),
            _section("What was asked, and what came back", *scenarios(report)),
            _section("Known differences", known_differences(report)) if known else "",
            _section("Would a difference have been detected?", negative_controls(report)),
            _section("What is allowed", measured(report)),
            _section("To repeat it", circumstances(report)),
        ),
    )
    return joined(Markup("<!doctype html>\n"), element("html", head, body, lang="en")) + "\n"


def _section(title: str, *parts: str) -> Markup:
    return element("section", element("h2", title), *parts)
