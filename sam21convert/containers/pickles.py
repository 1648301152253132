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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any, TypeAlias

from ..errors import RefusedError, Sam21ConvertError, UnreadableError
from .source import Placeholder

Args: TypeAlias = tuple[Any, ...]
Persistent: TypeAlias = Callable[[Any], Any]

_MAX_STEPS = 5_000_000  # an opcode of one byte can cost 200 bytes of memory
_MAX_DEPTH = 100
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
    persistent: Persistent | None = None,
) -> Pickled:
    """Read the pickle that begins at ``data[start]``; ``where`` names the data in errors.

    ``known`` gives the values of some globals by their full names, besides the few of ``builtins``
    and ``collections`` that are known anyway. ``persistent`` resolves persistent ids. Both may
    raise errors; the place in the pickle is added to them.

    Raises :class:`CutShortError` when the data ends too early, :class:`UnreadableError` when it is
    not a pickle, and :class:`RefusedError` for one that is too large or too deep to make sense.
    """
    machine = _Machine(data, start, {**_PLAIN, **(known or {})}, persistent)
    try:
        value = machine.run()
        _check_walkable(value, max(1_000_000, machine.position - start))
    except Sam21ConvertError as error:
        message = f"{where}, byte {machine.opened}: {error.message}"
        raise type(error)(message, hint=error.hint) from None
    return Pickled(value, machine.position, tuple(machine.placeholders))


class _Stop(Exception):  # noqa: N818
    """The pickle is over."""


class _Machine:
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

    def run(self) -> Any:
        data, size, handlers = self.data, len(self.data), _HANDLERS
        position = self.position
        try:
            for _ in range(_MAX_STEPS):
                position = self.position
                if position >= size:
                    raise CutShortError("the data ends before the pickle does")
                self.position = position + 1
                handlers[data[position]](self)
            raise RefusedError(f"the pickle has more than {_MAX_STEPS:,} opcodes")
        except _Stop:
            return self.pop()
        finally:
            self.opened = position

    def take(self, count: int) -> bytes:
        if count < 0:
            raise UnreadableError("a length is negative")
        piece = self.data[self.position : self.position + count]
        if len(piece) != count:
            raise CutShortError("the data ends before the pickle does")
        self.position += count
        return piece

    def number(self, packed: Struct) -> Any:
        try:
            (value,) = packed.unpack_from(self.data, self.position)
        except StructError:
            raise CutShortError("the data ends before the pickle does") from None
        self.position += packed.size
        return value

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise CutShortError("the data ends before the pickle does")
        start, self.position = self.position, end + 1
        return self.data[start:end]

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise UnreadableError("there is no value on the stack")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise UnreadableError("there is no value on the stack")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        if not self.aside:
            raise UnreadableError("there is no MARK on the stack")
        items, self.stack = self.stack, self.aside.pop()
        return items

    def recall(self, number: int) -> None:
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
        if args and function.name in _PLAIN:  # these copy their arguments
            self.copied += sum(len(arg) for arg in args if isinstance(arg, _SIZED))
            # Each argument stands in the pickle, so only those used over and over exceed this.
            if self.copied > 2 * len(self.data) + 1000:
                raise RefusedError("the pickle copies the same data over and over")
        result = function.build(args)
        return self.placeholder(result.name) if type(result) is Placeholder else result


_SIZED = (str, bytes, bytearray, tuple, list, dict)
_NESTING = (tuple, list, dict)  # a set holds no containers here


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
        parts = value.values() if isinstance(value, dict) else value
        nested = [part for part in parts if isinstance(part, _NESTING)]
        if leaving:
            below = [done[id(part)] for part in nested]
            depth = 1 + max((depth for depth, _ in below), default=0)
            count = len(value) + sum(count for _, count in below)
            if depth > _MAX_DEPTH:
                raise RefusedError(f"the values are nested more than {_MAX_DEPTH} deep")
            if count > limit:
                raise RefusedError("the values refer to each other too many times")
            done[id(value)] = depth, count
        elif id(value) in entered:
            raise RefusedError("a value contains itself")
        else:
            entered.add(id(value))
            todo.append((value, True))
            todo.extend((part, False) for part in nested)


# Values


def _key(value: Any, number: int) -> Any:
    """``value`` if hashing it is quick whatever it is, else a string with this number instead."""
    if (
        type(value) is str
        or _is_atom(value)
        or (type(value) is tuple and len(value) <= 16 and all(map(_is_atom, value)))
    ):
        return value
    return f"<{value.name if isinstance(value, Placeholder) else type(value).__name__} {number}>"


def _is_atom(value: Any) -> bool:
    # The hash of an int repeats beyond 64 bits, so that a dict of crafted keys would be slow.
    return type(value) in _ATOMS or (type(value) is int and -(2**63) <= value < 2**64)


_ATOMS = frozenset({str, bytes, float, bool, type(None)})


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableError("a string is not UTF-8") from None


def _python2(raw: bytes) -> str | bytes:
    """A ``str`` of Python 2, which is text or data."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _quoted(raw: bytes) -> str | bytes:
    if len(raw) < 2 or raw[:1] not in (b"'", b'"') or raw[:1] != raw[-1:]:
        raise UnreadableError("a string has no quotes around it")
    return _python2(_ESCAPE.sub(_unescape, raw[1:-1]))


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([ntr\\'\"]))")  # what repr() of Python 2 writes


def _unescape(found: re.Match[bytes]) -> bytes:
    code, char = found.groups()
    return bytes.fromhex(code.decode()) if code else char.translate(_CONTROL)


_CONTROL = bytes.maketrans(b"ntr", b"\n\t\r")


def _escaped(raw: bytes) -> str:
    try:
        text = raw.decode("raw-unicode-escape")
        text.encode("utf-8")  # half a surrogate pair could not be printed
    except UnicodeError:
        raise UnreadableError("a string is not escaped Unicode") from None
    return text


def _decimal(raw: bytes) -> int:
    # Python's own limit, where it has one: reading and printing more takes quadratic time.
    if not re.fullmatch(rb"[+-]?[0-9]{1,4300}L?", raw):
        raise UnreadableError("a number is not written in digits")
    return int(raw.rstrip(b"L"))


def _decimal_or_bool(raw: bytes) -> int | bool:
    return raw == b"01" if raw in (b"00", b"01") else _decimal(raw)


def _float(raw: bytes) -> float:
    try:
        return float(raw)
    except ValueError:
        raise UnreadableError("a number is not written in digits") from None


def _long(raw: bytes) -> int:
    if len(raw) > 1780:  # 4300 digits, as above
        raise UnreadableError(f"a number has {len(raw)} bytes")
    return int.from_bytes(raw, "little", signed=True)


# Globals that have a meaning in every pickle. Arguments they cannot take make a placeholder.


def _set(args: Args) -> Any:
    match args:
        case ():
            return set()
        case (list(items),):
            return {_key(item, number) for number, item in enumerate(items)}
    return Placeholder("builtins.set")


def _dict(args: Args) -> Any:
    match args:
        case ():
            return {}
        case (dict(items),):
            return dict(items)
        case (list(pairs),) if all(
            type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs
        ):
            return {_key(key, number): value for number, (key, value) in enumerate(pairs)}
    return Placeholder("collections.OrderedDict")


def _bytes(args: Args) -> Any:
    """Bytes as protocols 0 to 2 write them, spelled as a string."""
    match args:
        case ():
            return b""
        case (str(text), "latin1" | "latin-1"):
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError:
                raise UnreadableError("bytes are spelled with other characters") from None
    return Placeholder("builtins.bytes")


def _bytearray(args: Args) -> Any:
    data = args[0] if len(args) == 1 else _bytes(args)
    return bytearray(data) if isinstance(data, bytes) else Placeholder("builtins.bytearray")


def _complex(args: Args) -> Any:
    match args:
        case (float(real), float(imaginary)):
            return complex(real, imaginary)
    return Placeholder("builtins.complex")


_BUILDERS: Mapping[str, Callable[[Args], Any]] = {
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytearray,
    "builtins.complex": _complex,
    "_codecs.encode": _bytes,
    "collections.OrderedDict": _dict,
    "collections.Counter": _dict,
    "collections.defaultdict": lambda args: _dict(args[1:]),  # after the factory
}
_PLAIN = {name: Known(name, build) for name, build in _BUILDERS.items()}


# Opcodes. The comment beside each is its name in pickletools.

_Handler: TypeAlias = Callable[[_Machine], object]
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
    def make(m: _Machine) -> None:
        stack = m.stack
        if len(stack) < count:
            raise UnreadableError("there is no value on the stack")
        stack[-count:] = [tuple(stack[-count:])]

    return make


def _put(packed: Struct) -> _Handler:
    def put(m: _Machine) -> None:
        number = m.number(packed)
        m.memo[number] = m.top()

    return put


def _get(packed: Struct) -> _Handler:
    return lambda m: m.recall(m.number(packed))


def _put_line(m: _Machine) -> None:
    number = _decimal(m.line())
    if not 0 <= number < 2**32:
        raise UnreadableError("the number of a memo entry is out of range")
    m.memo[number] = m.top()


def _memoize(m: _Machine) -> None:
    m.memo[len(m.memo)] = m.top()


def _protocol(m: _Machine) -> None:
    if (version := m.number(_BYTE)) > 5:
        raise UnreadableError(f"there is no pickle protocol {version}")


def _frame(m: _Machine) -> None:
    if m.number(_LENGTH) > len(m.data) - m.position:
        raise CutShortError("the data ends before the pickle does")


def _mark(m: _Machine) -> None:
    m.aside.append(m.stack)
    m.stack = []


def _pop(m: _Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()


def _set_items(m: _Machine, items: list[Any]) -> None:
    target = m.top()
    if len(items) % 2:
        raise UnreadableError("a key has no value")
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key, len(target))] = value
    elif not isinstance(target, Placeholder):
        raise UnreadableError(f"items are set in a {type(target).__name__}")


def _append(m: _Machine, items: list[Any]) -> None:
    target = m.top()
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Placeholder):
        raise UnreadableError(f"items are appended to a {type(target).__name__}")


def _add(m: _Machine) -> None:
    items, target = m.pop_mark(), m.top()
    if isinstance(target, set):
        target.update(_key(item, len(target) + number) for number, item in enumerate(items))
    elif not isinstance(target, Placeholder):
        raise UnreadableError(f"items are added to a {type(target).__name__}")


def _dict_of_items(m: _Machine) -> None:
    items = m.pop_mark()
    m.push({})
    _set_items(m, items)


def _global(m: _Machine) -> None:
    m.push(m.find(_utf8(m.line()), _utf8(m.line())))


def _stack_global(m: _Machine) -> None:
    name, module = m.pop(), m.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise UnreadableError("the name of a global is not a string")
    m.push(m.find(module, name))


def _inst(m: _Machine) -> None:
    function = m.find(_utf8(m.line()), _utf8(m.line()))
    m.push(m.call(function, tuple(m.pop_mark())))


def _obj(m: _Machine) -> None:
    items = m.pop_mark()
    if not items:
        raise UnreadableError("an object has no class")
    m.push(m.call(items[0], tuple(items[1:])))


def _reduce(m: _Machine) -> None:
    args, function = m.pop(), m.pop()
    m.push(m.call(function, args))


def _newobj_ex(m: _Machine) -> None:
    keywords, args, function = m.pop(), m.pop(), m.pop()
    if keywords and isinstance(function, Known):
        function = m.placeholder(function.name)  # no meaning with keywords
    m.push(m.call(function, args))


def _build(m: _Machine) -> None:
    m.pop()  # attributes: of a dict they are no items, of a placeholder nobody asks
    if not isinstance(m.top(), (dict, Placeholder)):
        raise UnreadableError(f"a {type(m.top()).__name__} is given attributes")


def _extension(code: Struct) -> _Handler:
    return lambda m: m.push(m.placeholder(f"extension code {m.number(code)}"))


def _persistent(m: _Machine, number: Any) -> None:
    if m.persistent is None:
        raise UnreadableError("there is a persistent id where none is expected")
    m.push(m.persistent(number))


def _stop(m: _Machine) -> None:
    raise _Stop


def _unknown(m: _Machine) -> None:
    code = m.data[m.position - 1]
    raise UnreadableError(f"0x{code:02x} is not an opcode of a pickle in a file")


_HANDLERS: list[_Handler] = [_unknown] * 256
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
    b"\x8a": _counted(_BYTE, _long),  # LONG1
    b"\x8b": _counted(_INT, _long),  # LONG4
    b"\x8c": _counted(_BYTE, _utf8),  # SHORT_BINUNICODE
    b"X": _counted(_UNSIGNED, _utf8),  # BINUNICODE
    b"\x8d": _counted(_LENGTH, _utf8),  # BINUNICODE8
    b"C": _counted(_BYTE, bytes),  # SHORT_BINBYTES
    b"B": _counted(_UNSIGNED, bytes),  # BINBYTES
    b"\x8e": _counted(_LENGTH, bytes),  # BINBYTES8
    b"\x96": _counted(_LENGTH, bytearray),  # BYTEARRAY8
    b"U": _counted(_BYTE, _python2),  # SHORT_BINSTRING
    b"T": _counted(_INT, _python2),  # BINSTRING
    b"I": _lined(_decimal_or_bool),  # INT
    b"L": _lined(_decimal),  # LONG
    b"F": _lined(_float),  # FLOAT
    b"S": _lined(_quoted),  # STRING
    b"V": _lined(_escaped),  # UNICODE
    b"p": _put_line,  # PUT
    b"q": _put(_BYTE),  # BINPUT
    b"r": _put(_UNSIGNED),  # LONG_BINPUT
    b"\x94": _memoize,  # MEMOIZE
    b"g": lambda m: m.recall(_decimal(m.line())),  # GET
    b"h": _get(_BYTE),  # BINGET
    b"j": _get(_UNSIGNED),  # LONG_BINGET
    b"\x80": _protocol,  # PROTO
    b"\x95": _frame,  # FRAME
    b"(": _mark,  # MARK
    b"0": _pop,  # POP
    b"1": _Machine.pop_mark,  # POP_MARK
    b"2": lambda m: m.push(m.top()),  # DUP
    b"\x85": _tuple(1),  # TUPLE1
    b"\x86": _tuple(2),  # TUPLE2
    b"\x87": _tuple(3),  # TUPLE3
    b"t": lambda m: m.push(tuple(m.pop_mark())),  # TUPLE
    b"l": lambda m: m.push(m.pop_mark()),  # LIST
    b"d": _dict_of_items,  # DICT
    b"\x91": lambda m: m.push(_set((m.pop_mark(),))),  # FROZENSET
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
    b"P": lambda m: _persistent(m, _utf8(m.line())),  # PERSID
    b"Q": lambda m: _persistent(m, m.pop()),  # BINPERSID
    b".": _stop,  # STOP
}.items():
    _HANDLERS[_code[0]] = _handler
