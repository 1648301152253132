"""HTML as a type of its own, so that all other text is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_VOID = {"img", "meta"}


class Markup(str):
    """Text that is HTML. Any other text is escaped when it is put into an element."""

    __slots__ = ()


def element(tag: str, *children: str, cls: str = "", **attributes: str) -> Markup:
    """One HTML element.

    Args:
        tag: Its name.
        *children: HTML, or text to escape.
        cls: Its class; none when empty.
        **attributes: Further attributes. Underscores in names become dashes; values are escaped.

    Returns:
        The element.
    """
    named = {"class": cls, **attributes} if cls else attributes
    head = "".join(f' {name.replace("_", "-")}="{escape(value)}"' for name, value in named.items())
    if tag in _VOID:
        return Markup(f"<{tag}{head}>")
    return Markup(f"<{tag}{head}>{joined(*children)}</{tag}>")


def joined(*parts: str) -> Markup:
    """Several pieces, one after another.

    Args:
        *parts: HTML, or text to escape.

    Returns:
        One piece of HTML.
    """
    return Markup("".join(safe(part) for part in parts))


def safe(text: str) -> Markup:
    """Text as HTML.

    Args:
        text: HTML, which is returned as it is, or text to escape.

    Returns:
        HTML.
    """
    return text if isinstance(text, Markup) else Markup(escape(text))


def code(text: str | None) -> Markup:
    """A name or a path in a ``code`` element.

    Args:
        text: The name; None for an empty element.

    Returns:
        The element, in which long names may be broken.
    """
    return element("code", breakable(text or ""))


def breakable(text: str) -> Markup:
    """Text in which long names may be broken after dots, slashes and underscores.

    Args:
        text: HTML without tags, or text to escape.

    Returns:
        The text with ``wbr`` elements.
    """
    parts = [safe(part) for part in re.split(r"(?<=[./_])(?=\w)", text)]
    return Markup("<wbr>".join(parts))


def lines(texts: Iterable[str]) -> Markup:
    """Texts as a list, one below the other.

    Args:
        texts: HTML, or text to escape.

    Returns:
        A ``ul`` element; nothing for no texts.
    """
    items = [element("li", text) for text in texts]
    return element("ul", *items) if items else Markup("")
