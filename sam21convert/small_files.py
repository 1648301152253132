"""Text files that are read whole: never more of them than allowed, and no name twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SHOWN = 60


def read_up_to(path: Path, limit: int) -> bytes:
    """All of a file; of one that is larger than ``limit``, one byte more than that."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        return file.read(min(size, limit) + 1)  # a buffer of the limit would scatter the heap


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The ``object_pairs_hook`` for :mod:`json`; raises ValueError for a name that occurs twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:_SHOWN]!r} occurs twice")
    return found
