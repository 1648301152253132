"""Ctrl-C and SIGTERM: a command ends with one line, from its first moment on.

This module imports next to nothing, because it is imported before everything else.
"""

from __future__ import annotations

import os
import signal
import sys

_SOON = 0.05  # seconds
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked the process to end.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.exit_code = 128 + number  # the exit code that shells use
        self.message = "interrupted" if number == signal.SIGINT else "terminated"
        self.hint = None


def end_at_signals() -> None:
    """Until there is something to clean up, let signals end the process at once.

    A signal that was ignored when the process began, as by ``nohup``, stays so.
    """
    for number in _heeded():
        signal.signal(number, _end)


def _end(number: int, _: object) -> None:
    """Print one line and end; imports nothing, as an import may be under way."""
    stopped = Stopped(number)
    as_json = "--json" in sys.argv
    text = f"error: {stopped.message}\n"
    if as_json:
        text = (
            f'{{\n  "schema": "sam21convert/error/1",\n  "ok": false,\n'
            f'  "exit_code": {stopped.exit_code},\n'
            f'  "error": "{stopped.message}",\n  "hint": null\n}}\n'
        )
    try:
        os.write(1 if as_json else 2, text.encode())
    finally:
        os._exit(stopped.exit_code)


class Stopping:
    """A block in which signals raise :class:`Stopped`, so that temporary files are cleaned up.

    Whatever error a library makes of that, it leaves the block as :class:`Stopped`: up to Python
    3.11 all that is raised while a class names its attributes becomes a ``RuntimeError``. In
    another thread than the first, which receives no signals, the block does nothing.
    """

    def __enter__(self) -> None:
        import threading

        self._number: int | None = None  # of the last signal
        self._before: dict[signal.Signals, object] = {}
        self._hook = sys.unraisablehook
        if threading.current_thread() is not threading.main_thread():
            return
        sys.unraisablehook = self._again
        for number in _heeded():
            self._before[number] = signal.signal(number, self._raise)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._before:
            sys.unraisablehook = self._hook
        if self._number is not None and isinstance(error, Exception):
            raise Stopped(self._number) from error

    def _raise(self, number: int, _: object) -> None:
        self._number = number
        raise Stopped(number)

    def _again(self, ignored: sys.UnraisableHookArgs) -> None:
        """Python drops what is raised while it destroys an object: soon after, try once more."""
        if not isinstance(ignored.exc_value, Stopped):
            self._hook(ignored)
            return
        import threading

        main = threading.main_thread().ident
        again = threading.Timer(_SOON, signal.pthread_kill, (main, ignored.exc_value.number))
        again.daemon = True
        again.start()


def _heeded() -> list[signal.Signals]:
    return [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
