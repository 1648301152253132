"""Text files that are read whole: never more of them than allowed, and no name twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import RefusedError, UnreadableError, unreadable

_SHOWN = 60
_MAX_BYTES = 1 << 16  # the longest that is known has 11 KB, and YAML takes long to read


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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises :class:`UnreadableError` when it is not one."""
    try:
        content = json.loads(read_text(path), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{path}: not valid JSON: {error}") from error
    return mapping(path, content)


def read_text(path: Path) -> str:
    """All of a config. Raises :class:`UnreadableError`, or :class:`RefusedError` for its size."""
    try:
        raw = read_up_to(path, _MAX_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(raw) > _MAX_BYTES:
        raise RefusedError(f"{path}: over {_MAX_BYTES >> 10} KiB, too large for a config")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{path}: not UTF-8 text: {error.reason}") from error


def mapping(path: Path, content: Any) -> dict[str, Any]:
    """``content``, which must be a mapping of names. Raises :class:`UnreadableError`."""
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UnreadableError(f"{path}: not a mapping of names to values")
    return content
