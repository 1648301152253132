"""The stack machine that reads pickles: its state, and what a name in a pickle stands for.

It imports nothing and calls nothing that the pickle names. A global is a :class:`Placeholder`, and
only the few that are :class:`Known` have a meaning, which is a function of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any, TypeAlias

from ...errors import RefusedError, UnreadableError
from ..source import Placeholder

Args: TypeAlias = tuple[Any, ...]
Persistent: TypeAlias = Callable[[Any], Any]

_MAX_STEPS = 400_000  # five times those of a training checkpoint; each can cost 400 bytes
_MAX_NAME = 200
_SIZED = (str, bytes, bytearray, tuple, list, dict)


class CutShortError(UnreadableError):
    """The data ends before the pickle does."""


@dataclass(frozen=True, slots=True, repr=False)
class Known(Placeholder):
    """A global with a meaning: ``build`` makes what calling it with these arguments would give.

    ``copies`` is set where what it makes holds a copy of its arguments.
    """

    build: Callable[[Args], Any]
    copies: bool = False


@dataclass(slots=True, eq=False)
class Record:
    """An object of a class whose attributes are of interest: ``state`` is what it is filled with.

    What ``as_key`` makes of that stands for it as the key of a dict.
    """

    as_key: Callable[[Any], Any] | None = None
    state: Any = None


class Stop(Exception):  # noqa: N818
    """The pickle is over."""


class Machine:
    """A pickle being read. MARK puts the stack aside and begins an empty one."""

    def __init__(
        self, data: bytes, start: int, known: Mapping[str, Any], persistent: Persistent | None
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

    def run(self, handlers: Sequence[Callable[[Machine], object]]) -> Any:
        """Read opcodes, each by its handler, and return the value that is left at the end."""
        data, size = self.data, len(self.data)
        position = self.position
        try:
            for _ in range(_MAX_STEPS):
                position = self.position
                if position >= size:
                    raise CutShortError("the data ends before the pickle does")
                self.position = position + 1
                handlers[data[position]](self)
            raise RefusedError(f"the pickle has more than {_MAX_STEPS:,} opcodes")
        except Stop:
            return self.pop()
        finally:
            self.opened = position

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if count < 0:
            raise UnreadableError("a length is negative")
        piece = self.data[self.position : self.position + count]
        if len(piece) != count:
            raise CutShortError("the data ends before the pickle does")
        self.position += count
        return piece

    def number(self, packed: Struct) -> Any:
        """The next number, as ``packed`` spells it."""
        try:
            (value,) = packed.unpack_from(self.data, self.position)
        except StructError:
            raise CutShortError("the data ends before the pickle does") from None
        self.position += packed.size
        return value

    def line(self) -> bytes:
        """The rest of the line, without its end."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise CutShortError("the data ends before the pickle does")
        start, self.position = self.position, end + 1
        return self.data[start:end]

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the value from the top of the stack."""
        if not self.stack:
            raise UnreadableError("there is no value on the stack")
        return self.stack.pop()

    def top(self) -> Any:
        """The value on the top of the stack."""
        if not self.stack:
            raise UnreadableError("there is no value on the stack")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        """Everything above the last MARK, which is taken away."""
        if not self.aside:
            raise UnreadableError("there is no MARK on the stack")
        items, self.stack = self.stack, self.aside.pop()
        return items

    def recall(self, number: int) -> None:
        """Put a memo entry on the stack."""
        if number not in self.memo:
            raise UnreadableError("a memo entry is used that was never set")
        self.stack.append(self.memo[number])

    def placeholder(self, name: str) -> Placeholder:
        """The placeholder of this name, which is listed and made fit to print."""
        if not name.isprintable():
            name = ascii(name)[1:-1]
        return self.placeholders.setdefault(name, Placeholder(name))

    def find(self, module: str, name: str) -> Any:
        """The value of a global."""
        module = "builtins" if module == "__builtin__" else module  # its name in Python 2
        full = f"{module[:_MAX_NAME]}.{name[:_MAX_NAME]}"  # bounded, as it can be named again
        return self.known[full] if full in self.known else self.placeholder(full)

    def call(self, function: Any, args: Any) -> Any:
        """What calling a global gives; for an unknown one that is the same placeholder."""
        if not isinstance(function, Placeholder):
            raise UnreadableError(f"a {type(function).__name__} is called like a function")
        if not isinstance(function, Known):
            return function
        if type(args) is not tuple:
            raise UnreadableError(f"the arguments of {function.name} are not a tuple")
        if args and function.copies:
            self.copied += sum(len(arg) for arg in args if isinstance(arg, _SIZED))
            # Each argument stands in the pickle, so only those used over and over exceed this.
            if self.copied > 2 * len(self.data) + 1000:
                raise RefusedError("the pickle copies the same data over and over")
        result = function.build(args)
        return self.placeholder(result.name) if type(result) is Placeholder else result
