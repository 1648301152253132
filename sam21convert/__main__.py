"""The command line: ``sam21convert`` or ``python -m sam21convert``."""

from __future__ import annotations

import gc
import sys

from .commands.signals import end_at_signals

TYPE_CHECKING = False  # true for type checkers, as typing.TYPE_CHECKING is
if TYPE_CHECKING:
    from typing import Any


def start() -> None:
    """Run the command line of this process.

    Raises:
        SystemExit: Always.
    """
    end_at_signals()  # before the imports below, which take a while
    from .commands.ending import end_at_once, end_with_fault, prepare_streams

    prepare_streams()
    # Importing torch and transformers makes a million objects that stay, among which the usual
    # threshold of some hundreds has Python search for garbage for half a second.
    gc.set_threshold(10_000)
    try:
        from .commands.main import main as commands
    except Exception as error:  # an installation that is not complete
        end_with_fault(error, as_json="--json" in sys.argv)
    try:
        commands()
    except SystemExit as ended:
        end_at_once(ended)
        raise


def __getattr__(name: str) -> Any:
    """The group of all commands, as ``main``, imported when it is first asked for."""
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .commands.main import main

    return main


if __name__ == "__main__":
    start()
