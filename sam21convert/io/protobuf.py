"""Walk through a protobuf message without a schema, and without copying what it holds.

Follows https://protobuf.dev/programming-guides/encoding/. Only what the caller descends into is
looked at, and a length never leads out of the message that states it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) are long obsolete
_MOST = 10  # bytes of a varint
_SIZES = {_FIXED64: 8, _FIXED32: 4}


class WireError(ValueError):
    """The bytes are not a protobuf message; the text says what is wrong, and where."""


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: Its number in the schema.
        value: Of a varint the number, else 0.
        begin: Where its content begins in the file.
        end: Where it ends.
    """

    number: int
    value: int
    begin: int
    end: int


def fields(data: memoryview, begin: int, end: int) -> Iterator[Field]:
    """List the fields of a message.

    Args:
        data: The file.
        begin: Where the message begins.
        end: Where it ends.

    Yields:
        The fields in the order of the file. The content of an embedded message or a text is not
        looked at.

    Raises:
        WireError: If the bytes are not a message.
    """
    at = begin
    while at < end:
        tag, at = varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"field 0 at byte {at}")
        if wire == _VARINT:
            start = at
            value, at = varint(data, at, end)
            yield Field(number, value, start, at)
            continue
        if wire == _BYTES:
            length, at = varint(data, at, end)
        elif wire in _SIZES:
            length = _SIZES[wire]
        else:
            raise WireError(f"wire type {wire} at byte {at}")
        if length > end - at:
            raise WireError(f"{length} bytes are announced at byte {at}, {end - at} are left")
        yield Field(number, 0, at, at + length)
        at += length


def varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """Read a number of variable length.

    Args:
        data: The file.
        at: Where it begins.
        end: Where the message ends.

    Returns:
        The number, as 64 unsigned bits, and where it ends.

    Raises:
        WireError: If it is cut short or too long.
    """
    value = 0
    for count in range(_MOST):
        if at >= end:
            raise WireError(f"the file ends within a number at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise WireError(f"a number of more than {_MOST} bytes at byte {at}")
