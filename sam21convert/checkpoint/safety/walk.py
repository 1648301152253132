"""A walk through the opcodes of a pickle: where they are, and the globals on its stack.

Unlike the reader, which refuses what it cannot follow, this goes on as far as opcodes can be told
apart: ``pickle.load`` has run all that stands before a fault when it finds it. Nothing is run here,
and of the values only strings and globals are kept track of.
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
    """A global that a pickle names, ``offset`` bytes into it the first time.

    ``called``: it is called, as a function or to make an object. ``changed``: attributes or items
    of it are set, so that what the program has under this name is another thing afterwards.
    ``count`` says how often it is put on the stack.
    """

    module: str
    name: str
    entry: str
    offset: int
    called: bool = False
    changed: bool = False
    count: int = 0


Value: TypeAlias = (
    GlobalReference | int | None
)  # a string is the place of its opcode; None is all else


class PickleScan:
    """A pickle, to be walked through from ``start`` on; offsets count from ``origin``.

    Afterwards ``end`` is where it ends, None if it is broken or cut short, and ``whole`` is false
    if it was too long to go through.
    """

    def __init__(self, file: IO[bytes], start: int, stop: int, entry: str, origin: int) -> None:
        self.file, self.stop, self.entry, self.origin = file, stop, entry, origin
        self.position = self.between = start  # between: where the second line of two begins
        self.window, self.base = b"", start
        self.stack: list[Value] = []
        self.marks: list[int] = []
        self.memo: dict[int, Value] = {}
        self.uses: dict[tuple[str, str], GlobalReference] = {}
        self.end: int | None = None
        self.whole = True

    def run(self, opcodes: Sequence[Opcode | None]) -> None:
        """Go on to the end, or as far as there are opcodes."""
        stack, memo = self.stack, self.memo
        for _ in range(_MAX_STEPS):
            at = self.position
            here = at - self.base
            if here > len(self.window) - _REACH:
                if at >= self.stop or not self._refill(at):
                    return
                here = 0
            opcode = opcodes[self.window[here]]
            if opcode is None or len(self.uses) > _MAX_NAMES:
                self.whole = opcode is None
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
        self.whole = False

    def _refill(self, at: int) -> bytes:
        self.file.seek(at)
        self.base, self.window = at, self.file.read(min(_WINDOW, self.stop - at)) or b""
        return self.window

    def number(self, at: int, width: int, *, signed: bool = False) -> int:
        """The number at a place, which is near the current one."""
        piece = self.window[at - self.base : at - self.base + width]
        return int.from_bytes(piece, "little", signed=signed)

    def line(self, at: int) -> int:
        """Where the line that begins here is over."""
        while at < self.stop:
            found = self.window.find(b"\n", at - self.base)
            if found >= 0:
                return self.base + found + 1
            at = self.base + len(self.window)
            if at >= self.stop or not self._refill(at):
                break
        return self.stop

    def text(self, start: int, stop: int) -> bytes:
        """Bytes from anywhere, no more of them than matter of a name."""
        start, stop = start - self.base, min(stop, start + MAX_TEXT) - self.base
        if start >= 0 and stop <= len(self.window):
            return self.window[start : max(start, stop)]
        self.file.seek(self.base + start)
        return self.file.read(max(0, stop - start)) or b""

    def pop(self) -> Value:
        """The value at the top; None where there is none, or none that matters here."""
        return self.stack.pop() if self.stack else None

    def pop_mark(self) -> list[Value]:
        """Everything above the last MARK."""
        cut = self.marks.pop() if self.marks else 0
        items, self.stack[cut:] = self.stack[cut:], []
        return items

    def top(self) -> Value:
        """The value at the top, left there."""
        return self.stack[-1] if self.stack else None

    def push(self, value: Value) -> None:
        """Put a value on the stack; a global is counted."""
        if type(value) is GlobalReference:
            value.count += 1
        self.stack.append(value)

    def name(self, module: str, name: str, at: int) -> GlobalReference:
        """The global of this name."""
        found = self.uses.get((module, name))
        if found is None:
            found = self.uses[module, name] = GlobalReference(
                module, name, self.entry, at - self.origin
            )
        return found


Beyond: TypeAlias = Callable[[PickleScan, int], int]
Effect: TypeAlias = Callable[[PickleScan, int], Any]


class Opcode(NamedTuple):
    """What an opcode is followed by, and what it does.

    ``width`` bytes, or what ``beyond`` finds the end of. Three kinds are most of a checkpoint, and
    done without a call.
    """

    width: int
    beyond: Beyond | None
    kind: int
    effect: Effect
