"""Run lengths are those of the official code, and as text those of pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sam2.utils import amg

from sam21convert.model import run_lengths


def masks() -> list[NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    noise = [rng.random(rng.integers(1, 40, 2)) < share for share in np.linspace(0, 1, 20)]
    wide = [np.kron(mask, np.ones((50, 7))).astype(bool) for mask in noise]
    return [*noise, *wide]


def test_they_are_those_of_the_official_code() -> None:
    for mask in masks():
        ours = run_lengths.encode(mask)
        assert ours == amg.mask_to_rle_pytorch(torch.from_numpy(mask.copy())[None])[0]
        assert run_lengths.area(ours) == mask.sum()
        decoded, theirs = run_lengths.decode(ours), amg.rle_to_mask(ours)
        assert np.array_equal(decoded, mask)
        assert (decoded.dtype, decoded.strides) == (theirs.dtype, theirs.strides)


# What pycocotools 2.0.11 writes: digits of one place to six, counts that shrink and that grow.
WRITTEN = (
    ([0, 1, 49, 37, 13, 100], "01a1T1lNo1"),
    ([3500], r"\]3"),
    ([1, 15, 16, 31, 32, 33, 1023, 1024, 1025, 1, 2], "1?`0`0`02on0on02QPOQPO"),
    ([5, 1_000_000, 3, 33_554_432, 31, 7], "5Pb`n03P^_Qo0l0WPPPPO"),
)


@pytest.mark.parametrize(("counts", "text"), WRITTEN)
def test_the_text_is_as_recorded(counts: list[int], text: str) -> None:
    runs = {"size": [sum(counts), 1], "counts": counts}
    assert run_lengths.as_text(runs) == {**runs, "counts": text}


@pytest.mark.parametrize(("counts", "text"), WRITTEN)
def test_the_text_is_read_back(counts: list[int], text: str) -> None:
    assert run_lengths.from_text(text) == counts


def test_the_text_of_every_mask_is_read_back() -> None:
    for mask in masks():
        runs = run_lengths.encode(mask)
        assert run_lengths.from_text(run_lengths.as_text(runs)["counts"]) == runs["counts"]


@pytest.mark.parametrize("text", [" ", "\x7f", "é", "P", "1P", "P" * 99 + "0"])
def test_what_is_no_text_of_counts_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no run lengths"):
        run_lengths.from_text(text)


def test_the_text_is_that_of_pycocotools_where_it_is_installed() -> None:
    mask_utils = pytest.importorskip("pycocotools.mask")
    for mask in masks():
        text = run_lengths.as_text(run_lengths.encode(mask))
        theirs = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert text["counts"] == theirs["counts"].decode()
        assert np.array_equal(mask_utils.decode(text), mask)
