"""The memory of freed tensors is used again instead of given back to the system.

The C library of Linux gives the memory of a large tensor back when the tensor is freed. For the
next tensor the kernel has to find every page again and fill it with zeros, which takes a tenth of
the processor time of a comparison.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt(3) of glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEEP_ALL = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
# The values of glibc, where the thresholds are what it raises them to by itself for large tensors.
_USUAL = {_MMAP_MAX: 2**16, _MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26}


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """A context in which freed memory stays with the process; it is given back at the end.

    With a C library other than glibc nothing changes.

    Yields:
        Nothing.
    """
    try:
        library = ctypes.CDLL(None)
        adjust, give_back = library.mallopt, library.malloc_trim
    except (AttributeError, TypeError):  # another C library; on Windows there is none to ask
        yield
        return
    for parameter, value in _KEEP_ALL.items():
        adjust(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _USUAL.items():
            adjust(parameter, value)
        give_back(ctypes.c_size_t(0))
