"""Mutate inputs according to the grammar of their format, and run a target on them."""

from __future__ import annotations

import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from types import FrameType

from .grammar import NUMBERS
from .targets import Target

LONGEST = 5.0  # seconds for an input
MEMORY = 300 * 2**20  # bytes more than before
_MAX_SIZE = 1 << 16


class HangError(BaseException):
    """An input takes too long. Readers must not catch this."""


@dataclass
class Found:
    """Statistics of a run: inputs, valid inputs, and seconds of the slowest input."""

    inputs: int = 0
    valid: int = 0
    slowest: float = 0.0
    crash: bytes | None = None
    error: BaseException | None = None


def mutate(target: Target, data: bytes, rng: Random, other: bytes = b"") -> bytes:
    """Apply a few changes to ``data``; ``other`` is an input to take pieces from."""
    pieces = [*_pieces(target, data)]
    donors = (*target.words, *_pieces(target, other))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 8))):
        at = rng.randrange(len(pieces) + 1)
        some = slice(at, at + rng.choice((1, 1, 1, 2, 5)))
        match rng.randrange(6):
            case 0:
                del pieces[some]
            case 1:
                pieces[at:at] = pieces[some] * rng.choice((1, 1, 2, 100))
            case 2:
                pieces[at:at] = [rng.choice(donors)]
            case 3:
                pieces[some] = [rng.choice(donors)]
            case 4:
                pieces[at:at] = rng.sample(pieces, min(len(pieces), rng.randrange(4)))
            case 5 if at < len(pieces):
                pieces[at] = _damaged(pieces[at], rng)
    whole = b"".join(pieces)[:_MAX_SIZE]
    return whole[: rng.randrange(len(whole) + 1)] if rng.random() < 0.03 else whole


@lru_cache(maxsize=64)
def _pieces(target: Target, data: bytes) -> tuple[bytes, ...]:
    return tuple(target.pieces(data))


def _damaged(piece: bytes, rng: Random) -> bytes:
    """A piece with a byte changed, or a number written over some of it."""
    at = rng.randrange(len(piece) or 1)
    new = bytes([rng.randrange(256)]) if rng.random() < 0.5 else rng.choice(NUMBERS)
    return piece[:at] + new + piece[at + len(new) :]


def run(target: Target, seeds: Sequence[bytes], enough: Callable[[int], bool], seed: int) -> Found:
    """Run the target on its seeds and on mutations of them, until the first finding.

    ``enough`` is called before each input with the number of inputs so far.
    """
    rng, found = Random(seed), Found()
    with _bounded():
        while not enough(found.inputs):
            data = seeds[found.inputs % len(seeds)]
            if found.inputs >= len(seeds):
                data = mutate(target, data, rng, rng.choice(seeds))
            start = time.process_time()
            try:
                signal.setitimer(signal.ITIMER_REAL, LONGEST)
                found.valid += target.run(data)
            except (Exception, HangError) as error:
                found.crash, found.error = data, error
                return found
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            found.inputs += 1
            found.slowest = max(found.slowest, time.process_time() - start)
    return found


@contextmanager
def _bounded() -> Iterator[None]:
    """Make an input that hangs raise :class:`HangError`, and a too large one MemoryError."""

    def hang(_: int, __: FrameType | None) -> None:
        raise HangError(f"more than {LONGEST:g} s")

    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, hang)
    if sys.platform == "linux":  # which alone says what is in use, and keeps to the limit
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)
