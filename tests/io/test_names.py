"""Names that one program tells apart and another does not."""

from __future__ import annotations

import re
import time
import unicodedata
from itertools import product

import pytest

from sam21convert.errors import RefusedError
from sam21convert.io.names import folded, refuse_twins, twins

SAME = {
    "case": ("Model.Weight", "model.weight"),
    "case of other alphabets": ("СЛОЙ", "слой"),
    "one letter or two": ("straße", "STRASSE"),
    "normalisation form": (
        unicodedata.normalize("NFC", "é.weight"),
        unicodedata.normalize("NFD", "é.weight"),
    ),
    "order of accents": ("a\u0323\u0301", "a\u0301\u0323"),
    "full width": ("ｍｏｄｅｌ", "model"),
    "ligature": ("ﬁle", "file"),
    "kelvin sign": ("\u212a", "k"),
    "iota below": ("\u1fb3", "\u0391\u0345"),
    "zero width": ("mo\u200bdel", "model"),
    "byte order mark": ("\ufeffmodel", "model"),
    "soft hyphen": ("mo\xaddel", "model"),
    "backslash": ("a\\b", "a/b"),
    "full width slash": ("a／b", "a/b"),
    "two separators": ("a//b", "a/b"),
    "separator at the beginning": ("/a", "a"),
    "separator at the end": ("a/", "a"),
    "segment .": ("a/./b", "a/b"),
    "leading ./": ("./a", "a"),
    "segment ..": ("../a", "a"),
    "dots at the end": ("a.pt..", "a.pt"),
    "space at the end": ("a.pt ", "a.pt"),
    "space within": ("a /b", "a/b"),
    "both at the end": ("a. .", "a"),
    "no-break space at the end": ("a\xa0", "a"),
    "a long name": ("é" * 200, unicodedata.normalize("NFD", "É" * 200)),
}
OTHER = [
    ("weight", "weights"),
    ("layers.1", "layers.10"),
    ("a.b", "ab"),
    ("a/b", "ab"),
    (".a", "a"),
    (" a", "a"),
    ("a b", "ab"),
    ("e", "é"),
    ("l", "1"),
    ("a_b", "a-b"),
]


@pytest.mark.parametrize(("one", "two"), SAME.values(), ids=SAME)
def test_names_that_may_be_taken_for_each_other_fold_to_the_same(one: str, two: str) -> None:
    assert folded(one) == folded(two)
    assert twins(["before", one, "between", two]) == (one, two)


def test_what_is_plain_is_folded_as_everything_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """All short names of characters that matter, with the short way and without it."""
    names = ["".join(chars) for size in range(7) for chars in product("Ab./\\ \n", repeat=size)]
    short = [folded(name) for name in names]
    monkeypatch.setattr("sam21convert.io.names._FOLDS", re.compile(""))
    assert short == [folded(name) for name in names]


@pytest.mark.parametrize(("one", "two"), OTHER)
def test_names_that_nobody_confuses_stay_apart(one: str, two: str) -> None:
    assert folded(one) != folded(two)
    assert twins([one, two]) is None


def test_a_name_that_occurs_twice_is_its_own_twin() -> None:
    assert twins(["a", "b", "a"]) == ("a", "a")


def test_no_names_have_no_twins() -> None:
    assert twins([]) is None


@pytest.mark.parametrize("accents", ["\u0315\u0300", "\u0300", "\U0001d165\u0300"])
def test_any_number_of_accents_takes_time_in_proportion(accents: str) -> None:
    start = time.process_time()
    folded("a" + accents * 500_000)  # normalised at once this takes minutes
    assert time.process_time() - start < 5


def test_one_sentence_refuses_twins_everywhere() -> None:
    refuse_twins("here", ("a", "b", "a.b"))
    with pytest.raises(RefusedError) as caught:
        refuse_twins("here", ("a", "b" * 100, "B" * 100))
    message = f"here: the names {'b' * 60!r} and {'B' * 60!r} may be taken for each other"
    assert caught.value.message == message
