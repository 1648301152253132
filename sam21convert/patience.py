"""Errors of the Hub that may pass, and asking again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

TRIES = 3
BUSY = (408, 429, 500, 502, 503, 504)  # statuses of a server that may answer later
_Answer = TypeVar("_Answer")


def wait(left: int) -> None:
    """Sleep before the next try, the longer the fewer are left."""
    time.sleep(TRIES - left)


def status_of(error: BaseException | None) -> int | None:
    """The status of the Hub's answer, which may stand in the cause of an error."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def transient(error: Exception) -> bool:
    """Whether it may pass: the Hub is busy, or gave no answer."""
    from huggingface_hub import errors

    local = (errors.HFValidationError, errors.LocalTokenNotFoundError, ValueError, OSError)
    status = status_of(error)
    return status in BUSY if status is not None else not isinstance(error, local)


def patiently(
    call: Callable[[], _Answer], may_pass: Callable[[Exception], bool] = transient
) -> _Answer:
    """Call, and again after an error that may pass."""
    for left in reversed(range(TRIES)):
        try:
            return call()
        except Exception as error:
            if not left or not may_pass(error):
                raise
            wait(left)
    raise AssertionError
