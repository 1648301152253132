"""Ctrl-C and SIGTERM while a step is computed: it is finished and saved before the program ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Finishing:
    """A block in which the first signal is kept for later; the second ends it at once.

    In another thread than the first, which receives no signals, it does nothing.

    Args:
        told: Called when a signal has come, with what to tell whoever waits.

    """

    def __init__(self, told: Callable[[str], None]) -> None:
        self._number: int | None = None
        self._told = told
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Finishing:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup wants it so
                    self._before[number] = signal.signal(number, self._keep)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    @property
    def stops(self) -> bool:
        """Whether a signal came."""
        return self._number is not None

    def pass_on(self) -> None:
        """Do what the signal would have done; if it came to another process, end as that one."""
        self._restore()
        signal.raise_signal(self._number or signal.SIGTERM)

    def _keep(self, number: int, _: FrameType | None) -> None:
        self._number = number
        self._restore()
        self._told("finishing this step, to save it")

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
