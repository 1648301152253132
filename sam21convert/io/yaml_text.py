"""Parse YAML that anybody may have written: a bounded tree, and errors that quote nothing of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RefusedError, UnreadableError

if TYPE_CHECKING:
    import yaml

_MAX_NODES = 200_000  # values, counting each use of an anchor; a config has hundreds
_MAX_DEPTH = 100
_MAX_MEMBERS = 1000  # of a mapping: its keys may be chosen so that each takes longer to insert
_KEPT = 1 << 16  # characters of a text that is not parsed again when it is read again
_MAX_SCALAR = 4096  # characters: a number to the base of 60 takes time that grows with its square

# What a message of the parser may quote: a kind of token, or one character that is no letter.
_QUOTED = re.compile(r"(?P<kept>'<[a-z ]+>'|'[^\w']'|'\\t')|['\"].*", re.DOTALL)


@dataclass
class _Open:
    """A list or mapping whose end was not reached yet.

    Attributes:
        anchor: Its anchor, if it has one.
        nodes: Number of values in it so far, itself included.
        members: Number of values directly in it.
        mapping: Whether it is a mapping.
    """

    anchor: str | None
    nodes: int
    members: int
    mapping: bool


def parse_yaml(path: Path, text: str) -> Any:
    """Parse a YAML document without tags.

    Nothing is built before all of it was counted, so anchors that refer to each other (a "billion
    laughs") and merged mappings cannot expand.

    Args:
        path: The file, for the error message.
        text: Its content. Its size must be bounded by the caller.

    Returns:
        The value, of plain Python types.

    Raises:
        UnreadableError: If it is not valid YAML; the message has the line and the column.
        RefusedError: If it holds too many values, or they are nested too deep.
    """
    import yaml  # takes longer to import than most files to inspect

    try:
        fault, value = deepcopy(_kept(text)) if len(text) <= _KEPT else _parsed(text)
    except yaml.YAMLError as error:
        raise UnreadableError(f"{path}: not valid YAML: {_reason(error)}") from error
    except (ValueError, OverflowError) as error:
        raise UnreadableError(f"{path}: not valid YAML: an impossible number or date") from error
    if fault is not None:
        raise RefusedError(f"{path}: {fault}", hint="check that it is the file that you meant")
    return value


def _parsed(text: str) -> tuple[str | None, Any]:
    """What a document has too much of, or its value."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is ten times as fast
    fault = _excess(yaml.parse(text, loader))
    return fault, None if fault else yaml.load(text, loader)  # noqa: S506 - either is safe


_kept = lru_cache(maxsize=8)(_parsed)  # a config is read for its settings, its notes, its names


def _excess(events: Iterator[yaml.Event]) -> str | None:
    """What a document has too much of, or None; nothing is built for it."""
    import yaml

    total, sizes, waiting = 0, dict[str, int](), list[_Open]()
    for event in events:
        if isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            closed = waiting.pop()
            anchor, nodes = closed.anchor, closed.nodes
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            mapping = isinstance(event, yaml.MappingStartEvent)
            waiting.append(_Open(event.anchor, 1, 0, mapping))
            if len(waiting) > _MAX_DEPTH:
                return f"nested deeper than {_MAX_DEPTH} levels"
            continue
        elif isinstance(event, yaml.AliasEvent):
            anchor, nodes = None, sizes.get(event.anchor or "", 1)
            if any(other.anchor == event.anchor for other in waiting):
                return "an anchor that refers to itself"
        elif isinstance(event, yaml.ScalarEvent):
            anchor, nodes = event.anchor, 1
            if len(event.value) > _MAX_SCALAR:
                return f"holds a value of more than {_MAX_SCALAR} characters"
        else:
            continue
        total += nodes
        if anchor is not None:
            sizes[anchor] = nodes
        if waiting:
            waiting[-1].nodes += nodes
            waiting[-1].members += 1
            if waiting[-1].mapping and waiting[-1].members > 2 * _MAX_MEMBERS:
                return f"holds a mapping of more than {_MAX_MEMBERS} values"
        if total > _MAX_NODES or nodes > _MAX_NODES:
            return "holds too many values, or anchors that refer to each other too often"
    return None


def _reason(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the lines of the file that the parser would show."""
    parts = [getattr(error, name, None) for name in ("context", "problem", "reason")]
    shown = ": ".join(
        _QUOTED.sub(lambda found: found["kept"] or "...", " ".join(part.split()))
        for part in parts
        if isinstance(part, str)
    )
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"{shown} (line {mark.line + 1}, column {mark.column + 1})"
    position = getattr(error, "position", None)
    return shown if position is None else f"{shown} (character {position + 1})"
