"""How a process that computes with large arrays gets its memory."""

from __future__ import annotations

import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of <malloc.h>
_NEVER = -1

_give_back: Callable[[int], object] | None = None  # the C library's own, once memory is kept


def keep_freed_memory() -> None:
    """Let this process keep the memory of arrays that are gone for those that come.

    The C library of most Linux systems gives an array of some megabytes back to the system as soon
    as it is gone. The system fills its pages with zeros before it lends them again, which takes up
    to a third of the time of a model on a CPU. What is computed stays the same; the peak of memory
    may rise by a sixth, and the process keeps it until its end. So this is for commands, and not
    for functions that others call, nor where a long video is to take little memory. It has no
    effect on systems without ``mallopt``.
    """
    global _give_back
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    library = ctypes.CDLL(None)
    set_option = getattr(library, "mallopt", None)
    if set_option is not None:
        set_option(_M_TRIM_THRESHOLD, _NEVER)
        set_option(_M_MMAP_MAX, 0)
        _give_back = getattr(library, "malloc_trim", None)


def give_back_freed_memory() -> None:
    """Give the system what :func:`keep_freed_memory` has kept so far, and go on keeping.

    For a step that needs arrays of other sizes than those before it, so that they would not fit
    into the holes: the peak of memory is lower, and pages are filled once more. Nothing happens in
    a process that does not keep memory.
    """
    if _give_back is not None:
        _give_back(0)
