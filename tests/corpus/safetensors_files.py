# ruff: noqa: E501
"""Safetensors files and indices that contradict themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .attacks import ATTACKS
from .case import ACCEPTED, Case, written
from .spelling import model_data, model_header, model_safetensors, safetensors, span

INDEX = "model.safetensors.index.json"
_MANY = 1_300_000

# A header, as JSON or as it stands, the data, and what is said of the file.
HEADERS: dict[str, tuple[Any, bytes, str]] = {
    "a gap": ({"a": span(0, 4, [1]), "b": span(8, 12, [1])}, bytes(12), "b leaves a gap"),
    "a gap at the start": ({"a": span(4, 8, [1])}, bytes(8), "a leaves a gap"),
    "an overlap": ({"a": span(0, 8, [2]), "b": span(4, 8, [1])}, bytes(8), "b overlaps"),
    "one place for two": ({"a": span(0, 4, [1]), "b": span(0, 4, [1])}, bytes(4), "b overlaps"),
    "cut short": ({"a": span(0, 4, [1])}, bytes(3), "describes 4 bytes of data, but the file has 3"),
    "bytes after it": ({"a": span(0, 4, [1])}, bytes(5), "describes 4 bytes of data, but the file has"),
    "beyond the end": ({"a": span(0, 2**40, [2**38])}, bytes(4), "describes 1099511627776 bytes"),
    "too few bytes": ({"a": span(0, 4, [2])}, bytes(4), "needs 8 bytes, but its offsets span 4"),
    "another type": ({"a": span(0, 4, [1], "F64")}, bytes(4), "needs 8 bytes, but its offsets span 4"),
    "offsets turned around": ({"a": span(4, 0, [1])}, bytes(4), "its offsets span -4"),
    "negative offset": ({"a": span(-4, 0, [1])}, bytes(4), "a: shape and data_offsets must be"),
    "negative size": ({"a": span(0, 4, [-1])}, bytes(4), "a: shape and data_offsets must be"),
    "huge size": ({"a": span(0, 4, [1 << 70])}, bytes(4), "a: shape and data_offsets must be"),
    "huge product": ({"a": span(0, 4, [2**62, 2**62, 0, 1])}, bytes(4), "its offsets span 4"),
    "wrapping product": ({"a": span(0, 4, [2**32, 2**32, 1])}, bytes(4), "its offsets span 4"),
    "a fraction": (b'{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', bytes(4), "must be"),
    "infinity": (b'{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,4]}}', b"", "must be"),
    "true as a size": (b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', b"", "must be"),
    "three offsets": ({"a": {**span(0, 4, [1]), "data_offsets": [0, 4, 4]}}, bytes(4), "must be"),
    "many dimensions": ({"a": span(0, 4, [1] * 10_000)}, bytes(4), "dimensions"),
    "an unknown type": ({"a": span(0, 4, [1], "F3")}, bytes(4), "unknown element type 'F3'"),
    "floats of 4 bits": ({"a": span(0, 4, [8], "F4")}, bytes(4), "is quantised to F4"),
    "a list as a type": ({"a": {**span(0, 4, [1]), "dtype": ["F32"]}}, bytes(4), "element type"),
    "a long type": ({"a": span(0, 4, [1], "F" * 10**5)}, bytes(4), "needs exactly"),
    "no shape": ({"a": {"dtype": "F32"}}, b"", "needs exactly"),
    "one field more": ({"a": {**span(0, 4, [1]), "x": 1}}, bytes(4), "needs exactly"),
    "a number as a tensor": ({"a": 3}, b"", "needs exactly"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
    "metadata of lists": ({"__metadata__": {"a": ["b"]}}, b"", "__metadata__"),
    "a list as metadata": ({"__metadata__": ["a"]}, b"", "__metadata__"),
    "a name twice": (b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":2}', bytes(4), "'a' occurs twice"),
    "metadata twice": (b'{"__metadata__":{"a":"b"},"__metadata__":{"a":"c"}}', b"", "'__metadata__' occurs twice"),
    "names of one letter in two cases": ({"a": span(0, 4, [1]), "A": span(4, 8, [1])}, bytes(8), "'a' and 'A' may be taken for each other"),
    "names in two Unicode forms": ({"\u00e9": span(0, 4, [1]), "e\u0301": span(4, 8, [1])}, bytes(8), "may be taken for each other"),
    "names with two separators": ({"a/b": span(0, 4, [1]), "a\\b": span(4, 8, [1])}, bytes(8), "may be taken for each other"),
    "a name with a dot at the end": ({"a": span(0, 4, [1]), "a.": span(4, 8, [1])}, bytes(8), "may be taken for each other"),
    "a field twice": (b'{"a": {"dtype": "F32", "dtype": "F16"}}', b"", "'dtype' occurs twice"),
    "a list": (b"[]", b"", "not a JSON object"),
    "a text": (b'"a"', b"", "not a JSON object"),
    "no JSON": (b"{", b"", "the header is not valid"),
    "rest after the JSON": (b"{} {}", b"", "the header is not valid"),
    "nested too deep": (b'{"a":' + b"[" * 100_000, b"", "the header is not valid"),
    "a number of 5000 digits": (b'{"a":' + b"9" * 5000 + b"}", b"", "the header is not valid"),
    "not UTF-8": (b'{"\xff": 1}', b"", "the header is not valid"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), b"", "the header is not valid"),
    "half a surrogate pair": (b'{"\\ud800":{"dtype":"F4","shape":[],"data_offsets":[0,0]}}', b"", "ud800"),
    "a line break in a name": ({"a\nerror: b": span(0, 4, [1])}, bytes(4), "a\\nerror: b"),
    "an escape sequence in a name": ({"\x1b[2Ja": span(0, 4, [1])}, bytes(4), "x1b"),
    "a name from right to left": ({"\u202ea": span(0, 4, [1])}, bytes(4), "u202e"),
    "nothing": ({}, b"", "holds no tensors by name"),
    "more names than allowed": (b"{" + b",".join(b'"%x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(120_001)) + b"}", b"", "more than the 120000 tensors allowed"),
    "metadata of many empty lists": (b'{"__metadata__":{"a":[' + b"[]," * _MANY + b"1]}}", b"", "__metadata__"),
    "10 MB of metadata": (b'{"__metadata__":{"a":"' + b"x" * 10**7 + b'"}}', b"", "the header is not valid"),
    "a name of 10 MB": (b'{"' + b"x" * 10**7 + b'":1}', b"", "the header is not valid"),
    "many empty lists": (b'{"a":[' + b"[]," * _MANY + b"1]}", b"", "a: needs exactly"),
    "many empty maps": (b'{"a":[' + b"{}," * (_MANY - 100_000) + b"1]}", b"", "needs exactly"),
}  # fmt: skip


def cases() -> Iterator[Case]:
    """Broken headers, lengths of headers, and indices."""
    file = "a.safetensors"
    for name, (header, data, message) in HEADERS.items():
        made = written(safetensors(header, data))
        yield Case("safetensors headers", name, made, (message,), file=file)
    for length in (3, 2**24, 2**40, 2**63, 2**64 - 1):
        made = written(safetensors({}, length=length))
        says: tuple[str, ...] = (f"claims a header of {length} bytes" if length > 3 else "header",)
        yield Case("safetensors headers", f"a length of {length}", made, says, file=file)
    says = ("a header of 100000000 bytes", "allowed")
    yield Case("safetensors headers", "100 MB of it", _hole(10**8, 10**9), says, file=file)
    says = ("a header of 100000001 bytes", "allowed")
    yield Case("safetensors headers", "more than 100 MB", _hole(10**8 + 1, 10**9), says, file=file)
    for count in (1, 7, 8):
        made = written(bytes(count))
        yield Case("safetensors headers", f"{count} bytes", made, ("header",), file=file)
    header, _ = model_header()
    spaces = json.dumps(header, indent=1).encode() + b" " * 99
    whole = written(lambda: safetensors(spaces, model_data()))
    yield Case("safetensors headers", "spread over lines", whole, file=file, codes=ACCEPTED)
    noted = {"__metadata__": {"\u202e\n": "\x1b[2J"}, **header}
    whole = written(lambda: safetensors(noted, model_data()))
    yield Case("safetensors headers", "odd metadata", whole, file=file, codes=ACCEPTED)
    yield Case("safetensors headers", "as .pt", written(model_safetensors), codes=ACCEPTED)
    yield from _indices()


def _hole(header: int, size: int) -> Callable[[Path], object]:
    """A sparse file of this size that claims a header of this length."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.write(header.to_bytes(8, "little") + b"{")
            file.truncate(size)

    return make


def _indices() -> Iterator[Case]:
    one, other = "1.safetensors", "2.safetensors"
    good = {"a": one, "b": other}
    for name, content, *says in (
        ("a missing shard", {**good, "c": "3.safetensors"}, "3.safetensors", "No such file"),
        ("a tensor in the wrong shard", {"a": one, "b": one}, "places b in 1.safetensors"),
        ("a tensor too many", {**good, "c": other}, "places c in 2.safetensors"),
        ("a shard twice named", {**good, "b": f"./{other}"}, "not a file name in this folder"),
        ("out of the folder", {"a": "../1.safetensors"}, "not a file name in this folder"),
        ("an absolute name", {"a": "/etc/passwd"}, "not a file name in this folder"),
        ("the folder itself", {"a": "."}, "not a file name in this folder"),
        ("the folder above", {"a": ".."}, "not a file name in this folder"),
        ("no name", {"a": ""}, "not a file name in this folder"),
        ("a NUL in a name", {"a": "a\0b"}, "not a file name in this folder"),
        ("a line break in a name", {"a": "a\nb"}, "not a file name in this folder"),
        ("half a surrogate pair", {"a": "\ud800"}, "not a file name in this folder"),
        ("a long name", {"a": "x" * 10**4}, "not a file name in this folder"),
        ("a name of 100 KB", {"a": "x" * 10**5}, "not valid JSON"),
        (
            "names of one shard in two cases",
            {"a": one, "b": "1.SafeTensors"},
            "may be taken for each other",
        ),
        ("a tensor in two cases", {"a": one, "A": other}, "may be taken for each other"),
        ("a folder as a shard", {"a": "sub"}, "sub", "not a regular file"),
        ("a FIFO as a shard", {"a": "pipe"}, "pipe", "not a regular file"),
        ("a device as a shard", {"a": "zero"}, "zero", "not a regular file"),
        ("a loop as a shard", {"a": "loop"}, "loop", "symbolic links"),
        ("a pickle as a shard", {"a": "evil.safetensors"}, "evil.safetensors", "header"),
        ("a number as a name", {"a": 3}, "not a file name in this folder"),
        ("an empty map", {}, "has no weight_map"),
        ("a list", ["a"], "has no weight_map"),
        ("none", None, "has no weight_map"),
    ):
        text = json.dumps({"metadata": {}, "weight_map": content}).encode()
        yield Case("shards", name, _sharded(text), (*says,), file="folder")
    for name, text, message in (
        ("a tensor in two shards", b'{"weight_map": {"a": "1.safetensors", "a": "2"}}', "occurs twice"),
        ("two maps", b'{"weight_map": {"a": "1"}, "weight_map": {}}', "occurs twice"),
        ("no JSON", b"{", "not valid JSON"),
        ("nested too deep", b'{"a":' + b"[" * 10**5, "not valid JSON"),
        ("not UTF-8", b'{"\xff": 1}', "not valid JSON"),
        ("not an object", b"[1]", "has no weight_map"),
    ):  # fmt: skip
        yield Case("shards", f"index: {name}", _sharded(text), (INDEX, message), file="folder")
    yield Case(
        "shards",
        "index: 4 GB of holes",
        _sharded(None),
        (INDEX, "too large for an index"),
        file="folder",
    )


def _sharded(index: bytes | None) -> Callable[[Path], object]:
    """A folder of two shards and some paths that cannot be shards; or a sparse file as the index."""

    def make(folder: Path) -> None:
        (folder / "sub").mkdir(parents=True)
        os.mkfifo(folder / "pipe")
        (folder / "zero").symlink_to("/dev/zero")
        (folder / "loop").symlink_to("loop")
        (folder / "evil.safetensors").write_bytes(ATTACKS["STACK_GLOBAL REDUCE"])
        for number, name in enumerate("ab", 1):
            made = safetensors({name: span(0, 4, [1])}, bytes(4))
            (folder / f"{number}.safetensors").write_bytes(made)
        (folder / INDEX).write_bytes(index or b"{")
        if index is None:
            os.truncate(folder / INDEX, 2**32)

    return make
