"""Leave out tensors that are not part of SAM 2, such as a head of the user's own: ``drop``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ..dialects.rules import Dialect
from ..errors import RefusedError, UsageError, call_of
from .parts import folded, modules_of, names_of
from .state_dict import Unwrapped

_MAX_PATTERNS = 4  # in a hint


def dropped_by(
    patterns: Sequence[str], found: Unwrapped, dialect: Dialect | None, path: Path
) -> list[str]:
    """Find the tensors that patterns name.

    Args:
        patterns: names, in which ``*`` stands for any text, ``?`` for a character and ``[ab]`` for
            one of several.
        found: the state dict.
        dialect: its dialect.
        path: the file, as a message names it.

    Returns:
        The names, in the order of the file. They may be in the state dict or beside it.

    Raises:
        UsageError: when a pattern matches nothing.
        RefusedError: when one matches a tensor of SAM 2, or one that stands within its modules.
    """
    dropped: dict[str, None] = {}
    for pattern in patterns:
        names = [n for n in (*found.tensors, *found.extra_tensors) if fnmatchcase(n, pattern)]
        if not names:
            raise UsageError(
                f"{path}: `drop={shlex.quote(pattern)}` matches no tensor",
                hint=f"{call_of('inspect', path, 'tensors=True')} lists the names",
            )
        own = [name for name in names if name in found.tensors]
        within = [name for name in own if is_within(name, dialect)]
        if within:
            more = f" and {len(within) - 3} more" if len(within) > 3 else ""
            raise RefusedError(
                f"{path}: `drop={shlex.quote(pattern)}` matches {', '.join(within[:3])}{more}: "
                "without it this would be another model",
                hint="only what stands beside the modules of SAM 2 can be left out",
            )
        dropped.update(dict.fromkeys(names))
    return list(dropped)


def is_within(name: str, dialect: Dialect | None) -> bool:
    """Tell whether a tensor is one of SAM 2, or stands within one of its modules.

    Args:
        name: its name in the state dict.
        dialect: the dialect of the names; None when it is unknown.

    Returns:
        False for a tensor beside the modules of SAM 2.
    """
    if dialect is None:
        return True
    return name.partition(".")[0] in modules_of(dialect) or folded(name) in names_of(dialect)


def patterns_for(names: Iterable[str], dialect: Dialect) -> Iterator[str]:
    """Choose patterns for tensors that are not part of SAM 2, as short as is safe.

    Args:
        names: names of tensors that stand beside the modules of SAM 2.
        dialect: the dialect of the state dict.

    Yields:
        ``head.*`` for all that begin with ``head.``, or longer ones where SAM 2 has such names.
    """
    seen: list[str] = []
    for name in names:
        if any(fnmatchcase(name, pattern) for pattern in seen):
            continue
        steps = [at for at, sign in enumerate(name) if sign == "."]
        heads = (name[: at + 1] for at in steps)
        free = (h for h in heads if not any(f"{own}.".startswith(h) for own in names_of(dialect)))
        head = next(free, None)
        pattern = _literal(name) if head is None else f"{_literal(head)}*"
        seen.append(pattern)
        yield pattern


def drop_options(names: Sequence[str], dialect: Dialect) -> list[str]:
    """Write the options that leave out tensors.

    Args:
        names: names of tensors that stand beside the modules of SAM 2.
        dialect: the dialect of the state dict.

    Returns:
        The options, for a hint; none when one could not be typed.
    """
    patterns = list(patterns_for(names, dialect))
    if len(patterns) > _MAX_PATTERNS:
        patterns = []
    if not patterns or any(re.search(r"[\s`']", one) or not one.isprintable() for one in patterns):
        return []
    return [f"drop='{pattern}'" for pattern in patterns]


def _literal(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)
