"""Values in pickles: how numbers and strings are spelled, and the few globals with a meaning."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import UnreadableError
from ..source import Placeholder
from .machine import Args, Known, Record


def plain_key(value: Any, number: int) -> Any:
    """``value`` if hashing it is quick whatever it is, else a string with this number instead."""
    if isinstance(value, Record) and value.as_key is not None:
        value = value.as_key(value.state)
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


def utf8(raw: bytes) -> str:
    """Text as protocols 1 and up spell it."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableError("a string is not UTF-8") from None


def python2(raw: bytes) -> str | bytes:
    """A ``str`` of Python 2, which is text or data."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def quoted(raw: bytes) -> str | bytes:
    """A string literal of protocol 0."""
    if len(raw) < 2 or raw[:1] not in (b"'", b'"') or raw[:1] != raw[-1:]:
        raise UnreadableError("a string has no quotes around it")
    return python2(_ESCAPE.sub(_unescape, raw[1:-1]))


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([ntr\\'\"]))")  # what repr() of Python 2 writes


def _unescape(found: re.Match[bytes]) -> bytes:
    code, char = found.groups()
    return bytes.fromhex(code.decode()) if code else char.translate(_CONTROL)


_CONTROL = bytes.maketrans(b"ntr", b"\n\t\r")


def escaped(raw: bytes) -> str:
    """Text as protocol 0 spells it."""
    try:
        text = raw.decode("raw-unicode-escape")
        text.encode("utf-8")  # half a surrogate pair could not be printed
    except UnicodeError:
        raise UnreadableError("a string is not escaped Unicode") from None
    return text


def decimal(raw: bytes) -> int:
    """A whole number in digits."""
    # Python's own limit, where it has one: reading and printing more takes quadratic time.
    if not re.fullmatch(rb"[+-]?[0-9]{1,4300}L?", raw):
        raise UnreadableError("a number is not written in digits")
    return int(raw.rstrip(b"L"))


def decimal_or_bool(raw: bytes) -> int | bool:
    """A whole number or, spelled 00 and 01, false and true."""
    return raw == b"01" if raw in (b"00", b"01") else decimal(raw)


def real(raw: bytes) -> float:
    """A floating-point number in digits."""
    try:
        return float(raw)
    except ValueError:
        raise UnreadableError("a number is not written in digits") from None


def long(raw: bytes) -> int:
    """A whole number in two's complement."""
    if len(raw) > 1780:  # 4300 digits, as above
        raise UnreadableError(f"a number has {len(raw)} bytes")
    return int.from_bytes(raw, "little", signed=True)


# Globals that have a meaning in every pickle. Arguments they cannot take make a placeholder.


def make_set(args: Args) -> Any:
    """The set that a list of items makes."""
    match args:
        case ():
            return set()
        case (list(items),):
            return {plain_key(item, number) for number, item in enumerate(items)}
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
            return {plain_key(key, number): value for number, (key, value) in enumerate(pairs)}
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
    "builtins.set": make_set,
    "builtins.frozenset": make_set,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytearray,
    "builtins.complex": _complex,
    "_codecs.encode": _bytes,
    "collections.OrderedDict": _dict,
    "collections.Counter": _dict,
    "collections.defaultdict": lambda args: _dict(args[1:]),  # after the factory
}
PLAIN = {name: Known(name, build, copies=True) for name, build in _BUILDERS.items()}
