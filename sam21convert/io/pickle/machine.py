"""The stack machine that reads pickles: its state, and the lookup and calling of globals.

It never imports or calls what a pickle names. A global becomes a :class:`Placeholder`, and only a
:class:`Known` one is evaluated, by a function of this package.
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

_MAX_STEPS = 400_000  # opcodes, five times those of a training checkpoint; up to 400 bytes each
_MAX_NAME = 200  # characters kept of the name of a module or a global
_SIZED = (str, bytes, bytearray, tuple, list, dict)


class CutShortError(UnreadableError):
    """The data ends before the pickle does."""


@dataclass(frozen=True, slots=True, repr=False)
class Known(Placeholder):
    """A global that is evaluated when the pickle calls it.

    Attributes:
        build: Takes the arguments and returns what the call stands for.
        copies: Whether the result holds a copy of the arguments, so that repeated calls on the
            same data must be limited.
    """

    build: Callable[[Args], Any]
    copies: bool = False


@dataclass(slots=True, eq=False)
class Record:
    """An object of a class whose attributes are needed, read without importing the class.

    Attributes:
        as_key: Makes a dict key from the state, for objects that are used as keys; or None.
        state: What the pickle sets as the state of the object, usually a dict of attributes.
    """

    as_key: Callable[[Any], Any] | None = None
    state: Any = None


class Stop(Exception):  # noqa: N818
    """Raised by the handler of the STOP opcode, which ends the pickle."""


class Machine:
    """The state of a pickle that is being read.

    As in CPython's unpickler, MARK puts the current stack aside and begins an empty one.

    Args:
        data: Bytes that contain the pickle.
        start: Position at which it begins.
        known: Values of globals by full name.
        persistent: Resolves persistent ids; None if there must be none.
    """

    def __init__(
        self, data: bytes, start: int, known: Mapping[str, Any], persistent: Persistent | None
    ) -> None:
        self.data = data
        self.position = self.opened = start  # opened: position of the current opcode
        self.known = known
        self.persistent = persistent
        self.stack: list[Any] = []
        self.aside: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.placeholders: dict[str, Placeholder] = {}
        self.copied = 0  # items and bytes that calls have copied so far

    def run(self, handlers: Sequence[Callable[[Machine], object]]) -> Any:
        """Read opcodes until the pickle ends.

        Args:
            handlers: Handler of each opcode, indexed by its byte.

        Returns:
            The value on top of the stack at the end.

        Raises:
            CutShortError: If the data ends before the pickle does.
            RefusedError: If there are too many opcodes.
        """
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
        """Read bytes.

        Args:
            count: How many.

        Returns:
            Exactly that many bytes.

        Raises:
            UnreadableError: If ``count`` is negative.
            CutShortError: If the data ends before.
        """
        if count < 0:
            raise UnreadableError("a length is negative")
        piece = self.data[self.position : self.position + count]
        if len(piece) != count:
            raise CutShortError("the data ends before the pickle does")
        self.position += count
        return piece

    def number(self, packed: Struct) -> Any:
        """Read a number of fixed size.

        Args:
            packed: Its format, of one field.

        Returns:
            An int or a float, according to the format.

        Raises:
            CutShortError: If the data ends before.
        """
        try:
            (value,) = packed.unpack_from(self.data, self.position)
        except StructError:
            raise CutShortError("the data ends before the pickle does") from None
        self.position += packed.size
        return value

    def line(self) -> bytes:
        """Read the argument of a text opcode, which ends with a line feed.

        Returns:
            The bytes before the line feed.

        Raises:
            CutShortError: If there is no line feed.
        """
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise CutShortError("the data ends before the pickle does")
        start, self.position = self.position, end + 1
        return self.data[start:end]

    def push(self, value: Any) -> None:
        """Put a value on the stack.

        Args:
            value: The value.
        """
        self.stack.append(value)

    def pop(self) -> Any:
        """Remove the value on top of the stack.

        Returns:
            That value.

        Raises:
            UnreadableError: If the stack is empty.
        """
        if not self.stack:
            raise UnreadableError("there is no value on the stack")
        return self.stack.pop()

    def top(self) -> Any:
        """Look at the value on top of the stack.

        Returns:
            That value, which stays there.

        Raises:
            UnreadableError: If the stack is empty.
        """
        if not self.stack:
            raise UnreadableError("there is no value on the stack")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        """Remove the last MARK and everything above it.

        Returns:
            The values above the MARK, from bottom to top.

        Raises:
            UnreadableError: If there is no MARK.
        """
        if not self.aside:
            raise UnreadableError("there is no MARK on the stack")
        items, self.stack = self.stack, self.aside.pop()
        return items

    def recall(self, number: int) -> None:
        """Put an entry of the memo on the stack.

        Args:
            number: Number of the entry.

        Raises:
            UnreadableError: If the entry was never set.
        """
        if number not in self.memo:
            raise UnreadableError("a memo entry is used that was never set")
        self.stack.append(self.memo[number])

    def placeholder(self, name: str) -> Placeholder:
        """Get the placeholder for a global, and list it in ``placeholders``.

        Args:
            name: Full name of the global; unprintable characters are escaped.

        Returns:
            The placeholder, the same one for the same name.
        """
        if not name.isprintable():
            name = ascii(name)[1:-1]
        return self.placeholders.setdefault(name, Placeholder(name))

    def find(self, module: str, name: str) -> Any:
        """Look up a global.

        Args:
            module: Name of its module.
            name: Name within the module; may be dotted.

        Returns:
            Its value if it is known, else a placeholder.
        """
        module = "builtins" if module == "__builtin__" else module  # its name in Python 2
        full = f"{module[:_MAX_NAME]}.{name[:_MAX_NAME]}"  # one text can be used many times
        return self.known[full] if full in self.known else self.placeholder(full)

    def call(self, function: Any, args: Any) -> Any:
        """Evaluate the call of a global.

        Args:
            function: What is called: a value from :meth:`find`.
            args: Its arguments as a tuple.

        Returns:
            The result for a :class:`Known` global; for any other the same placeholder.

        Raises:
            UnreadableError: If ``function`` is not a global, or ``args`` not a tuple.
            RefusedError: If calls copy the same data over and over.
        """
        if not isinstance(function, Placeholder):
            raise UnreadableError(f"a {type(function).__name__} is called like a function")
        if not isinstance(function, Known):
            return function
        if type(args) is not tuple:
            raise UnreadableError(f"the arguments of {function.name} are not a tuple")
        if args and function.copies:
            self.copied += sum(len(arg) for arg in args if isinstance(arg, _SIZED))
            # All arguments are part of the pickle, so only repeated use can exceed its size.
            if self.copied > 2 * len(self.data) + 1000:
                raise RefusedError("the pickle copies the same data over and over")
        result = function.build(args)
        return self.placeholder(result.name) if type(result) is Placeholder else result
