"""For mkdocs: references in docstrings, such as ``:func:`~sam21convert.diff```, become links."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)  # griffe knows the section by its plural
_ROLE = re.compile(r":(?:attr|class|func|meth|mod):`(~?)([\w.]+)`")


@cache
def _on_the_page() -> frozenset[str]:
    """The names that the reference shows."""
    text = Path(__file__).with_name("api.md").read_text("utf-8")
    return frozenset(re.findall(r"^::: ([\w.]+)", text, re.MULTILINE))


def linked(text: str) -> str:
    """Rewrite a docstring as Markdown.

    Args:
        text: The docstring.

    Returns:
        The same with links to what the reference shows, and the names of the rest as code.
    """

    def link(found: re.Match[str]) -> str:
        name = found[2]
        shown = f"`{name.rpartition('.')[2] if found[1] else name}`"
        homes = ("", "sam21convert.", "sam21convert.model.")
        targets = (home + name for home in homes if home + name in _on_the_page())
        target = next(targets, None)
        return shown if target is None else f"[{shown}][{target}]"

    text = _EXAMPLE.sub(r"\1Examples:", text)
    return _ROLE.sub(link, text).replace("``", "`")


class Roles(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one.

        Args:
            obj: What has a docstring, or none.
            **_: Not used.
        """
        if obj.docstring is not None:
            obj.docstring.value = linked(obj.docstring.value)
