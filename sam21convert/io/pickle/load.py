"""Read a pickle without running anything from it.

A small stack machine for the opcodes of protocols 0 to 5, following PEP 307, PEP 3154, PEP 574 and
the standard library's ``pickletools``. It never imports or calls what the pickle names: a global
becomes a :class:`Placeholder`, and only those in a table of :class:`Known` ones are evaluated, by
functions of this package.

Objects shared inside the pickle stay shared. Copying, hashing and traversal are all bounded, so
neither time nor memory grows faster than the size of the pickle.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import RefusedError, Sam21ConvertError, UnreadableError
from .machine import (
    BUFFERS,
    MAX_OPCODES,
    MODULES,
    NOT_SAVED,
    PARAMETERS,
    Args,
    Instance,
    Known,
    Machine,
    Persistent,
    Record,
)
from .opcodes import COSTS, HANDLERS
from .references import GlobalReference
from .stream import CutShortError, Data
from .values import PLAIN

__all__ = [
    "BUFFERS",
    "MODULES",
    "NOT_SAVED",
    "PARAMETERS",
    "Args",
    "CutShortError",
    "Instance",
    "Known",
    "Pickled",
    "Record",
    "Scan",
    "scan",
    "unpickle",
]

_MAX_DEPTH = 100
_NESTING = (tuple, list, dict, Record, Instance)  # the items of a set are never containers here


@dataclass(frozen=True, slots=True)
class Pickled:
    """The result of reading a pickle.

    Attributes:
        value: The value that the pickle describes.
        end: Position in the data just after the pickle.
        placeholders: Full names of the globals that were read as placeholders, in file order.
    """

    value: Any
    end: int
    placeholders: tuple[str, ...]


def unpickle(
    data: Data,
    where: str,
    *,
    start: int = 0,
    stop: int | None = None,
    known: Mapping[str, Any] | None = None,
    persistent: Persistent | None = None,
) -> Pickled:
    """Read one pickle without running anything from it.

    Args:
        data: Bytes that contain the pickle, or a file. Anything after its end is ignored.
        where: What the data is, for error messages, for example ``data.pkl``.
        start: Position in ``data`` at which the pickle begins.
        stop: Position behind the last byte that may belong to it; None for the end of ``data``.
        known: Values of more globals by full name, in addition to the few of ``builtins`` and
            ``collections`` that are always known. A :class:`Known` is evaluated when called.
        persistent: Resolves persistent ids; None if there must be none.

    Returns:
        The value, the end of the pickle, and the globals in it. Texts and data of more than 64 KiB
        are passed by: the value has a placeholder for each.

    Raises:
        CutShortError: If the data ends before the pickle does.
        UnreadableError: If the data is not a valid pickle, or not written the way ``pickle`` does.
        RefusedError: If the pickle has too many opcodes, or its values take too much memory, are
            nested too deeply or refer to each other too often.

    Errors raised by ``known`` and ``persistent`` are passed on, with the position in front.
    """
    machine = Machine(data, start, stop, {**PLAIN, **(known or {})}, persistent)
    try:
        value = machine.run(HANDLERS, COSTS)
        _check_walkable(value, max(1_000_000, machine.position - start))
    except Sam21ConvertError as error:
        message = f"{where}, byte {machine.opened}: {error.message}"
        raise type(error)(message, hint=error.hint) from None
    return Pickled(value, machine.position, tuple(machine.placeholders))


@dataclass(frozen=True, slots=True)
class Scan:
    """What a pickle would import and call.

    Attributes:
        references: The globals, in the order in which they come.
        end: Position just after the pickle; None if it is broken, cut short or too large.
        doubts: Why two programs may read the pickle differently.
        complete: False if the pickle is too large to be looked through.
        opcodes: Number of its opcodes.
    """

    references: tuple[GlobalReference, ...]
    end: int | None
    doubts: tuple[str, ...]
    complete: bool
    opcodes: int


def scan(data: Data, start: int = 0, stop: int | None = None, most: int = MAX_OPCODES) -> Scan:
    """Look for what one pickle would import and call, valid or not.

    It is interpreted by the machine that :func:`unpickle` uses, as far as opcodes can be told
    apart.

    Args:
        data: Bytes that contain the pickle, or a file.
        start: Position in ``data`` at which the pickle begins.
        stop: Position behind the last byte that may belong to it; None for the end of ``data``.
        most: How many opcodes to look at.

    Returns:
        What was found.
    """
    machine = Machine(data, start, stop)
    end, complete = None, True
    try:
        machine.run(HANDLERS, COSTS, most)
        end = machine.position
    except UnreadableError:
        machine.end_frame_early()
    except RefusedError:
        complete = False
    machine.mark_escaped()
    references = tuple(
        found for found in machine.references.values() if not found.naming == found.count > 0
    )
    return Scan(references, end, tuple(machine.doubts), complete, machine.opcodes + 1)


def _check_walkable(root: Any, limit: int) -> None:
    """Refuse a value that would take too long to traverse.

    Code that follows every reference visits a shared part once per reference, so a small pickle
    can describe a tree of exponential size. Parts are therefore counted as often as they are
    referenced, and ``limit`` is at least the size of the pickle, which unshared parts never exceed.
    """
    done: dict[int, tuple[int, int]] = {}  # id -> (depth, number of parts) of a finished value
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
            if len(entered) - len(done) >= _MAX_DEPTH:  # unfinished values contain each other
                raise RefusedError(f"the values are nested more than {_MAX_DEPTH} deep")
            entered.add(id(value))
            todo.append((value, True))
            todo.extend((part, False) for part in nested)


def _parts(value: Any) -> Collection[Any]:
    if isinstance(value, Record):
        return (value.state,)
    if isinstance(value, Instance):
        return value.state.values()
    return value.values() if isinstance(value, dict) else value
