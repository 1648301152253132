"""A whole page: its style, which every page shares, and its head."""

from __future__ import annotations

from pathlib import Path

from .elements import Markup, element, joined

_STYLE = Path(__file__).with_name("base.css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, style: Path, *parts: str) -> str:
    """A page that runs no scripts and loads nothing from elsewhere.

    Args:
        title: Its title, which is shown above its parts.
        style: A file of CSS for what other pages do not have.
        *parts: HTML, or text to escape.

    Returns:
        A complete HTML document.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", *(Markup(path.read_text(encoding="utf-8")) for path in (_STYLE, style))),
    )
    body = element("body", element("header", element("h1", title)), element("main", *parts))
    return joined(Markup("<!doctype html>\n"), element("html", head, body, lang="en")) + "\n"


def section(title: str, *parts: str) -> Markup:
    """A part of a page with a title.

    Args:
        title: The title.
        *parts: HTML, or text to escape.

    Returns:
        A ``section`` element.
    """
    return element("section", element("h2", title), *parts)


def verdict(answer: str, *parts: str, yes: bool | None) -> Markup:
    """The answer of a page, which is coloured.

    Args:
        answer: The answer in a few words.
        *parts: HTML, or text to escape.
        yes: Whether it is good news; None if there is nothing to judge.

    Returns:
        A ``section`` element.
    """
    glyph, cls = {True: ("✓", "yes"), False: ("✕", "no"), None: ("", "open")}[yes]
    mark = element("span", glyph, cls="glyph", aria_hidden="true") if glyph else ""
    text = element("div", element("h2", answer), *parts)
    return element("section", mark, text, cls=f"verdict {cls}")
