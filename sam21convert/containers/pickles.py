"""Read a pickle without running anything from it.

A small stack machine for the opcodes of protocols 0 to 5, after PEP 307, PEP 3154, PEP 574 and the
descriptions in the standard library's ``pickletools``. It imports nothing and calls nothing that
the pickle names: a global is a :class:`Placeholder`, and only the few that are :class:`Known` have
a meaning, which is a function of ours.

Structure shared inside the pickle stays shared. Nothing is copied, hashed or walked without a
bound, so neither time nor memory grows faster than the pickle itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any, TypeAlias

from ..errors import RefusedError, Sam21ConvertError, UnreadableError
from .source import Placeholder

Args: TypeAlias = tuple[Any, ...]

_MAX_PROTOCOL = 5
_MAX_STEPS = 10_000_000  # an opcode of one byte can cost 200 bytes of memory
_MAX_DEPTH = 100
_MAX_DIGITS = 4300  # Python's own limit where it has one: longer numbers take quadratic time
_MAX_KEY = 16
_MAX_NAME = 200


class CutShortError(UnreadableError):
    """The data ends before the pickle does."""


@dataclass(frozen=True, slots=True, repr=False)
class Known(Placeholder):
    """A global with a meaning: ``build`` makes what calling it with these arguments would give."""

    build: Callable[[Args], Any]


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
    persistent: Callable[[Any], Any] | None = None,
) -> Pickled:
    """Read the pickle that begins at ``data[start]``; ``where`` names the data in errors.

    ``known`` gives the values of some globals by their full names, in addition to the containers
    of ``builtins`` and ``collections``. ``persistent`` resolves persistent ids. Errors that their
    functions raise are completed with the place in the pickle.

    Raises :class:`CutShortError` when the data ends too early, :class:`UnreadableError` when it is
    not a pickle, and :class:`RefusedError` for one that is too large or too deep to be sensible.
    """
    machine = _Machine(data, start, {**_PLAIN, **(known or {})}, persistent)
    try:
        value = machine.run()
        _check_walkable(value, max(1_000_000, machine.position - start))
    except Sam21ConvertError as error:
        message = f"{where}, byte {machine.opened}: {error.message}"
        raise type(error)(message, hint=error.hint) from None
    return Pickled(value, machine.position, tuple(machine.placeholders))


class _Machine:
    """The state of a pickle being read. MARK sets the stack aside and begins an empty one."""

    def __init__(
        self,
        data: bytes,
        start: int,
        known: Mapping[str, Any],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        self.data = data
        self.position = self.opened = start  # opened: where the current opcode stands
        self.known = known
        self.persistent = persistent
        self.stack: list[Any] = []
        self.aside: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.placeholders: dict[str, Placeholder] = {}
        self.copied = 0

    def run(self) -> Any:
        for _ in range(_MAX_STEPS):
            self.opened = self.position
            code = self.take(1)[0]
            if code == _STOP:
                return self.pop()
            handler = _HANDLERS[code]
            if handler is None:
                raise UnreadableError(f"0x{code:02x} is not a pickle opcode")
            handler(self)
        raise RefusedError(f"the pickle has more than {_MAX_STEPS:,} opcodes")

    def take(self, count: int) -> bytes:
        piece = self.data[self.position : self.position + count]
        if len(piece) < count:
            raise CutShortError("the data ends in the middle of a pickle")
        self.position += count
        return piece

    def number(self, packed: Struct) -> Any:
        return packed.unpack(self.take(packed.size))[0]

    def sized(self, packed: Struct) -> bytes:
        count = self.number(packed)
        if count < 0:
            raise UnreadableError("a length is negative")
        return self.take(count)

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise CutShortError("the data ends in the middle of a line")
        start, self.position = self.position, end + 1
        return self.data[start:end]

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise UnreadableError("the stack is empty")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise UnreadableError("the stack is empty")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        if not self.aside:
            raise UnreadableError("there is no MARK on the stack")
        items, self.stack = self.stack, self.aside.pop()
        return items

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise UnreadableError("a memo entry is used that was never set")
        self.stack.append(self.memo[index])

    def placeholder(self, name: str) -> Placeholder:
        if len(name) > _MAX_NAME:
            name = f"{name[:_MAX_NAME]}..."
        if not name.isprintable():
            name = ascii(name)[1:-1]
        return self.placeholders.setdefault(name, Placeholder(name))

    def find(self, module: str, name: str) -> Any:
        """The value of a global."""
        module = "builtins" if module == "__builtin__" else module  # its name in Python 2
        full = f"{module}.{name}"
        return self.known[full] if full in self.known else self.placeholder(full)

    def call(self, function: Any, args: Any) -> Any:
        """What calling a global gives: for an unknown one, its placeholder."""
        if not isinstance(function, Placeholder):
            raise UnreadableError(f"a {type(function).__name__} is called as a function")
        if not isinstance(function, Known):
            return function
        if type(args) is not tuple:
            raise UnreadableError(f"{function.name} is called with a {type(args).__name__}")
        # Each argument stands in the pickle, so only arguments used over and over exceed this.
        self.copied += sum(len(arg) for arg in args if isinstance(arg, _SIZED))
        if self.copied > 2 * len(self.data) + 1000:
            raise RefusedError("the pickle copies the same data over and over")
        result = function.build(args)
        return self.placeholder(result.name) if type(result) is Placeholder else result


_SIZED = (str, bytes, bytearray, tuple, list, dict)


def _check_walkable(root: Any, limit: int) -> None:
    """Refuse a value that code which follows every reference could not get through.

    Such code sees shared parts anew each time, ``limit`` of them at most; an unshared value cannot
    have more parts than its pickle has bytes.
    """
    seen: dict[int, tuple[int, int]] = {}  # id -> depth and number of parts
    path: list[tuple[Any, Iterator[Any], list[int]]] = [(root, _parts(root), [0, 1])]
    inside = {id(root)}
    while path:
        value, parts, (depth, count) = path[-1]
        for part in parts:
            below = seen.get(id(part), (0, 1)) if isinstance(part, _NESTING) else (0, 1)
            if isinstance(part, _NESTING) and id(part) not in seen:
                if id(part) in inside or len(path) == _MAX_DEPTH:
                    raise RefusedError(f"the values are nested more than {_MAX_DEPTH} deep")
                inside.add(id(part))
                path.append((part, _parts(part), [0, 1]))
                break
            depth, count = max(depth, below[0] + 1), count + below[1]
        else:
            pass
    del value
