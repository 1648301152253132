"""The opcodes of pickle protocols 0 to 5, each with its handler.

Follows PEP 307, PEP 3154, PEP 574 and the standard library's ``pickletools``. The comment beside an
opcode is its name there.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, TypeAlias

from ...errors import UnreadableError
from ..source import Placeholder
from .machine import CutShortError, Known, Machine, Record, Stop
from .values import (
    decimal,
    decimal_or_bool,
    escaped,
    long,
    make_set,
    plain_key,
    python2,
    quoted,
    real,
    utf8,
)

_Handler: TypeAlias = Callable[[Machine], object]
_BYTE, _SHORT, _INT, _UNSIGNED = Struct("<B"), Struct("<H"), Struct("<i"), Struct("<I")
_LENGTH, _DOUBLE = Struct("<Q"), Struct(">d")


def _constant(value: Any) -> _Handler:
    return lambda m: m.stack.append(value)


def _new(make: Callable[[], Any]) -> _Handler:
    return lambda m: m.stack.append(make())


def _packed(packed: Struct) -> _Handler:
    return lambda m: m.stack.append(m.number(packed))


def _counted(length: Struct, convert: Callable[[bytes], Any]) -> _Handler:
    return lambda m: m.stack.append(convert(m.take(m.number(length))))


def _lined(convert: Callable[[bytes], Any]) -> _Handler:
    return lambda m: m.stack.append(convert(m.line()))


def _tuple(count: int) -> _Handler:
    def make(m: Machine) -> None:
        stack = m.stack
        if len(stack) < count:
            raise UnreadableError("there is no value on the stack")
        stack[-count:] = [tuple(stack[-count:])]

    return make


def _put(packed: Struct) -> _Handler:
    def put(m: Machine) -> None:
        number = m.number(packed)
        m.memo[number] = m.top()

    return put


def _get(packed: Struct) -> _Handler:
    return lambda m: m.recall(m.number(packed))


def _put_line(m: Machine) -> None:
    number = decimal(m.line())
    if not 0 <= number < 2**32:
        raise UnreadableError("the number of a memo entry is out of range")
    m.memo[number] = m.top()


def _memoize(m: Machine) -> None:
    m.memo[len(m.memo)] = m.top()


def _protocol(m: Machine) -> None:
    if (version := m.number(_BYTE)) > 5:
        raise UnreadableError(f"there is no pickle protocol {version}")


def _frame(m: Machine) -> None:
    if m.number(_LENGTH) > len(m.data) - m.position:
        raise CutShortError("the data ends before the pickle does")


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
        raise UnreadableError("a key has no value")
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[plain_key(key, len(target))] = value
    elif not isinstance(target, Placeholder):
        raise UnreadableError(f"items are set in a {type(target).__name__}")


def _append(m: Machine, items: list[Any]) -> None:
    target = m.top()
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Placeholder):
        raise UnreadableError(f"items are appended to a {type(target).__name__}")


def _add(m: Machine) -> None:
    items, target = m.pop_mark(), m.top()
    if isinstance(target, set):
        target.update(plain_key(item, len(target) + number) for number, item in enumerate(items))
    elif not isinstance(target, Placeholder):
        raise UnreadableError(f"items are added to a {type(target).__name__}")


def _dict_of_items(m: Machine) -> None:
    items = m.pop_mark()
    m.push({})
    _set_items(m, items)


def _global(m: Machine) -> None:
    m.push(m.find(utf8(m.line()), utf8(m.line())))


def _stack_global(m: Machine) -> None:
    name, module = m.pop(), m.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise UnreadableError("the name of a global is not a string")
    m.push(m.find(module, name))


def _inst(m: Machine) -> None:
    function = m.find(utf8(m.line()), utf8(m.line()))
    m.push(m.call(function, tuple(m.pop_mark())))


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
    if keywords and isinstance(function, Known):
        function = m.placeholder(function.name)  # our functions take no keywords
    m.push(m.call(function, args))


def _build(m: Machine) -> None:
    state = m.pop()  # ignored for a dict, whose attributes are not its items
    if isinstance(m.top(), Record):
        m.top().state = state
    elif not isinstance(m.top(), (dict, Placeholder)):
        raise UnreadableError(f"a {type(m.top()).__name__} is given attributes")


def _extension(code: Struct) -> _Handler:
    return lambda m: m.push(m.placeholder(f"extension code {m.number(code)}"))


def _persistent(m: Machine, number: Any) -> None:
    if m.persistent is None:
        raise UnreadableError("there is a persistent id where none is expected")
    m.push(m.persistent(number))


def _stop(m: Machine) -> None:
    raise Stop


def _unknown(m: Machine) -> None:
    code = m.data[m.position - 1]
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
    b"K": _packed(_BYTE),  # BININT1
    b"M": _packed(_SHORT),  # BININT2
    b"J": _packed(_INT),  # BININT
    b"G": _packed(_DOUBLE),  # BINFLOAT
    b"\x8a": _counted(_BYTE, long),  # LONG1
    b"\x8b": _counted(_INT, long),  # LONG4
    b"\x8c": _counted(_BYTE, utf8),  # SHORT_BINUNICODE
    b"X": _counted(_UNSIGNED, utf8),  # BINUNICODE
    b"\x8d": _counted(_LENGTH, utf8),  # BINUNICODE8
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
    b"q": _put(_BYTE),  # BINPUT
    b"r": _put(_UNSIGNED),  # LONG_BINPUT
    b"\x94": _memoize,  # MEMOIZE
    b"g": lambda m: m.recall(decimal(m.line())),  # GET
    b"h": _get(_BYTE),  # BINGET
    b"j": _get(_UNSIGNED),  # LONG_BINGET
    b"\x80": _protocol,  # PROTO
    b"\x95": _frame,  # FRAME
    b"(": _mark,  # MARK
    b"0": _pop,  # POP
    b"1": Machine.pop_mark,  # POP_MARK
    b"2": lambda m: m.push(m.top()),  # DUP
    b"\x85": _tuple(1),  # TUPLE1
    b"\x86": _tuple(2),  # TUPLE2
    b"\x87": _tuple(3),  # TUPLE3
    b"t": lambda m: m.push(tuple(m.pop_mark())),  # TUPLE
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
    b"P": lambda m: _persistent(m, utf8(m.line())),  # PERSID
    b"Q": lambda m: _persistent(m, m.pop()),  # BINPERSID
    b".": _stop,  # STOP
}.items():
    HANDLERS[_code[0]] = _handler
