"""The arguments of a call in a pickle as text for people: short, and on one line."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

from ...report import one_line
from ..source import Placeholder
from .references import COMPUTED, GlobalReference

_LONGEST = 200  # characters of all arguments of a call
_TEXT = 120  # characters of a text, or bytes of data
_NAME = 80
_ITEMS = 4  # of a list, at each of the levels
_LEVELS = 3


def arguments_text(args: Any) -> str:
    """Write the arguments of a call.

    The time that this takes does not depend on their size.

    Args:
        args: The arguments, as the machine that looks for calls has them.

    Returns:
        Such as ``("echo hello")``, with what does not fit as ``...``.
    """
    if type(args) is not tuple:
        return "(...)"
    text = ", ".join(_shown(one, 1) for one in args[:_ITEMS])
    more = ", ..." if len(args) > _ITEMS else ""
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    # What stands between backticks in our texts is rewritten for the command line.
    return f"({text}{more})".replace("`", r"\x60")


def _shown(value: Any, level: int) -> str:
    if isinstance(value, str):
        # Quotes and backslashes of the text are escaped, so that it cannot end itself.
        more = "..." if len(value) > _TEXT else ""
        return one_line(json.dumps(value[:_TEXT], ensure_ascii=False)) + more
    if isinstance(value, (bytes, bytearray)):
        return repr(bytes(value[:_TEXT])) + ("..." if len(value) > _TEXT else "")
    if isinstance(value, int) and value.bit_length() > 64:
        return "a long number"
    if value is None or isinstance(value, (int, float, complex)):
        return repr(value)
    if isinstance(value, GlobalReference):
        return one_line(f"{value.module[:_NAME]}.{value.name[:_NAME]}")
    if isinstance(value, Placeholder):
        return "..." if value.name == COMPUTED else f"long {value.name}"
    return _items(value, level)


def _items(value: Any, level: int) -> str:
    """What holds others: the first items."""
    if not isinstance(value, (tuple, list, dict, set)) or level == _LEVELS:
        return "..."
    more = ["..."] if len(value) > _ITEMS else []
    if isinstance(value, dict):
        pairs = islice(value.items(), _ITEMS)
        shown = [f"{_shown(key, level + 1)}: {_shown(one, level + 1)}" for key, one in pairs]
        return "{" + ", ".join(shown + more) + "}"
    shown = [_shown(one, level + 1) for one in islice(value, _ITEMS)] + more
    left, right = ("[", "]") if isinstance(value, list) else ("(", ")")
    return left + ", ".join(shown) + right
