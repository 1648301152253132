"""How long to go on with the Hub: repeat what may pass, and wait for nothing for ever.

The client of ``huggingface_hub`` repeats most requests by itself, but not those that read a
repository's state; and to most it sets no limit of time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import UnreadableError
from .errors import Failure

TRIES = 3
TIMEOUT = 60  # seconds without a byte from the Hub, or of waiting for it to have time
_LONGEST = 300  # seconds that the Hub may ask to wait: the window of its own limits
_Answer = TypeVar("_Answer")


def may_pass(error: Exception) -> bool:
    """Whether what was asked may be answered later."""
    return Failure.of(error).transient


def retry(call: Callable[[], _Answer], again: Callable[[Exception], bool] = may_pass) -> _Answer:
    """Call, and again after an error that may pass, by default, or other ones."""
    for left in reversed(range(TRIES)):
        try:
            return call()
        except Exception as error:
            if not left or not again(error):
                raise
            wait(left)
    raise AssertionError


def wait(left: int) -> None:
    """Wait a while before the next try, longer the fewer are ``left``."""
    time.sleep(TRIES - left)


@contextmanager
def bounded() -> Iterator[None]:
    """While inside, no request of ``huggingface_hub`` waits for ever.

    Its shared client is made anew with a limit, and after that again as it was. Versions before 1.0
    have no such client and stay without one.
    """
    from huggingface_hub.utils import _http

    # No public name tells it, and it may be the user's own, for a proxy or a certificate.
    before = getattr(_http, "_GLOBAL_CLIENT_FACTORY", None)
    if before is None:
        yield
        return
    refuse_to_wait = _Limit()

    def client() -> Any:
        made = before()
        made.timeout = TIMEOUT
        hooks = made.event_hooks
        made.event_hooks = {**hooks, "response": [*hooks.get("response", ()), refuse_to_wait]}
        return made

    _http.set_client_factory(client)
    try:
        yield
    finally:
        _http.set_client_factory(before)


class _Limit:
    """Looks at each answer that would have the client wait, and ends what takes too long."""

    def __init__(self) -> None:
        self.conflicts = 0

    def __call__(self, response: Any) -> None:
        asked = str(response.headers.get("retry-after", ""))
        if asked.isdecimal() and int(asked) > _LONGEST:
            raise UnreadableError(
                f"the Hub is busy (status {response.status_code}) and asks to wait for {asked} "
                "seconds",
                hint="run again after that time: what has arrived is not sent twice",
            )
        if response.status_code == 409 and response.request.url.path == "/api/repos/create":
            response.read()
            if "conflicting operation" in response.text:
                self._conflict()

    def _conflict(self) -> None:
        """The client asks again at once, for ever."""
        self.conflicts += 1
        if self.conflicts > TIMEOUT:
            raise UnreadableError(
                "the Hub creates no repository: another operation of yours is in progress",
                hint="run again later",
            )
        time.sleep(1)
