"""Keywords that nothing takes: the official code ignores them in silence, here they are told."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

_PACKAGE = __name__.partition(".")[0]


def keywords_of(*functions: Callable[..., Any]) -> list[str]:
    """List the names of the arguments that functions take.

    Args:
        *functions: Functions and classes.

    Returns:
        The names, without those of ``*args`` and ``**kwargs``.
    """
    parameters = (p for one in functions for p in inspect.signature(one).parameters.values())
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def warn_of_unknown(who: str, kwargs: Mapping[str, Any], known: Iterable[str]) -> None:
    """Warn of each keyword that has no effect, in the line that calls this package.

    Args:
        who: The function that was called.
        kwargs: The keywords that it does not take.
        known: Names of those that there are, for a proposal.
    """
    for name in kwargs:
        warn(f"{who}: there is no argument {name!r}, so it has no effect{nearest(name, known)}")


def divided(
    owner: type, builder: Callable[..., Any], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide the keywords of ``from_pretrained``, and warn of those that have no effect.

    Args:
        owner: The class that is made.
        builder: What builds its model.
        kwargs: The keywords.

    Returns:
        Those of the class, and those of the builder.
    """
    of_owner, of_builder = keywords_of(owner), keywords_of(builder)
    known = {*of_owner, *of_builder}
    unknown = {name: value for name, value in kwargs.items() if name not in known}
    warn_of_unknown(f"{owner.__name__}.from_pretrained", unknown, [*of_owner, *of_builder])
    own = {name: kwargs[name] for name in of_owner if name in kwargs}
    return own, {name: kwargs[name] for name in kwargs if name in known and name not in own}


def nearest(name: str, known: Iterable[str]) -> str:
    """Propose what somebody may have meant.

    Args:
        name: What was written.
        known: What there is.

    Returns:
        The end of a message, such as ``; did you mean 'image_size'?``; nothing if none is alike.
    """
    alike = get_close_matches(name, list(known), n=1)
    return f"; did you mean {alike[0]!r}?" if alike else ""


def warn(message: str) -> None:
    """Warn, in the line that calls this package.

    Args:
        message: What to say.
    """
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
