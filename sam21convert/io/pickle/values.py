"""Decode the numbers and strings of pickles, and the few globals that stand for plain data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import UnreadableError
from ..source import Placeholder
from .machine import Args, Known, OddText, Record
from .references import GlobalReference


def plain_key(value: Any, number: int) -> Any:
    """Turn a value of a pickle into a dict key that is cheap to hash.

    A pickle can hold keys whose hashing takes very long, such as deeply nested tuples or many
    integers with the same hash.

    Args:
        value: The key, as read from the pickle.
        number: A number that makes the replacement unique within its dict.

    Returns:
        ``value`` itself if it is a string, a number, None or a short tuple of these; the key that
        a :class:`Record` has for itself; otherwise a text such as ``<list 3>``.
    """
    if isinstance(value, Record) and value.as_key is not None:
        value = value.as_key(value.state)
    if (
        type(value) in (str, GlobalReference)
        or _is_atom(value)
        or (type(value) is tuple and len(value) <= 16 and all(map(_is_atom, value)))
    ):
        return value
    return f"<{value.name if isinstance(value, Placeholder) else type(value).__name__} {number}>"


def _is_atom(value: Any) -> bool:
    # Larger integers can be chosen to have the same hash, which makes a dict of them slow.
    return type(value) in _ATOMS or (type(value) is int and -(2**63) <= value < 2**64)


_ATOMS = frozenset({str, bytes, float, bool, type(None)})


def utf8(raw: bytes) -> str:
    """Decode a text of protocol 1 or later.

    Args:
        raw: UTF-8 bytes.

    Returns:
        The text.

    Raises:
        UnreadableError: If the bytes are not UTF-8.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableError("a string is not UTF-8") from None


def python2(raw: bytes) -> str | bytes:
    """Decode a ``str`` of Python 2, which was used for text and for data.

    Args:
        raw: Its bytes.

    Returns:
        The text, or ``raw`` itself if it is not UTF-8.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def quoted(raw: bytes) -> str | bytes:
    """Decode a quoted string literal of protocol 0.

    Args:
        raw: The literal with its quotes.

    Returns:
        The text, or bytes if it is not UTF-8 (see :func:`python2`).

    Raises:
        UnreadableError: If there are no matching quotes around it.
    """
    if len(raw) < 2 or raw[:1] not in (b"'", b'"') or raw[:1] != raw[-1:]:
        raise UnreadableError("a string has no quotes around it")
    inner = raw[1:-1]
    if b"\\" not in inner:
        return python2(inner)
    if b"\\" in _ESCAPE.sub(b"", inner):
        raise UnreadableError("a string has an escape that is none")
    text = python2(_ESCAPE.sub(_unescape, inner))
    plain = all(found[0] in _WRITTEN or found[1] for found in _ESCAPE.finditer(inner))
    return text if plain or isinstance(text, bytes) else OddText(text)


# As CPython reads escapes; a backslash before any other byte stands for itself.
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|([^x]))", re.DOTALL)
_WRITTEN = {rb"\n", rb"\r", rb"\t", rb"\\", rb"\'", rb"\""}  # as repr() of Python 2 writes


def _unescape(found: re.Match[bytes]) -> bytes:
    code, octal, char = found.groups()
    if code:
        return bytes.fromhex(code.decode())
    if octal:
        return bytes([int(octal, 8) & 255])
    return _CONTROL.get(char, found[0])


_CONTROL = {bytes([char]): bytes([char]) for char in b"\\'\""} | {
    b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"
}  # fmt: skip


def loosely(raw: bytes, convert: Callable[[bytes], Any]) -> Any:
    """Decode what :func:`utf8` and :func:`escaped` refuse and CPython accepts.

    Args:
        raw: The text.
        convert: The function that refused it.

    Returns:
        The text, possibly with half a surrogate pair; None if CPython refuses it too.
    """
    try:
        if convert is utf8:
            return OddText(raw.decode("utf-8", "surrogatepass"))
        if convert is escaped:
            return OddText(raw.decode("raw-unicode-escape"))
    except UnicodeError:
        pass
    return None


def escaped(raw: bytes) -> str:
    """Decode a text of protocol 0, in which other characters are ``\\u`` escapes.

    Args:
        raw: The escaped text.

    Returns:
        The text.

    Raises:
        UnreadableError: If the escapes are malformed or give half a surrogate pair.
    """
    try:
        text = raw.decode("raw-unicode-escape")
        text.encode("utf-8")  # fails for half a surrogate pair, which could not be printed
    except UnicodeError:
        raise UnreadableError("a string is not escaped Unicode") from None
    return text


def memo_number(raw: bytes) -> tuple[int, bool]:
    """Decode the number of a memo entry.

    Args:
        raw: Its digits, as far as a program wrote it.

    Returns:
        The number as CPython's unpickler in C reads it, and whether every program reads it so. -1
        for what none reads.
    """
    if re.fullmatch(rb"0|[1-9][0-9]{0,9}", raw) and (number := int(raw)) < 2**32:
        return number, True
    try:
        return int(raw.partition(b"\0")[0][:4300]), False
    except ValueError:
        return -1, False


def decimal(raw: bytes) -> int:
    """Decode an integer in decimal digits, optionally followed by the ``L`` of Python 2.

    Args:
        raw: Sign and digits, 4300 digits at most.

    Returns:
        The integer.

    Raises:
        UnreadableError: If it is anything else, or longer.
    """
    # Converting digits takes quadratic time, so newer versions of Python have the same limit.
    if not re.fullmatch(rb"[+-]?[0-9]{1,4300}L?", raw):
        raise UnreadableError("a number is not written in digits")
    return int(raw.rstrip(b"L"))


def decimal_or_bool(raw: bytes) -> int | bool:
    """Decode an integer of protocol 0, which writes False and True as ``00`` and ``01``.

    Args:
        raw: The digits.

    Returns:
        The integer or the bool.
    """
    return raw == b"01" if raw in (b"00", b"01") else decimal(raw)


def real(raw: bytes) -> float:
    """Decode a floating-point number of protocol 0.

    Args:
        raw: The number as text.

    Returns:
        Its value.

    Raises:
        UnreadableError: If it is not a number.
    """
    try:
        return float(raw)
    except ValueError:
        raise UnreadableError("a number is not written in digits") from None


def long(raw: bytes) -> int:
    """Decode an integer of protocol 2 or later.

    Args:
        raw: Little-endian two's complement, 1780 bytes at most.

    Returns:
        The integer.

    Raises:
        UnreadableError: If there are more bytes.
    """
    if len(raw) > 1780:  # 4300 decimal digits, the limit of :func:`decimal`
        raise UnreadableError(f"a number has {len(raw)} bytes")
    return int.from_bytes(raw, "little", signed=True)


# Globals that are understood in every pickle. With arguments that they cannot take they give a
# placeholder instead of an error, as the rest of the file may still be of use.


def make_set(args: Args) -> Any:
    """Build a ``set`` or ``frozenset``.

    Args:
        args: No argument, or a list of items.

    Returns:
        The set, or a :class:`Placeholder` for other arguments.
    """
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
    """Protocols 0 to 2 write bytes as a Latin-1 string and a call that encodes it."""
    match args:
        case ():
            return b""
        case (str(text), "latin1" | "latin-1"):
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError:
                raise UnreadableError("bytes are written with characters beyond Latin-1") from None
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
    "collections.defaultdict": lambda args: _dict(args[1:]),  # the first is the factory
}
PLAIN = {name: Known(name, build, copies=True) for name, build in _BUILDERS.items()}
