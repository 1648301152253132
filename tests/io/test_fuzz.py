"""A short run of the fuzzer on every reader, and controls that it finds planted faults."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from sam21convert.errors import UsageError

from ..fuzzing.mutation import Found, HangError, run
from ..fuzzing.seeds import seeds
from ..fuzzing.targets import TARGETS, Target, clean_up

INPUTS = 2000


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    clean_up()


def fuzz(target: Target) -> Found:
    return run(target, seeds(target.name), lambda count: count >= INPUTS, 0)


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_returns_a_source_or_raises_one_of_our_errors(name: str) -> None:
    found = fuzz(TARGETS[name])
    if found.error is not None:
        raise AssertionError(f"{found.crash!r}") from found.error
    assert found.inputs == INPUTS
    assert found.valid > INPUTS / 50  # else the inputs would not get past the first check


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_valid(name: str) -> None:
    strange = 3 if name == "any" else 0  # files that are something else
    assert sum(map(TARGETS[name].run, seeds(name))) == len(seeds(name)) - strange


# What fuzzing found, and what is like it.
FOUND: dict[str, tuple[str, bytes]] = {
    "half a surrogate in the name of a shard": ("index", b'{"weight_map":{"w":"\\ud800"}}'),
    "a zero byte in the name of a shard": ("index", b'{"weight_map":{"w":"a\\u0000"}}'),
    "a shard with a name of 400 bytes": (
        "index",
        b'{"weight_map":{"w":"%s"}}' % ("é" * 200).encode(),
    ),
    "an element type that is a list": (
        "safetensors-header",
        b'{"w":{"dtype":[],"shape":[2,3],"data_offsets":[0,24]}}',
    ),
    "more elements than can be printed": (
        "safetensors-header",
        b'{"w":{"dtype":"F32","shape":[%s1],"data_offsets":[0,24]}}' % (b"%d," % (2**63 - 1) * 300),
    ),
}


@pytest.mark.parametrize(("name", "data"), FOUND.values(), ids=FOUND)
def test_earlier_findings_are_fixed(name: str, data: bytes) -> None:
    assert not TARGETS[name].run(data)


def needs_much(_: bytes) -> bool:
    return not bytearray(400 * 2**20)


def hangs(_: bytes) -> bool:
    while True:
        time.sleep(0.01)


def breaks_on_a_long_number(data: bytes) -> bool:
    if b"\x8a\x08\xff" in data:
        raise KeyError("planted")
    return True


def wrong_error(data: bytes) -> bool:
    if b"torch._utils" in data and b"\x92" in data:
        raise UsageError("planted")
    return True


@pytest.mark.parametrize(
    ("planted", "error"),
    [
        (breaks_on_a_long_number, KeyError),
        (wrong_error, UsageError),
        pytest.param(
            needs_much,
            MemoryError,
            marks=pytest.mark.skipif(sys.platform != "linux", reason="memory has no limit there"),
        ),
        (hangs, HangError),
    ],
)
def test_planted_faults_are_found(
    planted: Callable[[bytes], bool], error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fuzzing.mutation.LONGEST", 0.2)
    assert isinstance(fuzz(replace(TARGETS["zip-pickle"], run=planted)).error, error)
