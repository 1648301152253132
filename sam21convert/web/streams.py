"""Long work that tells how far it is: a line of JSON for each thing that is told."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator

from ..errors import Sam21ConvertError, shortage
from .picture import Answer, StoppedError

Tell = Callable[[Answer], None]
_END = None


def lines(work: Callable[[Tell], Answer], names: Callable[[str], str]) -> Iterator[bytes]:
    """Do long work on a thread of its own.

    Args:
        work: Is given what to tell with, and returns how it ended.
        names: Makes a message fit for the page.

    Yields:
        A line for all that it told, and then one: ``result`` with what it returned, ``stopped``, or
        ``error``.
    """
    told: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            told.put({"result": work(told.put)})
        except StoppedError:
            told.put({"stopped": True})
        except Exception as error:
            told.put(failure(error, names)[0])
        finally:
            told.put(_END)

    threading.Thread(target=run, daemon=True).start()
    while (answer := told.get()) is not _END:
        yield json.dumps(answer).encode() + b"\n"


def failure(error: Exception, names: Callable[[str], str] = str) -> tuple[Answer, int]:
    """Describe an error to the page.

    Args:
        error: The error.
        names: Makes a message fit for the page.

    Returns:
        What JSON can hold, and the status of HTTP.
    """
    known = error if isinstance(error, Sam21ConvertError) else shortage(error)
    if known is not None:
        hint = known.hint and names(known.hint)
        return {"error": names(known.message), "hint": hint}, 422
    from .._version import __version__

    text = f"a fault of sam21convert {__version__}: {type(error).__name__}: {names(str(error))}"
    return {"error": text, "hint": None}, 500
