"""How a command ends otherwise than by its answer: a fault of ours, or output that nobody reads.

This module imports little, so that it also holds for what goes wrong while the rest is imported.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn, TextIO

FAULT = 70  # EX_SOFTWARE of sysexits.h
_REFUSED = 3  # by the operating system
_TRACEBACK = "SAM21CONVERT_TRACEBACK"
_LONGEST = 300  # characters of the message of an unexpected exception


def prepare_streams() -> None:
    """Make sure that printing cannot fail for its characters, nor end up in an output.

    If a standard stream is closed, the next file that is opened would take its place, and receive
    what a library prints there.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def say(text: str, *, err: bool = False) -> None:
    """Print lines; if nobody can read standard output, end the process.

    Args:
        text: The lines, without what a terminal might interpret.
        err: Whether to print to standard error. If nobody can read that, the text is lost.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        if not err:
            end_without_output(error)
        _discard(stream)


def end_without_output(error: OSError) -> NoReturn:
    """End the process because standard output cannot be written.

    Args:
        error: Why. After a closed pipe nothing is said, since its reader has read enough.

    Raises:
        SystemExit: Always: with the code that shells use for a closed pipe, or that of a refusal
            by the operating system.
    """
    if sys.stdout is not None:
        _discard(sys.stdout)
    if isinstance(error, BrokenPipeError):
        sys.exit(128 + signal.SIGPIPE)
    say(f"error: standard output: {error.strerror or error}", err=True)
    sys.exit(_REFUSED)


def _discard(stream: TextIO) -> None:
    """Let a stream lead nowhere, or Python writes what is left in it again when it ends."""
    with suppress(OSError, ValueError):  # not a file, as in tests
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def end_at_once(ended: SystemExit) -> None:
    """End the process, but do not take its objects apart, which can take a second.

    What was registered for the end of Python is run before that. While threads are at work, where
    output cannot be written, and in a profiler, which writes what it found afterwards, nothing is
    done, and Python may end as it usually does.

    Args:
        ended: Why the process ends.
    """
    import threading

    others = {*threading.enumerate()} - {threading.current_thread()}
    if not isinstance(ended.code, int) or not all(one.daemon for one in others):
        return
    if sys.getprofile() is not None or sys.gettrace() is not None:
        return
    atexit._run_exitfuncs()
    with suppress(OSError):
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(ended.code)


def fault_of(error: BaseException) -> dict[str, Any]:
    """Describe a fault of this package; with ``SAM21CONVERT_TRACEBACK`` set, show where it is.

    Args:
        error: The unexpected exception.

    Returns:
        What an error has in JSON.
    """
    from .._version import __version__

    asked = os.environ.get(_TRACEBACK, "") not in ("", "0")
    if asked:
        import traceback

        say("".join(traceback.format_exception(error)).rstrip(), err=True)
    text = ""
    with suppress(Exception):  # what is broken may be the installation
        from ..hub.redaction import redact

        text = redact(str(error))
    text = f": {text[:_LONGEST]}" if text else ""
    from ..report import head

    return {
        **head("error/1", FAULT),
        "error": f"a fault of sam21convert {__version__}: {type(error).__name__}{text}",
        "hint": "please report it, with the command and the traceback, in the repository that you "
        "got sam21convert from" + (f"; {_TRACEBACK}=1 shows the traceback" if not asked else ""),
    }


def end_with_fault(error: BaseException, *, as_json: bool) -> NoReturn:
    """End the process because of a fault of this package.

    Args:
        error: The unexpected exception.
        as_json: Whether to print it as JSON on standard output.

    Raises:
        SystemExit: Always.
    """
    answer = fault_of(error)
    if as_json:
        import json

        say(json.dumps(answer, indent=2))
    else:
        say(f"error: {answer['error']}\nhint: {answer['hint']}", err=True)
    sys.exit(FAULT)
