"""Read a pickle without running anything from it.

A small stack machine for the opcodes of protocols 0 to 5, after PEP 307, PEP 3154, PEP 574 and the
descriptions in the standard library's ``pickletools``. It imports nothing and calls nothing that
the pickle names: a global is a :class:`Placeholder`, and only the few that are :class:`Known` have
a meaning, which is a function of ours.

Structure shared inside the pickle stays shared. Nothing is copied, hashed or walked without a
bound, so neither time nor memory grows faster than the pickle itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import RefusedError, Sam21ConvertError
from .machine import Args, CutShortError, Known, Machine, Persistent, Record
from .opcodes import HANDLERS
from .values import PLAIN

__all__ = ["Args", "CutShortError", "Known", "Pickled", "Record", "unpickle"]

_MAX_DEPTH = 100
_NESTING = (tuple, list, dict, Record)  # a set holds no containers here


@dataclass(frozen=True, slots=True)
class Pickled:
    """What a pickle holds, where it ends, and which globals without a meaning it names."""

    value: Any
    end: int
    placeholders: tuple[str, ...]


def unpickle(
    data: bytes,
    where: str,
    *,
    start: int = 0,
    known: Mapping[str, Any] | None = None,
    persistent: Persistent | None = None,
) -> Pickled:
    """Read the pickle that begins at ``data[start]``; ``where`` names the data in errors.

    ``known`` gives the values of some globals by their full names, besides the few of ``builtins``
    and ``collections`` that are known anyway. ``persistent`` resolves persistent ids. Both may
    raise errors; the place in the pickle is added to them.

    Raises :class:`CutShortError` when the data ends too early, :class:`UnreadableError` when it is
    not a pickle, and :class:`RefusedError` for one that is too large or too deep to make sense.
    """
    machine = Machine(data, start, {**PLAIN, **(known or {})}, persistent)
    try:
        value = machine.run(HANDLERS)
        _check_walkable(value, max(1_000_000, machine.position - start))
    except Sam21ConvertError as error:
        message = f"{where}, byte {machine.opened}: {error.message}"
        raise type(error)(message, hint=error.hint) from None
    return Pickled(value, machine.position, tuple(machine.placeholders))


def _check_walkable(root: Any, limit: int) -> None:
    """Refuse a value that code which follows every reference could not get through.

    Such code sees shared parts anew each time, ``limit`` parts at most. What is not shared cannot
    have more parts than its pickle has bytes.
    """
    done: dict[int, tuple[int, int]] = {}  # id -> how deep it nests, how many parts it has
    entered: set[int] = set()
    todo = [(root, False)]
    while todo:
        value, leaving = todo.pop()
        if not isinstance(value, _NESTING) or id(value) in done:
            continue
        parts = _parts(value)
        nested = [part for part in parts if isinstance(part, _NESTING)]
        if not nested:
            done[id(value)] = 1, len(parts)
            entered.add(id(value))
        elif leaving:
            below = [done[id(part)] for part in nested]
            depth = 1 + max((depth for depth, _ in below), default=0)
            count = len(parts) + sum(count for _, count in below)
            if depth > _MAX_DEPTH:
                raise RefusedError(f"the values are nested more than {_MAX_DEPTH} deep")
            if count > limit:
                raise RefusedError("the values refer to each other too many times")
            done[id(value)] = depth, count
        elif id(value) in entered:
            raise RefusedError("a value contains itself")
        else:
            if len(entered) - len(done) >= _MAX_DEPTH:  # those that are open hold each other
                raise RefusedError(f"the values are nested more than {_MAX_DEPTH} deep")
            entered.add(id(value))
            todo.append((value, True))
            todo.extend((part, False) for part in nested)


def _parts(value: Any) -> Collection[Any]:
    if isinstance(value, Record):
        return (value.state,)
    return value.values() if isinstance(value, dict) else value
