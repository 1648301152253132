"""The unpickler reads values, runs nothing, and reports damage."""

from __future__ import annotations

import argparse
import collections
import io
import pathlib
import pickle
import random
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sam21convert.errors import RefusedError, Sam21ConvertError, UnreadableError
from sam21convert.io.pickle.load import CutShortError, Known, scan, unpickle
from sam21convert.io.source import Placeholder

from ..corpus.attacks import ATTACKS, IN_A_ROW
from ..corpus.attacks import BROKEN as CUT
from ..corpus.broken_pickles import BROKEN, laughs
from ..support.paths import ROOT

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
PURE_PATH = f"{pathlib.PurePosixPath.__module__}.PurePosixPath"  # it moved in Python 3.13


def load(data: bytes) -> Any:
    return unpickle(data, "data").value


def test_where_the_window_ends_changes_nothing() -> None:
    """In a file, of which a piece at a time is in memory, and in bytes, for every place of an end.

    The pieces are 64 KiB. There are names of globals that come again, texts and numbers.
    """
    again = (
        b"ccollections\nOrderedDict\n)Rq\x01h\x01X\x02\0\0\0abK\x07"
        b"J\1\2\3\4ctorch\nSize\n(K\x01t\x85R"
    )
    for before in range((1 << 16) - 2 * len(again), (1 << 16) + 2):
        data = b"(X" + before.to_bytes(4, "little") + b"a" * before + again * 3 + b"l."
        known = {"torch.Size": Known("torch.Size", lambda args: args[0])}
        in_file, in_bytes = (unpickle(one, "data", known=known) for one in (io.BytesIO(data), data))
        assert in_file == in_bytes
        assert in_file.value[1:] == [{}, {}, "ab", 7, 0x04030201, (1,)] * 3
        looked, told = scan(io.BytesIO(data)), scan(data)
        assert looked.end == told.end == len(data)
        counts = {f"{one.module}.{one.name}": one.count for one in looked.references}
        assert counts == {"collections.OrderedDict": 3, "torch.Size": 3}
        assert list(map(asdict, looked.references)) == list(map(asdict, told.references))


PLAIN = {
    "none": None,
    "bools": [True, False],
    "ints": [0, 1, -1, 255, 256, 65536, -(2**31), 2**31, 2**63, -(2**200), 10**30],
    "floats": [0.0, -1.5, 1e300, float("inf")],
    "complex": 1 + 2j,
    "text": ["", "a", "ü\n\\'\"", "\U0001f600", "x" * 300],
    "bytes": [b"", b"abc", bytes(range(256)), b"\\x41" * 100],
    "bytearray": [bytearray(), bytearray(b"\x00\xff")],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((1,), [2])],
    "lists": [[], [[]], list(range(2000))],
    "sets": [set(), {1, 2}, {"a"}],
    "dicts": [
        {},
        {"a": {"b": 1}},
        {i: str(i) for i in range(2000)},
        {1.5: 1, None: 2, (1, "a"): 3},
    ],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_equal_those_of_pickle(protocol: int) -> None:
    data = pickle.dumps(PLAIN, protocol)
    found = unpickle(data, "data")
    assert found.value == PLAIN
    assert repr(found.value) == repr(pickle.loads(data))  # the types too
    assert found.end == len(data)
    assert found.placeholders == ()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_dicts_of_collections_become_plain_dicts_in_order(protocol: int) -> None:
    ordered = collections.OrderedDict([("b", 1), ("a", 2)])
    default = collections.defaultdict(collections.OrderedDict, {"x": ordered})
    value = load(pickle.dumps([ordered, default, collections.Counter("aab")], protocol))
    assert value == [{"b": 1, "a": 2}, {"x": ordered}, {"a": 2, "b": 1}]
    assert [type(item) for item in value] == [dict] * 3
    assert list(value[0]) == ["b", "a"]


def test_attributes_of_a_dict_are_not_its_items() -> None:
    state = collections.OrderedDict(a=1)
    state._metadata = {"version": 1}  # type: ignore[attr-defined]
    assert load(pickle.dumps(state)) == {"a": 1}


def test_frozensets_become_sets() -> None:
    for protocol in PROTOCOLS:
        assert load(pickle.dumps(frozenset("ab"), protocol)) == {"a", "b"}


def test_python_2_strings_are_text_or_bytes() -> None:
    assert load(b"S'a\\n\\x41\\\\\\''\n.") == "a\nA\\'"
    assert load(b"U\x02\xc3\xbc.") == "ü"
    assert load(b"T\x01\x00\x00\x00\xff.") == b"\xff"
    assert load(b"c__builtin__\nset\n((lI1\natR.") == {1}


class Thing:
    def __init__(self) -> None:
        self.value = {"a": [1]}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_globals_become_placeholders_listed_once(protocol: int) -> None:
    value = {
        "thing": Thing(),
        "again": [Thing(), Thing],
        "args": argparse.Namespace(lr=1.0),
        "path": pathlib.PurePosixPath("a/b"),
        "queue": collections.deque([1, 2]),
        "after": "plain",
    }
    found = unpickle(pickle.dumps(value, protocol), "data")
    assert found.value["after"] == "plain"
    assert found.value["path"] == Placeholder(PURE_PATH)
    assert found.value["queue"] == Placeholder("collections.deque")
    assert found.value["again"][1] == Placeholder(f"{__name__}.Thing")
    if protocol >= 2:
        assert found.value["thing"] == Placeholder(f"{__name__}.Thing")
        assert found.placeholders == (
            f"{__name__}.Thing",
            "argparse.Namespace",
            PURE_PATH,
            "collections.deque",
        )


def test_the_state_of_a_placeholder_is_ignored() -> None:
    found = unpickle(b"cm\nC\n(I1\nI2\nu(I3\ne(I4\n\x90}b)\x81)R.", "data")
    assert found.value == Placeholder("m.C")
    assert found.placeholders == ("m.C",)


def test_extension_codes_are_placeholders() -> None:
    found = unpickle(b"(\x82\x01\x83\x02\x00\x84\x03\x00\x00\x00l.", "data")
    assert found.placeholders == ("extension code 1", "extension code 2", "extension code 3")


def test_names_of_placeholders_can_be_printed() -> None:
    name = unpickle(b"\x8c\x01m\x8c\x05\x1b[2J\n\x93.", "data").placeholders[0]
    assert name == r"m.\x1b[2J\n"
    long = unpickle(b"cm\n" + b"x" * 60_000 + b"\n.", "data").placeholders[0]
    assert len(long) < 300
    with pytest.raises(UnreadableError, match="the name of a global"):
        load(b"cm\n" + b"x" * 70_000 + b"\n.")


def test_long_names_are_shortened() -> None:
    size = 60_000
    names = b"\x8c\x01mq\x000X" + size.to_bytes(4, "little") + b"x" * size + b"q\x010"
    data = names + b"(" + b"h\x01h\x01\x93" * 40_000 + b"l."
    assert len(load(data)) == 40_000  # in no time, and in no gigabytes


def test_keys_that_cannot_be_hashed_in_bounded_time_become_strings() -> None:
    nested = ((((1,),),),)
    value = load(pickle.dumps({nested: 1, 2**100: 2, frozenset(): 3}))
    assert list(value) == ["<tuple 0>", "<int 1>", "<set 2>"]
    assert load(b"(]I1\n]I2\nd.") == {"<list 0>": 1, "<list 1>": 2}
    assert load(b"\x8f(cm\nC\n\x90.") == {"<m.C 0>"}


# Attacks. Each pickle calls os.system.


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a not in (*CUT, *IN_A_ROW)])
def test_attacks_run_nothing(attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ATTACKS[attack]
    subprocess.run(
        [sys.executable, "-c", f"import pickle; pickle.loads({data!r})"],
        cwd=tmp_path, check=False, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "fired").exists(), "the attack is harmless even to pickle"
    (tmp_path / "fired").unlink()

    monkeypatch.chdir(tmp_path)
    found = unpickle(data, "data")
    assert not (tmp_path / "fired").exists()
    assert {"os.system", "posix.system", "builtins.__import__", "shutil.os.system"} & set(
        found.placeholders
    )


def test_reading_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    assert load(b"cthis\ns\n.") == Placeholder("this.s")
    assert "this" not in sys.modules


def test_the_package_needs_neither_torch_nor_pickle() -> None:
    code = (
        "import sys; import sam21convert.io.torch_zip as z;"
        "print(sorted({'torch', 'numpy', 'pickle'} & set(sys.modules)))"
    )
    root = ROOT
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


# Damage. Each pickle is spelled by hand; the message names the data and the byte.


@pytest.mark.parametrize("name", BROKEN)
def test_damage_is_reported_with_its_place(name: str) -> None:
    data, place, message = BROKEN[name]
    with pytest.raises(UnreadableError, match=message) as caught:
        load(data)
    assert str(caught.value).startswith(f"data, byte {place}: ")
    assert "\n" not in str(caught.value)


def test_data_that_ends_too_early_has_its_own_error() -> None:
    whole = pickle.dumps(PLAIN)
    for end in range(0, len(whole), 7):
        with pytest.raises(CutShortError):
            load(whole[:end])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_changed_bytes_raise_only_our_errors(protocol: int) -> None:
    value = {"a": [1, 2.5, (b"x", "y"), {3}], "b": Thing(), "c": collections.OrderedDict(d=1)}
    whole = pickle.dumps(value, protocol)
    variants = [whole[:end] for end in range(len(whole))]
    for at in range(len(whole)):
        for byte in (0, 1, 0x28, 0x52, 0x62, 0x7F, 0x80, 0xFF, whole[at] ^ 1):
            variants.append(whole[:at] + bytes([byte]) + whole[at + 1 :])
    assert _tried(variants) > 0


def test_random_opcodes_raise_only_our_errors() -> None:
    words = [bytes([code]) for code in range(256)]
    words += [
        b"K\x01",
        b"h\x00",
        b"q\x00",
        b"\x8c\x01a",
        b"ccollections\nOrderedDict\n",
        b"cm\nC\n",
    ]
    words += [
        b"cbuiltins\nset\n",
        b"c_codecs\nencode\n",
        b"ccollections\ndefaultdict\n",
        b"}(",
        b"](",
    ]
    chance = random.Random(1)
    variants = [b"".join(chance.choices(words, k=12)) + b"." for _ in range(20_000)]
    assert _tried(variants) > 0


def _tried(variants: list[bytes]) -> int:
    """Number of inputs that could be read; any error other than ours fails the test."""
    good = 0
    for data in variants:
        with suppress(Sam21ConvertError):
            load(data)
            good += 1
    return good


# Bombs


def peak_of(data: bytes) -> int:
    """Peak memory in bytes of reading ``data``, whether it succeeds or not."""
    tracemalloc.start()
    with suppress(Sam21ConvertError):
        load(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(("empty", "filled"), [(b")", b"t"), (b"]", b"l")])
def test_exponentially_shared_containers_are_refused(empty: bytes, filled: bytes) -> None:
    with pytest.raises(RefusedError, match="refer to each other too many times"):
        load(laughs(empty, filled))
    assert peak_of(laughs(empty, filled)) < 200_000


def test_exponentially_shared_keys_and_arguments_are_cheap() -> None:
    bomb = laughs(b")", b"t")[:-1]
    assert load(bomb + b"q\xff0}h\xffNs.") == {"<tuple 0>": None}
    assert load(bomb + b"q\xff0cm\nC\nh\xffR.") == Placeholder("m.C")
    assert load(bomb + b"q\xff0\x8f(h\xff\x90.") == {"<tuple 0>"}


@pytest.mark.parametrize(
    "data",
    [
        b"N" + b"\x85" * 40_000 + b".",
        b"]" * 40_000 + b"a" * 39_999 + b".",
        b"}K\x00" * 40_000 + b"N" + b"s" * 40_000 + b".",
        b"(" * 40_000 + b"N" + b"l" * 40_000 + b".",
    ],
    ids=["tuples", "lists", "dicts", "marks"],
)
def test_deep_nesting_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError, match="nested more than 100 deep"):
        load(data)
    assert load(data[:-1] + b"0N.") is None  # dropped again: no trouble to free


def test_values_nested_to_the_limit_can_be_compared_and_printed() -> None:
    value = load(b"N" + b"\x85" * 100 + b".")
    assert value == load(b"N" + b"\x85" * 100 + b".")
    assert repr(value).startswith("((((")


def test_a_value_that_contains_itself_is_refused() -> None:
    with pytest.raises(RefusedError, match="contains itself"):
        load(b"]q\x00h\x00a.")


def test_shared_values_stay_shared() -> None:
    one, other = load(pickle.dumps([PLAIN["lists"]] * 2))
    assert one is other


def test_repeated_copies_are_limited() -> None:
    big = b"](" + b"K\x01" * 1000 + b"eq\x00"
    with pytest.raises(RefusedError, match="over and over"):
        load(b"(" + big + b"cbuiltins\nset\nq\x010" + b"h\x01(h\x00tR" * 1000 + b"l.")


def test_memory_is_proportional_to_the_data() -> None:
    for length in (b"\x8e", b"\x8d", b"\x96", b"\x95"):
        assert peak_of(length + b"\xff" * 7 + b"\x00" + b"a") < 50_000
    assert peak_of(b"\x8b\xff\xff\xff\x7f" + b"a") < 50_000
    assert peak_of(b"r\xff\xff\xff\xff") < 50_000


def test_too_many_opcodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam21convert.io.pickle.machine.MAX_OPCODES", 1000)
    with pytest.raises(RefusedError, match="more than 1,000 opcodes"):
        load(b"N0" * 1000 + b"N.")
