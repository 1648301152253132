"""HTML as text that is known to be safe, and how numbers are written in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from ..findings import ActivationResult
from ..report import short

_VOID = {"img", "meta"}


class Markup(str):
    """Text that is HTML already; every other text is escaped when it comes into a page."""

    __slots__ = ()


def element(tag: str, *children: str, cls: str = "", **attributes: str) -> Markup:
    """One element, ``cls`` its class. Underscores in names of attributes become dashes."""
    given = {"class": cls, **attributes} if cls else attributes
    head = "".join(f' {name.replace("_", "-")}="{escape(value)}"' for name, value in given.items())
    if tag in _VOID:
        return Markup(f"<{tag}{head}>")
    return Markup(f"<{tag}{head}>{joined(*children)}</{tag}>")


def joined(*parts: str) -> Markup:
    """Parts one after another."""
    return Markup("".join(safe(part) for part in parts))


def safe(text: str) -> Markup:
    """Text as HTML."""
    return text if isinstance(text, Markup) else Markup(escape(text))


def ratio(activation: ActivationResult) -> str:
    """A difference in units of what is allowed: ``0.26``; nothing where either is 0."""
    times = activation.relative / activation.tolerance if activation.tolerance else 0.0
    return f"{times:.2f}" if 0.01 <= times < 100 else short(times) if times else ""


def share(value: float | None) -> str:
    """An IoU: 1 only where it is exactly that."""
    if value is None:
        return ""
    return f"{value:g}" if value in (0, 1) else f"{min(value, 0.9999):.4f}"


def percent(value: float | None) -> str:
    """A share of pixels: ``0.12 %``, and 0 only where it is exactly that."""
    if value is None:
        return ""
    return "0" if value == 0 else f"{max(100 * value, 0.01):.2f} %"


def counted(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count:,} {noun if count == 1 else noun + 's'}"


def code(text: str | None) -> Markup:
    """A name or a path."""
    return element("code", breakable(text or ""))


def breakable(text: str) -> Markup:
    """Text whose long names may be broken after their dots, slashes and underscores."""
    parts = [safe(part) for part in re.split(r"(?<=[./_])(?=\w)", text)]
    return Markup("<wbr>".join(parts))


def lines(texts: Iterable[str]) -> Markup:
    """One below the other; nothing for none."""
    items = [element("li", text) for text in texts]
    return element("ul", *items) if items else Markup("")
