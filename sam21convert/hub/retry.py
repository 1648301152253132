"""Retry requests to the Hub that may succeed later, and limit how long any of them can take.

``huggingface_hub`` retries most requests by itself, but not those that read the state of a
repository, and it sets no timeout for most of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import UnreadableError
from .errors import Failure

TRIES = 3
TIMEOUT = 60  # seconds without a byte from the Hub, and tries while it works on a conflict
_LONGEST = 300  # seconds that the Hub may ask to wait: its rate limits reset within them
_Result = TypeVar("_Result")


def _is_transient(error: Exception) -> bool:
    return Failure.of(error).transient


def retry(
    call: Callable[[], _Result], should_retry: Callable[[Exception], bool] = _is_transient
) -> _Result:
    """Call a function up to ``TRIES`` times, waiting a little after each error.

    Args:
        call: the function, without arguments.
        should_retry: whether to try again after an error; by default when it is transient.

    Returns:
        What the function returns.

    Raises:
        Exception: the error of the last call, or the first that is not worth a retry.
    """
    for left in range(TRIES - 1, 0, -1):
        try:
            return call()
        except Exception as error:
            if not should_retry(error):
                raise
            wait(left)
    return call()


def wait(left: int) -> None:
    """Wait before the next try: 1 second after the first, 2 after the second.

    Args:
        left: the number of tries that are left.
    """
    time.sleep(TRIES - left)


@contextmanager
def bounded() -> Iterator[None]:
    """Inside the block, give every request of ``huggingface_hub`` a timeout.

    The client that all its requests share is replaced by one with a timeout, and restored at the
    end. Versions before 1.0 have no such client; there the block changes nothing.

    Yields:
        Nothing.

    Raises:
        UnreadableError: when the Hub asks to wait for more than five minutes, or stays blocked by
            another operation of the user.
    """
    from huggingface_hub.utils import _http

    # There is no public getter. The factory may be the user's own, for a proxy or a certificate,
    # so it must be wrapped and restored.
    before = getattr(_http, "_GLOBAL_CLIENT_FACTORY", None)
    if before is None:
        yield
        return
    limit = _WaitLimit()

    def client() -> Any:
        created = before()
        created.timeout = TIMEOUT
        hooks = created.event_hooks
        created.event_hooks = {**hooks, "response": [*hooks.get("response", ()), limit]}
        return created

    _http.set_client_factory(client)
    try:
        yield
    finally:
        _http.set_client_factory(before)


class _WaitLimit:
    """A hook on every answer that raises where ``huggingface_hub`` would wait too long."""

    def __init__(self) -> None:
        self.conflicts = 0

    def __call__(self, response: Any) -> None:
        seconds = str(response.headers.get("retry-after", ""))
        if seconds.isdecimal() and int(seconds) > _LONGEST:
            raise UnreadableError(
                f"the Hub is busy (status {response.status_code}) and asks to wait for {seconds} "
                "seconds",
                hint="run again after that time; what has arrived is not sent again",
            )
        if response.status_code == 409 and response.request.url.path == "/api/repos/create":
            response.read()
            if "conflicting operation" in response.text:
                self._conflict()

    def _conflict(self) -> None:
        """Pause, since ``huggingface_hub`` repeats the request at once and without an end."""
        self.conflicts += 1
        if self.conflicts > TIMEOUT:
            raise UnreadableError(
                "the Hub cannot create the repository while another operation of yours is in "
                "progress",
                hint="run again later",
            )
        time.sleep(1)
