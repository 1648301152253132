"""A row says the same after a journey as JSON, as scores are compared with ``==``."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

from sam21convert.errors import (
    MissingFileError,
    RefusedError,
    Sam21ConvertError,
    SeveralCheckpointsError,
    UnreadableError,
)
from sam21convert.evaluation.protocols import ObjectScore
from sam21convert.evaluation.rows import Failure, Row

THIRD = 1 / 3  # which no decimal number is


def test_a_row_as_json_is_the_same_row() -> None:
    score = ObjectScore(
        "car", "1", THIRD * 100, 2 * THIRD * 100, 2, ("00001", "00002"), (THIRD, 0.1), (1.0, 0.0),
        {"v": THIRD, "reappear_jf": None},
    )  # fmt: skip
    for row in (
        Row("car", ((score, score), (score,)), 3, 2**40, THIRD),
        Row("bus", failure=Failure("RefusedError", "bus: no", "try a car")),
    ):
        again = Row.from_dict(json.loads(json.dumps(row.to_dict())))
        assert again == row
        assert pickle.loads(pickle.dumps(again)) == row


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (RefusedError("a.png: colours", hint="ids"), RefusedError, "a.png: colours"),
        (MissingFileError("a.png: gone"), MissingFileError, "a.png: gone"),
        (UnreadableError("a\nb: cut"), UnreadableError, "a\\nb: cut"),
        (PermissionError(13, "Permission denied", "a.jpg"), UnreadableError,
         "a.jpg: Permission denied"),
        (MemoryError(), RefusedError, "car: not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory."), RefusedError,
         "car: not enough memory: CUDA out of memory."),
        (KeyError("x"), RefusedError, "car: KeyError: 'x'"),
        (SeveralCheckpointsError("two", sources=["a", "b"]), Sam21ConvertError, "two"),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence_and_can_be_raised_again(
    error: Exception, kind: type[Sam21ConvertError], reason: str
) -> None:
    failure = Failure.of(error, "car")
    assert failure.reason == reason
    again = failure.error()
    assert type(again) is kind
    assert (again.message, again.hint) == (reason, failure.hint)
    assert failure.hint == (
        "this is a bug in sam21convert, please report it"
        if isinstance(error, KeyError)
        else getattr(error, "hint", None)
    )
