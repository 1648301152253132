"""Compare our interpreter of pickles with that of the standard library, on damaged pickles.

Every name that ``pickle.Unpickler`` asks for, in C or in Python, must be among the globals that our
scan finds, or the scan must say that names are computed, that programs may differ, or that the
pickle is too large. Nothing is imported: the unpicklers get a class that does nothing.

Run as ``python -m tests.fuzzing.differential SECONDS [SEED]``.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import pickle
import random
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam21convert.io.pickle.load import scan
from sam21convert.io.pickle.references import COMPUTED

from . import grammar

_EVERY = 8  # of so many pickles one is also read by the unpickler in Python, which is slow
_MEMORY = 32 * 2**20  # bytes: what a pickle may make an unpickler reserve, beyond what is in use


class Inert:
    """Stands for whatever a pickle imports, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return object.__new__(cls)

    def __call__(self, *_: Any, **__: Any) -> Inert:
        return self

    def __setstate__(self, _: Any) -> None: ...
    def __setitem__(self, _: Any, __: Any) -> None: ...
    def append(self, _: Any) -> None: ...
    def extend(self, _: Any) -> None: ...
    def add(self, _: Any) -> None: ...


class _Recorder:
    """Mixed into an unpickler: records the names it asks for, and imports nothing."""

    names: set[tuple[str, str]]

    def find_class(self, module: str, name: str) -> Any:
        self.names.add((module, name))
        return Inert

    def persistent_load(self, _: Any) -> Any:
        return Inert()


class InC(_Recorder, pickle.Unpickler): ...


class InPython(_Recorder, pickle._Unpickler): ...


@dataclass
class Compared:
    """Statistics of a run."""

    inputs: int = 0
    names: int = 0
    whole: int = 0
    doubted: int = 0
    missed: list[tuple[bytes, set[tuple[str, str]]]] = field(default_factory=list)


def asked_for(data: bytes, unpickler: type[InC] | type[InPython]) -> set[tuple[str, str]]:
    """The names that an unpickler of the standard library asks for, up to the first fault."""
    reader = unpickler(io.BytesIO(data))
    reader.names = set()
    with suppress(Exception):  # of any kind, as the pickle is damaged
        reader.load()
    return reader.names


def judge(data: bytes, found: Compared) -> None:
    """Compare the interpreters on one pickle."""
    names: set[tuple[str, str]] = set()
    for unpickler in (InC, InPython) if found.inputs % _EVERY == 0 else (InC,):
        names |= asked_for(data, unpickler)
    ours = scan(data)
    found.inputs += 1
    found.names += len(names)
    found.whole += ours.end is not None
    known = {(one.module, one.name) for one in ours.references}
    if names <= known:
        return
    computed = any(COMPUTED in name for name in known)
    if ours.doubts or computed or not ours.complete:
        found.doubted += 1  # the verdict on it is not "clean"
    else:
        found.missed.append((data, names - known))


def seeds() -> list[bytes]:
    """Pickles of all protocols, with everything that a checkpoint has."""
    value = [
        argparse.Namespace(lr=1e-4, steps=[1, 2, {"a": (1, 2.5)}]),
        collections.OrderedDict(a=1, b=collections.Counter("aab")),
        collections.defaultdict(list, best=[datetime.date(2024, 1, 1)]),
        {"text": "ü\n'\\", "bytes": b"\x00\xff", 3: {1, 2}, None: frozenset("a"), "long": 2**70},
        [bytearray(b"a"), 1 + 2j, True, -1, 0.5],
    ]
    value.append(value[0])
    return [
        *(pickle.dumps(value, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        *(pickle.dumps([one, one], protocol) for one in value for protocol in (0, 1, 2, 4)),
        grammar.one_tensor(),
    ]


_WORDS = (
    # Without the large numbers of memo entries, which take an unpickler long and bring nothing.
    *(word for word in grammar.OPCODES if word[:1] != b"r" or word in (b"r", b"r\1\0\0\0")),
    *(b"S'o\\163'\n", b"S'\\x6fs'\n", b'S"\\q"\n', b"S'a\\\n'\n", b"Vo\\u0073\n"),
    *(b"p007\n", b"g007\n", b"p+1\n", b"g 1\n", b"p1_0\n", b"g-1\n", b"p1\0\n", b"pp\n", b"g\n"),
    *(b"cos\nsystem\n", b"ios\nsystem\n", b"\x8c\x02os\x8c\x06system\x93", b"c\n\n"),
    *(b"\x95" + bytes(8), b"\x95\x01" + bytes(7), b"\x97", b"\x98", b"\x82\1", b"1", b"2", b"o"),
    *(b"U\x02os", b"T\x02\0\0\0os", b"X\x02\0\0\0os", b"\x8d\x02\0\0\0\0\0\0\0os", b"\x8c\1\xff"),
)
_NAMES = [word for word in _WORDS if word[:1] == b"c" or word[-1:] == b"\x93"]


def inputs(rng: random.Random) -> Iterator[bytes]:
    """Random opcodes, and seeds that are cut, changed, joined and stuffed with other opcodes."""
    whole = seeds()
    pieces = [grammar.opcodes(seed) for seed in whole]
    while True:
        kind = rng.random()
        if kind < 0.3:
            words = [rng.choice(_NAMES), *rng.choices(_WORDS, k=rng.randrange(1, 12))]
            rng.shuffle(words) if rng.random() < 0.5 else None
            yield b"".join(words) + rng.choice((b".", b""))
            continue
        mine = [*rng.choice(pieces)]
        if kind < 0.4:
            start = rng.randrange(len(mine))
            mine = mine[start : start + rng.randrange(1, 12)]
        for _ in range(rng.choice((1, 1, 2, 3, 6))):
            at = rng.randrange(len(mine) + 1)
            match rng.randrange(5):
                case 0:
                    del mine[at : at + rng.randrange(1, 4)]
                case 1:
                    mine[at:at] = [rng.choice(_WORDS)]
                case 2:
                    mine[at:at] = rng.choice(pieces)[:: rng.choice((1, 3, 7))][:6]
                case 3 if at < len(mine) and mine[at]:
                    piece = bytearray(mine[at])
                    piece[rng.randrange(len(piece))] = rng.randrange(256)
                    mine[at] = bytes(piece)
                case 4:
                    mine[at : at + 2] = mine[at : at + 2][::-1]
        yield b"".join(mine)[: rng.choice((1 << 16, 1 << 16, 200))]


def compare(seconds: float, seed: int) -> Compared:
    """Compare the interpreters on as many inputs as fit into the time, until a name is missed."""
    found, end = Compared(), time.monotonic() + seconds
    for data in inputs(random.Random(seed)):
        judge(data, found)
        if time.monotonic() > end or found.missed:
            break
    return found


def main(seconds: float, seed: int) -> int:
    """Compare, with little memory for this process, and print what was found; 1 for a miss."""
    if sys.platform == "linux":  # which alone says what is in use, and keeps to the limit
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + _MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, limit)
    found = compare(seconds, seed)
    print(
        f"{found.inputs:,} pickles, {found.whole:,} whole, {found.names:,} names asked for, "
        f"{found.doubted:,} only said to be doubtful"
    )
    for data, names in found.missed:
        print("missed", names, data)
    return int(bool(found.missed))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
