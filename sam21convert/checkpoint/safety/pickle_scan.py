"""A scan of the opcodes of a pickle that tracks the globals on its stack.

The reader of checkpoints refuses a pickle that it cannot follow. This scan continues as far as
opcodes can be told apart, because ``pickle.load`` has already run everything before a fault by the
time it finds the fault. Nothing is run here. Of the values, only strings and globals are tracked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any, NamedTuple, TypeAlias

_MAX_STEPS = 500_000  # a training checkpoint of SAM 2 has 130,000
_MAX_NAMES = 10_000
MAX_TEXT = 200
_WINDOW = 1 << 16
VALUE, PUT, GET, OTHER, STOP = range(5)
_REACH = 16  # bytes: more than any opcode with its number


@dataclass(slots=True)
class GlobalReference:
    """A global that a pickle names.

    Attributes:
        module: The module, as the pickle spells it; empty for an extension code.
        name: The name in the module, possibly with dots.
        entry: The zip entry that holds the pickle; empty when the file itself is the pickle.
        offset: Bytes from the start of ``entry`` to the first opcode that names the global.
        called: Whether it is called, as a function or to make an object.
        changed: Whether attributes or items of it are set. The program then has something else
            under this name afterwards.
        count: How often it is put on the stack.
    """

    module: str
    name: str
    entry: str
    offset: int
    called: bool = False
    changed: bool = False
    count: int = 0


# What the stack holds: a global, the position of the opcode of a string, or None for all else.
Value: TypeAlias = GlobalReference | int | None


class PickleScan:
    """The state of a scan: a window of the file, the stack and memo, and the globals found.

    Args:
        file: The file that holds the pickle.
        start: The position of its first byte.
        stop: The position behind the last byte that may belong to it.
        entry: The zip entry that holds it; empty when the file itself is the pickle.
        origin: The position from which the offsets of globals count.

    Attributes:
        references: The globals found, by module and name, in the order in which they come.
        end: The position behind the pickle; None if it is broken or cut short.
        complete: False if the pickle is too long to scan, or names too many globals.
        position: The position of the next opcode.
        second_line: After an opcode with two lines of text, where the second begins.
        stack: The stack of the pickle machine.
        memo: Its memo, by number.
    """

    def __init__(self, file: IO[bytes], start: int, stop: int, entry: str, origin: int) -> None:
        self.file, self.stop, self.entry, self.origin = file, stop, entry, origin
        self.position = self.second_line = start
        self.window, self.base = b"", start
        self.stack: list[Value] = []
        self.marks: list[int] = []
        self.memo: dict[int, Value] = {}
        self.references: dict[tuple[str, str], GlobalReference] = {}
        self.end: int | None = None
        self.complete = True

    def run(self, opcodes: Sequence[Opcode | None]) -> None:
        """Scan to the end, or until a byte that is no opcode.

        Args:
            opcodes: What each of the 256 byte values means; None for those that are no opcode.
        """
        stack, memo = self.stack, self.memo
        for _ in range(_MAX_STEPS):
            at = self.position
            here = at - self.base
            if here > len(self.window) - _REACH:
                if at >= self.stop or not self._refill(at):
                    return
                here = 0
            opcode = opcodes[self.window[here]]
            if opcode is None or len(self.references) > _MAX_NAMES:
                self.complete = opcode is None
                return
            width, beyond, kind, effect = opcode
            self.position = at + 1 + width if beyond is None else beyond(self, at + 1)
            if kind == VALUE:
                stack.append(None)
            elif kind == OTHER:
                effect(self, at)
            elif kind == STOP:
                self.end = self.position
                return
            else:
                number = int.from_bytes(self.window[here + 1 : here + 1 + width], "little")
                if kind == PUT:
                    memo[number] = stack[-1] if stack else None
                else:
                    self.push(memo.get(number))
        self.complete = False

    def _refill(self, at: int) -> bytes:
        self.file.seek(at)
        self.base, self.window = at, self.file.read(min(_WINDOW, self.stop - at)) or b""
        return self.window

    def number(self, at: int, width: int, *, signed: bool = False) -> int:
        """Read a little-endian number that follows the current opcode.

        Args:
            at: Its position, within ``_REACH`` bytes of the current opcode.
            width: Its size in bytes.
            signed: Whether it is in two's complement.

        Returns:
            The number; of fewer bytes if the file ends in it.
        """
        piece = self.window[at - self.base : at - self.base + width]
        return int.from_bytes(piece, "little", signed=signed)

    def line(self, at: int) -> int:
        """Find the end of a line.

        Args:
            at: The position where the line begins.

        Returns:
            The position behind its newline, or ``stop`` if there is none.
        """
        while at < self.stop:
            found = self.window.find(b"\n", at - self.base)
            if found >= 0:
                return self.base + found + 1
            at = self.base + len(self.window)
            if at >= self.stop or not self._refill(at):
                break
        return self.stop

    def text(self, start: int, stop: int) -> bytes:
        """Read bytes from anywhere in the file.

        Args:
            start: The position of the first byte.
            stop: The position behind the last.

        Returns:
            At most ``MAX_TEXT`` bytes: no name that can be rated is longer.
        """
        start, stop = start - self.base, min(stop, start + MAX_TEXT) - self.base
        if start >= 0 and stop <= len(self.window):
            return self.window[start : max(start, stop)]
        self.file.seek(self.base + start)
        return self.file.read(max(0, stop - start)) or b""

    def pop(self) -> Value:
        """Take the value at the top of the stack.

        Returns:
            The value; None if the stack is empty.
        """
        return self.stack.pop() if self.stack else None

    def pop_mark(self) -> list[Value]:
        """Take everything above the last MARK, and the MARK.

        Returns:
            The values, the lowest first; all of the stack if there is no MARK.
        """
        cut = self.marks.pop() if self.marks else 0
        items, self.stack[cut:] = self.stack[cut:], []
        return items

    def top(self) -> Value:
        """Look at the value at the top of the stack.

        Returns:
            The value, which stays there; None if the stack is empty.
        """
        return self.stack[-1] if self.stack else None

    def push(self, value: Value) -> None:
        """Put a value on the stack, and count it if it is a global.

        Args:
            value: What to put there.
        """
        if type(value) is GlobalReference:
            value.count += 1
        self.stack.append(value)

    def name(self, module: str, name: str, at: int) -> GlobalReference:
        """Look up the global of a name, which is added when the name is new.

        Args:
            module: The module, as the pickle spells it.
            name: The name in the module.
            at: The position of the opcode that names it.

        Returns:
            The one reference to this global, shared by everything that names it.
        """
        found = self.references.get((module, name))
        if found is None:
            found = self.references[module, name] = GlobalReference(
                module, name, self.entry, at - self.origin
            )
        return found


Beyond: TypeAlias = Callable[[PickleScan, int], int]
Effect: TypeAlias = Callable[[PickleScan, int], Any]


class Opcode(NamedTuple):
    """What follows an opcode in the file, and what the opcode does.

    Attributes:
        width: The size of its argument in bytes, if that is fixed.
        beyond: Otherwise a function from the scan and the position of the argument to the position
            behind it.
        kind: ``VALUE``, ``PUT``, ``GET``, ``STOP`` or ``OTHER``. Most of a checkpoint is of the
            first three, which :meth:`PickleScan.run` does without a call.
        effect: What an ``OTHER`` does, given the scan and the position of the opcode.
    """

    width: int
    beyond: Beyond | None
    kind: int
    effect: Effect
