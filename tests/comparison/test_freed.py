"""While models run, the memory of freed tensors is not asked of the system again."""

from __future__ import annotations

import ctypes
import platform
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sam21convert.comparison.freed import keeping_freed_memory

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def faults(times: int = 8) -> int:
    """How many pages the system has to find for tensors of 64 MB, made one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.zeros(2**24).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@GLIBC
def test_pages_are_used_again() -> None:
    usual = faults()
    with keeping_freed_memory():
        faults(1)
        kept = faults()
    assert 4 * kept < usual
    assert 4 * kept < faults()  # as before


@GLIBC
def test_the_memory_is_given_back_also_after_an_error() -> None:
    def held() -> int:
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    before = held()
    with pytest.raises(ZeroDivisionError), keeping_freed_memory():
        faults(1)
        within = held()
        raise ZeroDivisionError
    assert within > before + 5e7
    assert held() < before + 1e7


def test_with_another_c_library_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    with keeping_freed_memory():
        within = faults()
    assert 2 * within > faults()
