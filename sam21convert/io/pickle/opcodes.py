"""The opcodes of pickle protocols 0 to 5, each with its handler.

Follows PEP 307, PEP 3154, PEP 574, the standard library's ``pickletools``, and CPython's
``_pickle.c`` and ``pickle.py`` where these accept more than they write. The comment beside an
opcode is its name in ``pickletools``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import Struct
from typing import Any, TypeAlias

from ...errors import UnreadableError
from ..source import Placeholder
from .machine import Instance, Known, Machine, Record, Stop
from .references import GlobalReference
from .stream import ENDED, LONG, CutShortError
from .values import (
    decimal,
    decimal_or_bool,
    escaped,
    long,
    loosely,
    make_set,
    memo_number,
    plain_key,
    python2,
    quoted,
    real,
    utf8,
)

_Handler: TypeAlias = Callable[[Machine], object]
_BYTE, _SHORT, _INT, _UNSIGNED = Struct("<B"), Struct("<H"), Struct("<i"), Struct("<I")
_LENGTH, _DOUBLE = Struct("<Q"), Struct(">d")
_NUMBER = re.compile(rb"\s*[-+]?[0-9]")
_UNKNOWN = Placeholder("?")  # in place of a value that cannot be decoded


def _constant(value: Any) -> _Handler:
    return lambda m: m.stack.append(value)


def _new(make: Callable[[], Any]) -> _Handler:
    return lambda m: m.stack.append(make())


def _packed(packed: Struct) -> _Handler:
    return lambda m: m.stack.append(m.number(packed))


# Most of a checkpoint's pickle is texts, small numbers and the memo, so these are spelled out: as
# calls of what the others use, they take most of the time.


def _small(m: Machine) -> int:
    """Read a number of one byte."""
    try:
        value = m.window[m.position - m.base]
    except IndexError:
        raise CutShortError(ENDED) from None
    m.position += 1
    return value


def _decoded(m: Machine, raw: Any, convert: Callable[[bytes], Any]) -> None:
    """Push what a function makes of bytes; an error ends nothing if nothing is read."""
    if type(raw) is not bytes:
        if convert is long:
            m.fault(f"a number has more than {LONG} bytes")
        m.stack.append(raw)
        return
    m.kept += len(raw)
    try:
        m.stack.append(convert(raw))
    except UnreadableError as error:
        m.fault(error.message)
        m.stack.append(loosely(raw, convert))


def _counted(length: Struct, convert: Callable[[bytes], Any]) -> _Handler:
    return lambda m: _decoded(m, m.take(m.number(length)), convert)


def _text(length: Struct) -> _Handler:
    def read(m: Machine) -> None:
        count = m.number(length)
        here = m.position - m.base
        raw = m.window[here : here + count]
        if count > LONG or len(raw) < count:
            _decoded(m, m.take(count), utf8)
            return
        m.position += count
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            _decoded(m, raw, utf8)
            return
        m.kept += count
        m.stack.append(text)

    return read


def _lined(convert: Callable[[bytes], Any]) -> _Handler:
    return lambda m: _decoded(m, _line(m), convert)


def _line(m: Machine) -> bytes | Placeholder:
    return m.line(ended=m.reads)


def _tuple(count: int) -> _Handler:
    def make(m: Machine) -> None:
        stack = m.stack
        if len(stack) < count:
            raise UnreadableError("there is no value on the stack")
        stack[-count:] = [tuple(stack[-count:])]

    return make


def _tuple_of_items(m: Machine) -> None:
    items = m.pop_mark()
    m.stack.append((*items,))


def _put(read: Callable[[Machine], int]) -> _Handler:
    def put(m: Machine) -> None:
        number = read(m)
        m.memo[number] = m.stack[-1] if m.stack else m.top()

    return put


def _get(read: Callable[[Machine], int]) -> _Handler:
    return lambda m: m.recall(read(m))


def _unsigned(m: Machine) -> int:
    number: int = m.number(_UNSIGNED)
    return number


def _memo_line(m: Machine) -> int:
    raw = _line(m)
    number, plain = memo_number(raw) if type(raw) is bytes else (-1, False)
    if not plain:  # where no number begins, every program stops
        tell = m.fault if type(raw) is bytes and not _NUMBER.match(raw) else m.doubt
        tell("the number of a memo entry is out of range, or not written plainly")
    return number


def _put_line(m: Machine) -> None:
    value = m.top()
    m.memo[_memo_line(m)] = value


def _get_line(m: Machine) -> None:
    if not m.memo:
        raise UnreadableError("a memo entry is used that was never set")
    m.recall(_memo_line(m))


def _memoize(m: Machine) -> None:
    m.memo[len(m.memo)] = m.top()


def _protocol(m: Machine) -> None:
    if (version := m.number(_BYTE)) > 5:
        m.fault(f"there is no pickle protocol {version}")


def _frame(m: Machine) -> None:
    length = m.number(_LENGTH)
    if length > m.stop - m.position:  # CPython's unpickler in Python goes on
        m.fault("the data ends before the pickle does", CutShortError)
    m.begin_frame(length)


def _mark(m: Machine) -> None:
    m.aside.append(m.stack)
    m.stack = []


def _pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()


def _set_items(m: Machine, items: list[Any]) -> None:
    target = m.top()
    if len(items) % 2:
        m.fault("a key has no value")
        items = items[:-1]
    pairs = [*zip(items[::2], items[1::2], strict=True)]
    if isinstance(target, dict):
        m.kept += 100 * len(pairs)
        for key, value in pairs:
            plain = plain_key(key, len(target))
            if not m.reads and plain in target:
                m.escaped.append(target[plain])  # an object may have it already
            target[plain] = value
        return
    if not isinstance(target, Placeholder):
        m.fault(f"items are set in a {type(target).__name__}")
    m.give(target, pairs)


def _append(m: Machine, items: list[Any]) -> None:
    target = m.top()
    if isinstance(target, list):
        target.extend(items)
        return
    if not isinstance(target, Placeholder):
        m.fault(f"items are appended to a {type(target).__name__}")
    m.give(target, items)


def _add(m: Machine) -> None:
    items, target = m.pop_mark(), m.top()
    if isinstance(target, set):
        m.kept += 60 * len(items)
        target.update(plain_key(item, len(target) + number) for number, item in enumerate(items))
        return
    if not isinstance(target, Placeholder):
        m.fault(f"items are added to a {type(target).__name__}")
    m.give(target, items)


def _dict_of_items(m: Machine) -> None:
    items = m.pop_mark()
    m.push({})
    _set_items(m, items)


def _name(m: Machine) -> Any:
    """A line that is part of the name of a global; without UTF-8, no unpickler goes on."""
    raw = _line(m)
    return utf8(raw) if type(raw) is bytes else raw


def _global(m: Machine) -> None:
    here, window = m.position - m.base, m.window
    middle = window.find(b"\n", here) + 1
    end = window.find(b"\n", middle) + 1 if middle else 0
    written = window[here:end]  # nothing if the window ends before
    if written not in m.written:
        value = m.find(_name(m), _name(m))
        if written:
            m.written[written] = value
    else:
        value = m.written[written]
        m.position += len(written)
    m.push(value)


def _stack_global(m: Machine) -> None:
    name, module = m.pop(), m.pop()
    m.push(m.find(module, name))


def _inst(m: Machine) -> None:
    function = m.find(_name(m), _name(m))
    m.push(m.call(_counting(function), tuple(m.pop_mark())))


def _counting(function: Any) -> Any:
    if type(function) is GlobalReference:
        function.count += 1
    return function


def _obj(m: Machine) -> None:
    items = m.pop_mark()
    if not items:
        raise UnreadableError("an object has no class")
    m.push(m.call(items[0], tuple(items[1:])))


def _reduce(m: Machine) -> None:
    args, function = m.pop(), m.pop()
    m.push(m.call(function, args))


def _newobj_ex(m: Machine) -> None:
    keywords, args, function = m.pop(), m.pop(), m.pop()
    if not m.reads:
        args = (args, keywords)
    elif keywords and isinstance(function, Known):
        function = m.placeholder(function.name)  # our functions take no keywords
    m.push(m.call(function, args))


def _build(m: Machine) -> None:
    state = m.pop()  # ignored for a dict, whose attributes are not its items
    target = m.top()
    if isinstance(target, Record):
        target.state = state
        return
    if isinstance(target, Instance):
        target.build(state)
        return
    if not isinstance(target, (dict, Placeholder)):
        m.fault(f"a {type(target).__name__} is given attributes")
    if not m.reads:
        m.give(target, state)


def _extension(code: Struct) -> _Handler:
    def find(m: Machine) -> None:
        name = f"extension code {m.number(code)}"
        reference = m.find("", name)
        m.push(m.placeholder(name) if m.reads else reference)

    return find


def _persistent(m: Machine, number: Any) -> None:
    if m.persistent is not None:
        m.push(m.persistent(number))
        return
    m.fault("there is a persistent id where none is expected")
    m.push(_UNKNOWN)


def _stop(m: Machine) -> None:
    raise Stop


def _of_buffers(m: Machine) -> None:
    """Buffers beside the pickle, which no file has; CPython pushes one, or changes none."""
    code = m.window[m.opened - m.base]
    m.fault(f"0x{code:02x} is not an opcode that pickle files can contain")
    if code == 0x97:
        m.push(_UNKNOWN)


def _unknown(m: Machine) -> None:
    code = m.window[m.opened - m.base]
    raise UnreadableError(f"0x{code:02x} is not an opcode that pickle files can contain")


HANDLERS: list[_Handler] = [_unknown] * 256
for _code, _handler in {
    b"N": _constant(None),  # NONE
    b"\x88": _constant(True),  # NEWTRUE
    b"\x89": _constant(False),  # NEWFALSE
    b")": _constant(()),  # EMPTY_TUPLE
    b"]": _new(list),  # EMPTY_LIST
    b"}": _new(dict),  # EMPTY_DICT
    b"\x8f": _new(set),  # EMPTY_SET
    b"K": lambda m: m.stack.append(_small(m)),  # BININT1
    b"M": _packed(_SHORT),  # BININT2
    b"J": _packed(_INT),  # BININT
    b"G": _packed(_DOUBLE),  # BINFLOAT
    b"\x8a": _counted(_BYTE, long),  # LONG1
    b"\x8b": _counted(_INT, long),  # LONG4
    b"\x8c": _text(_BYTE),  # SHORT_BINUNICODE
    b"X": _text(_UNSIGNED),  # BINUNICODE
    b"\x8d": _text(_LENGTH),  # BINUNICODE8
    b"C": _counted(_BYTE, bytes),  # SHORT_BINBYTES
    b"B": _counted(_UNSIGNED, bytes),  # BINBYTES
    b"\x8e": _counted(_LENGTH, bytes),  # BINBYTES8
    b"\x96": _counted(_LENGTH, bytearray),  # BYTEARRAY8
    b"U": _counted(_BYTE, python2),  # SHORT_BINSTRING
    b"T": _counted(_INT, python2),  # BINSTRING
    b"I": _lined(decimal_or_bool),  # INT
    b"L": _lined(decimal),  # LONG
    b"F": _lined(real),  # FLOAT
    b"S": _lined(quoted),  # STRING
    b"V": _lined(escaped),  # UNICODE
    b"p": _put_line,  # PUT
    b"q": _put(_small),  # BINPUT
    b"r": _put(_unsigned),  # LONG_BINPUT
    b"\x94": _memoize,  # MEMOIZE
    b"g": _get_line,  # GET
    b"h": _get(_small),  # BINGET
    b"j": _get(_unsigned),  # LONG_BINGET
    b"\x80": _protocol,  # PROTO
    b"\x95": _frame,  # FRAME
    b"\x97": _of_buffers,  # NEXT_BUFFER
    b"\x98": _of_buffers,  # READONLY_BUFFER
    b"(": _mark,  # MARK
    b"0": _pop,  # POP
    b"1": Machine.pop_mark,  # POP_MARK
    b"2": lambda m: m.push(m.top()),  # DUP
    b"\x85": _tuple(1),  # TUPLE1
    b"\x86": _tuple(2),  # TUPLE2
    b"\x87": _tuple(3),  # TUPLE3
    b"t": _tuple_of_items,  # TUPLE
    b"l": lambda m: m.push(m.pop_mark()),  # LIST
    b"d": _dict_of_items,  # DICT
    b"\x91": lambda m: m.push(make_set((m.pop_mark(),))),  # FROZENSET
    b"s": lambda m: _set_items(m, [m.pop(), m.pop()][::-1]),  # SETITEM
    b"u": lambda m: _set_items(m, m.pop_mark()),  # SETITEMS
    b"a": lambda m: _append(m, [m.pop()]),  # APPEND
    b"e": lambda m: _append(m, m.pop_mark()),  # APPENDS
    b"\x90": _add,  # ADDITEMS
    b"c": _global,  # GLOBAL
    b"\x93": _stack_global,  # STACK_GLOBAL
    b"\x82": _extension(_BYTE),  # EXT1
    b"\x83": _extension(_SHORT),  # EXT2
    b"\x84": _extension(_INT),  # EXT4
    b"i": _inst,  # INST
    b"o": _obj,  # OBJ
    b"R": _reduce,  # REDUCE
    b"\x81": _reduce,  # NEWOBJ
    b"\x92": _newobj_ex,  # NEWOBJ_EX
    b"b": _build,  # BUILD
    b"P": lambda m: _persistent(m, _name(m)),  # PERSID
    b"Q": lambda m: _persistent(m, m.pop()),  # BINPERSID
    b".": _stop,  # STOP
}.items():
    HANDLERS[_code[0]] = _handler

# Bytes that an opcode may keep in memory, apart from the text or data that follows it.
COSTS = [40] * 256
for _code, _cost in {
    b"]})": 240,  # by time rather than memory: what holds others is walked through
    b"\x8f\x91": 224,
    b"(tld": 240,
    b"\x85\x86\x87": 120,
    b"pqr\x94": 104,
    b"ci\x93": 240,
    b"UTXSV\x8c\x8d": 104,
    b"RNao.0b": 8,
}.items():
    for _byte in _code:
        COSTS[_byte] = _cost
