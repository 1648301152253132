"""Read small text files: with a limit on their size, and without duplicate names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import RefusedError, UnreadableError, unreadable

_SHOWN = 60  # characters of a name that an error message quotes
_MAX_BYTES = 1 << 16  # the longest known config has 11 KB, and parsing YAML is slow


def read_up_to(path: Path, limit: int) -> bytes:
    """Read a file, but hardly more than ``limit`` bytes of it.

    Args:
        path: The file.
        limit: Size in bytes that the caller accepts.

    Returns:
        The content. For a larger file the first ``limit + 1`` bytes, so that a result longer than
        ``limit`` tells the caller that the file is too large.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        return file.read(min(size, limit) + 1)  # read(limit) would allocate that much each time


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of the members of a JSON object; an ``object_pairs_hook`` for :mod:`json`.

    JSON itself allows duplicate names, and two programs may then see different values.

    Args:
        pairs: Name and value of each member, in file order.

    Returns:
        The members as a dict, in the same order.

    Raises:
        ValueError: If a name occurs twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:_SHOWN]!r} occurs twice")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a config file.

    Args:
        path: The file, of 64 KiB at most.

    Returns:
        The members of the object by name.

    Raises:
        UnreadableError: If the file cannot be read, is not valid JSON, or holds anything but an
            object.
        RefusedError: If the file is too large for a config.
    """
    try:
        content = json.loads(read_text(path), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{path}: not valid JSON: {error}") from error
    return mapping(path, content)


def read_text(path: Path) -> str:
    """Read the text of a config file.

    Args:
        path: The file, of 64 KiB at most, in UTF-8.

    Returns:
        Its text.

    Raises:
        UnreadableError: If the file cannot be read or is not UTF-8.
        RefusedError: If the file is too large for a config.
    """
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
    """Check that the parsed content of a file is a mapping with text keys.

    Args:
        path: The file, for the error message.
        content: What was parsed from it.

    Returns:
        ``content`` itself.

    Raises:
        UnreadableError: If it is not such a mapping.
    """
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UnreadableError(f"{path}: not a mapping of names to values")
    return content
