"""The opcodes of pickles: what each does to a scan that looks for imports and calls.

Follows ``pickletools`` of the standard library, whose names of the opcodes are in the comments.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO

from .pickle_scan import (
    GET,
    MAX_TEXT,
    OTHER,
    PUT,
    STOP,
    VALUE,
    Beyond,
    Effect,
    GlobalReference,
    Opcode,
    PickleScan,
    Value,
)

COMPUTED = "?"  # a part of a name that the pickle computes before it imports it


def scan_pickle(file: IO[bytes], start: int, stop: int, entry: str, origin: int) -> PickleScan:
    """Scan one pickle.

    Args:
        file: The file that holds it.
        start: The position of its first byte.
        stop: The position behind the last byte that may belong to it.
        entry: The zip entry that holds it; empty when the file itself is the pickle.
        origin: The position from which the offsets of globals count.

    Returns:
        The finished scan, with the globals in ``references``.
    """
    scan = PickleScan(file, start, stop, entry, origin)
    scan.run(_OPCODES)
    return scan


def _counted(width: int, *, signed: bool = False) -> Callable[[PickleScan, int], int]:
    def skip(scan: PickleScan, at: int) -> int:
        return at + width + max(0, scan.number(at, width, signed=signed))

    return skip


def _two_lines(scan: PickleScan, at: int) -> int:
    scan.second_line = scan.line(at)
    return scan.line(scan.second_line)


def _string(scan: PickleScan, at: int) -> None:
    scan.stack.append(at)


def _nothing(_scan: PickleScan, _: int) -> None:
    pass


def _make_from(count: int) -> Effect:
    def make(scan: PickleScan, _: int) -> None:
        if count and len(scan.stack) >= count:
            del scan.stack[-count:]
        scan.stack.append(None)

    return make


def _make_from_marked(scan: PickleScan, _: int) -> None:
    scan.pop_mark()
    scan.stack.append(None)


def _into(count: int | None) -> Effect:
    """Put ``count`` items, or all above the MARK, into the object below them."""

    def put(scan: PickleScan, _: int) -> None:
        if count is None:
            scan.pop_mark()
        else:
            del scan.stack[max(0, len(scan.stack) - count) :]
        target = scan.top()
        if isinstance(target, GlobalReference):
            target.changed = True

    return put


def _mark(scan: PickleScan, _: int) -> None:
    scan.marks.append(len(scan.stack))


def _pop(scan: PickleScan, _: int) -> None:
    if scan.marks and scan.marks[-1] == len(scan.stack):
        scan.marks.pop()
    else:
        scan.pop()


def _put(scan: PickleScan, number: int) -> None:
    scan.memo[number] = scan.top()


def _decimal(scan: PickleScan, at: int) -> int:
    digits = scan.text(at + 1, scan.position).strip()
    return int(digits) if re.fullmatch(rb"[+-]?\d+", digits) else -1


def _global(scan: PickleScan, at: int) -> None:
    module = _utf8(scan.text(at + 1, scan.second_line - 1))
    scan.push(scan.name(module, _utf8(scan.text(scan.second_line, scan.position - 1)), at))


def _stack_global(scan: PickleScan, at: int) -> None:
    if len(scan.stack) > 1:  # otherwise pickle.load fails here
        name, module = scan.pop(), scan.pop()
        scan.push(scan.name(_text_of(scan, module), _text_of(scan, name), at))


def _extension(width: int) -> Effect:
    def name(scan: PickleScan, at: int) -> None:
        scan.push(scan.name("", f"extension code {scan.number(at + 1, width)}", at))

    return name


def _called(scan: PickleScan, function: Value) -> None:
    if isinstance(function, GlobalReference):
        function.called = True
    scan.stack.append(None)


def _call(count: int) -> Effect:
    """Call the function or class that is below ``count`` values on the stack."""

    def call(scan: PickleScan, _: int) -> None:
        for _ in range(count):
            scan.pop()
        _called(scan, scan.pop())

    return call


def _inst(scan: PickleScan, at: int) -> None:
    _global(scan, at)
    function = scan.pop()
    scan.pop_mark()
    _called(scan, function)


def _obj(scan: PickleScan, _: int) -> None:
    items = scan.pop_mark()
    _called(scan, items[0] if items else None)


def _utf8(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _text_of(scan: PickleScan, value: Value) -> str:
    """The string whose opcode is at that position; ``COMPUTED`` for anything else."""
    if not isinstance(value, int):
        return COMPUTED
    code, start = scan.text(value, value + 1), value + 1
    width = _TEXTS[code[0]]
    if width:
        length = int.from_bytes(scan.text(start, start + width), "little")
        return _utf8(scan.text(start + width, start + width + length))
    line = scan.text(start, start + MAX_TEXT).partition(b"\n")[0]
    if code == b"V":
        return line.decode("raw-unicode-escape", "backslashreplace")
    return _utf8(_ESCAPE.sub(_unescape, line.strip()[1:-1]))


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|(.))")


def _unescape(found: re.Match[bytes]) -> bytes:
    code, octal, char = found.groups()
    if octal:
        return bytes([int(octal, 8) & 255])
    return bytes.fromhex(code.decode()) if code else char


# Opcodes of strings that can be a name: the width of their length, 0 if a newline ends them.
_TEXTS = {
    ord(code): width for code, width in zip("\x8cX\x8dUTSV", (1, 4, 8, 1, 4, 0, 0), strict=True)
}
_LINE = PickleScan.line
_OPCODES: list[Opcode | None] = [None] * 256
# Opcodes, the width of their argument or a function that finds its end, and the kind or effect.
_TABLE: tuple[tuple[bytes, int | Beyond, int | Effect], ...] = (
    (b"N\x88\x89)]}\x8f\x97", 0, VALUE),  # NONE NEWTRUE NEWFALSE EMPTY_* NEXT_BUFFER
    (b"K", 1, VALUE),  # BININT1
    (b"M", 2, VALUE),  # BININT2
    (b"J", 4, VALUE),  # BININT
    (b"G", 8, VALUE),  # BINFLOAT
    (b"\x8aC", _counted(1), VALUE),  # LONG1 SHORT_BINBYTES
    (b"\x8b", _counted(4, signed=True), VALUE),  # LONG4
    (b"B", _counted(4), VALUE),  # BINBYTES
    (b"\x8e\x96", _counted(8), VALUE),  # BINBYTES8 BYTEARRAY8
    (b"\x8cU", _counted(1), _string),  # SHORT_BINUNICODE SHORT_BINSTRING
    (b"X", _counted(4), _string),  # BINUNICODE
    (b"T", _counted(4, signed=True), _string),  # BINSTRING
    (b"\x8d", _counted(8), _string),  # BINUNICODE8
    (b"ILF", _LINE, VALUE),  # INT LONG FLOAT
    (b"SV", _LINE, _string),  # STRING UNICODE
    (b"p", _LINE, lambda scan, at: _put(scan, _decimal(scan, at))),  # PUT
    (b"q", 1, PUT),  # BINPUT
    (b"r", 4, PUT),  # LONG_BINPUT
    (b"\x94", 0, lambda scan, _: _put(scan, len(scan.memo))),  # MEMOIZE
    (b"g", _LINE, lambda scan, at: scan.push(scan.memo.get(_decimal(scan, at)))),  # GET
    (b"h", 1, GET),  # BINGET
    (b"j", 4, GET),  # LONG_BINGET
    (b"\x80", 1, _nothing),  # PROTO
    (b"\x95", 8, _nothing),  # FRAME
    (b"\x98", 0, _nothing),  # READONLY_BUFFER
    (b"(", 0, _mark),  # MARK
    (b"0", 0, _pop),  # POP
    (b"1", 0, lambda scan, _: scan.pop_mark()),  # POP_MARK
    (b"2", 0, lambda scan, _: scan.push(scan.top())),  # DUP
    (b"\x85Q", 0, _make_from(1)),  # TUPLE1 BINPERSID
    (b"\x86", 0, _make_from(2)),  # TUPLE2
    (b"\x87", 0, _make_from(3)),  # TUPLE3
    (b"tld\x91", 0, _make_from_marked),  # TUPLE LIST DICT FROZENSET
    (b"ab", 0, _into(1)),  # APPEND BUILD
    (b"s", 0, _into(2)),  # SETITEM
    (b"eu\x90", 0, _into(None)),  # APPENDS SETITEMS ADDITEMS
    (b"c", _two_lines, _global),  # GLOBAL
    (b"\x93", 0, _stack_global),  # STACK_GLOBAL
    (b"\x82", 1, _extension(1)),  # EXT1
    (b"\x83", 2, _extension(2)),  # EXT2
    (b"\x84", 4, _extension(4)),  # EXT4
    (b"i", _two_lines, _inst),  # INST
    (b"o", 0, _obj),  # OBJ
    (b"R\x81", 0, _call(1)),  # REDUCE NEWOBJ
    (b"\x92", 0, _call(2)),  # NEWOBJ_EX
    (b"P", _LINE, VALUE),  # PERSID
    (b".", 0, STOP),  # STOP
)
for _codes, _argument, _action in _TABLE:
    for _code in _codes:
        _OPCODES[_code] = Opcode(
            _argument if isinstance(_argument, int) else 0,
            None if isinstance(_argument, int) else _argument,
            _action if isinstance(_action, int) else OTHER,
            _nothing if isinstance(_action, int) else _action,
        )
