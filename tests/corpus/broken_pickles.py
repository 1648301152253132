# ruff: noqa: E501
"""Pickles that are broken, or that would take all memory."""

from __future__ import annotations

from collections.abc import Iterator

from .case import Case, written
from .spelling import LEGACY, spelled, storage, tensor, tensor_pickle, torch_zip

# Spelled by hand: the place of the error and its words.
BROKEN = {
    "empty": (b"", 0, "ends before"),
    "no STOP": (b"N", 1, "ends before"),
    "cut in a number": (b"J\x00", 0, "ends before"),
    "cut in a line": (b"I12", 0, "ends before"),
    "cut in a string": (b"X\x05\x00\x00\x00abc.", 0, "ends before"),
    "unknown opcode": (b"N\xff.", 1, "0xff is not an opcode"),
    "out-of-band buffer": (b"\x97.", 0, "0x97 is not an opcode"),
    "protocol 6": (b"\x80\x06N.", 0, "no pickle protocol 6"),
    "nothing to return": (b".", 0, "no value on the stack"),
    "nothing to pop": (b"0.", 0, "no MARK"),
    "tuple of too little": (b"N\x86.", 1, "no value on the stack"),
    "value behind a mark": (b"N(\x85.", 2, "no value on the stack"),
    "no MARK": (b"Nt.", 1, "no MARK"),
    "no memo entry": (b"h\x07.", 0, "never set"),
    "negative memo entry": (b"Np-1\n.", 1, "out of range"),
    "huge memo entry": (b"Np99999999999\n.", 1, "out of range"),
    "key without value": (b"}(Nu.", 3, "no value"),
    "item of a number": (b"K\x01NNs.", 4, "set in a int"),
    "append to a dict": (b"}Na.", 2, "appended to a dict"),
    "add to a list": (b"](N\x90.", 3, "added to a list"),
    "attributes of a number": (b"K\x01Nb.", 3, "given attributes"),
    "call of a number": (b"K\x01)R.", 3, "called like a function"),
    "arguments no tuple": (b"ccollections\nOrderedDict\n]R.", 26, "not a tuple"),
    "global with a number": (b"K\x01K\x02\x93.", 4, "not a string"),
    "object without class": (b"(o.", 1, "no class"),
    "persistent id": (b"Pa\n.", 0, "persistent id"),
    "text no UTF-8": (b"\x8c\x01\xff.", 0, "not UTF-8"),
    "half a surrogate pair": (b"V\\ud800\n.", 0, "not escaped Unicode"),
    "bad escape": (b"V\\u12\n.", 0, "not escaped Unicode"),
    "no quotes": (b"Sa\n.", 0, "no quotes"),
    "no number": (b"Ix\n.", 0, "not written in digits"),
    "no float": (b"Fx\n.", 0, "not written in digits"),
    "too many digits": (b"L" + b"9" * 5000 + b"L\n.", 0, "not written in digits"),
    "bytes of wide text": (b"c_codecs\nencode\n(V\\u0100\nVlatin1\ntR.", 34, "characters beyond Latin-1"),
    "negative length": (b"T\xff\xff\xff\xff.", 0, "negative"),
    "huge frame": (b"\x80\x04\x95" + b"\xff" * 8 + b"N.", 2, "ends before"),
    "huge bytes": (b"\x8e" + b"\xff" * 8 + b"a.", 0, "ends before"),
    "huge text": (b"\x8d" + b"\xff" * 7 + b"\x7fa.", 0, "ends before"),
    "huge bytearray": (b"\x96" + b"\xff" * 8 + b"a.", 0, "ends before"),
    "long int": (b"\x8b\xf5\x06\x00\x00" + bytes(1781) + b".", 0, "a number has 1781 bytes"),
    "huge int": (b"\x8b\xff\xff\xff\x7fa.", 0, "ends before"),
}  # fmt: skip


def laughs(empty: bytes, filled: bytes) -> bytes:
    """Sixty containers, each of which holds the one before it ten times."""
    layers = b"".join(b"q%c(" % i + b"h%c" % i * 10 + filled for i in range(60))
    return empty + layers + b"."


MANY = 130_000
DEEP = {
    "tuples": b"N" + b"\x85" * 60_000,
    "lists": b"]" * 60_000 + b"a" * 59_999,
    "dicts": b"}K\x00" * 40_000 + b"N" + b"s" * 40_000,
    "marks": b"(" * 60_000 + b"N" + b"l" * 60_000,
}
BOMBS = {
    "laughing tuples": (laughs(b")", b"t"), "refer to each other too many times"),
    "laughing lists": (laughs(b"]", b"l"), "refer to each other too many times"),
    "a list in itself": (b"]q\x00h\x00a.", "contains itself"),
    "copies over and over": (
        b"(](" + b"K\x01" * 1000 + b"eq\x00cbuiltins\nset\nq\x010" + b"h\x01(h\x00tR" * 1000 + b"l.",
        "over and over",
    ),
    **{f"deep {name}": (data + b".", "nested more than") for name, data in DEEP.items()},
    "many opcodes": (b"N0" * 3_000_000 + b"N.", "opcodes"),
    "many sets": (b"(" + b"\x8f" * 3_000_000 + b"l.", "take more than 32 MiB"),
    "many memo entries": (b"N" + b"\x94" * 3_000_000 + b".", "take more than 32 MiB"),
    "as many sets as are allowed": (b"(" + b"\x8f" * 140_000 + b"l.", "holds no tensors by name"),
    "as many lists as are allowed": (
        b"(" + b"]" * MANY + b"l.",
        "holds no tensors by name",
    ),
    "as many memo entries as are allowed": (
        b"N" + b"\x94" * MANY + b".",
        "holds no tensors by name",
    ),
    "as many nested tuples as are allowed": (
        b"(" + (b"N" + b"\x85" * 90) * (MANY // 91) + b"l.",
        "holds no tensors by name",
    ),
    "many long names": (
        b"X" + (10**6).to_bytes(4, "little") + b"x" * 10**6 + b"q\x000"
        + b"(" + b"h\x00h\x00\x93" * 40_000 + b"l.",
        "the name of a global",
    ),
    "a text of wide characters": (
        b"X" + (16_000_004).to_bytes(4, "little") + b"\xf0\x9f\x98\x80" + b"x" * 16_000_000 + b".",
        "holds no tensors by name",
    ),
    "keys that collide": (
        b"}(" + b"".join(spelled(k * (2**61 - 1)) + b"N" for k in range(1, 20_000)) + b"u.",
        "holds no tensors by name",
    ),
}  # fmt: skip
IDS = {
    "none": b"N",
    "a text": spelled("0"),
    "too short": b"(" + spelled("storage") + b"t",
    "another word": b"(" + spelled("module") + b"ctorch\nFloatStorage\n" + spelled("0") + b"NNt",
    "another class": b"(" + spelled("storage") + b"cos\nsystem\n" + spelled("0") + b"NNt",
    "too long": b"(" + spelled("storage") + b"ctorch\nFloatStorage\n" + b"N" * 9 + b"t",
    "a list": spelled(["storage"]),
}


def cases() -> Iterator[Case]:
    """All broken pickles in an archive, and some as files of their own."""
    for name, (data, place, message) in BROKEN.items():
        message = "does not describe a storage" if name == "persistent id" else message
        says = (f"data.pkl, byte {place}", message)
        yield Case("broken pickles", name, written(torch_zip(data)), says)
    for name, (data, message) in BOMBS.items():
        yield Case("pickle bombs", name, written(torch_zip(data)), (message,))
    for code in (b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"):
        name = f"EXT{len(code) - 1}"
        made = torch_zip(b"\x80\x02" + code + b")R.")
        yield Case("extension registry", name, written(made), ("extension code 1",))
    for name, spelling in IDS.items():
        made = torch_zip(b"\x80\x02" + spelling + b"Q.")
        says = ("data.pkl, byte", "a persistent id does not describe a storage")
        yield Case("persistent ids", name, written(made), says)
        made = LEGACY + b"\x80\x02" + spelling + b"Q."
        if name != "another word":
            says = ("the pickle of the checkpoint, byte", says[1])
            yield Case("persistent ids", f"{name}, in the legacy format", written(made), says)
    yield from _truncated()


def _truncated() -> Iterator[Case]:
    """A small file of each kind, cut at some bytes here, and at every byte in test_corpus.py."""
    for name, whole in WHOLE.items():
        for part in (1, 2, 3):
            cut = whole[: len(whole) * part // 4]
            yield Case("truncated", f"{name} at {part}/4", written(cut))


_KEYS = b"\x80\x02]" + spelled("0") + b"a."
WHOLE = {
    "torch zip": torch_zip(tensor_pickle()),
    "torch legacy": LEGACY
    + b"\x80\x02"
    + tensor(0, (6,), (1,), storage("FloatStorage", "0", 6, None))
    + b"."
    + _KEYS
    + (6).to_bytes(8, "little")
    + bytes(24),
}
