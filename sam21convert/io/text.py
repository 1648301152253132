"""Read small text files: with a limit on their size, and without duplicate names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import RefusedError, UnreadableError, unreadable
from .source import refuse_special

_MAX_BYTES = 1 << 16  # the longest known config has 11 KB, and parsing YAML is slow


def read_up_to(path: Path, limit: int, what: str) -> bytes:
    """Read a regular file that must not be large.

    Args:
        path: The file.
        limit: Allowed size in bytes.
        what: What the file is, with its article, for the error message.

    Returns:
        Its content.

    Raises:
        OSError: If the file cannot be read.
        RefusedError: If it is larger, or not a regular file, whose reading may never end.
    """
    refuse_special(path)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        found: bytes = file.read(size + 1) if size <= limit else b""
    if max(size, len(found)) > limit:
        raise RefusedError(f"{path}: over {limit >> 10:,} KiB, too large for {what}")
    return found


class TwiceError(ValueError):
    """A name occurs twice in an object. The text of the error does not quote the name.

    Args:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__("a name occurs twice in an object")
        self.name = name


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of the members of a JSON object; an ``object_pairs_hook`` for :mod:`json`.

    JSON itself allows duplicate names, and two programs may then see different values.

    Args:
        pairs: Name and value of each member, in file order.

    Returns:
        The members as a dict, in the same order.

    Raises:
        TwiceError: If a name occurs twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise TwiceError(name)
        found[name] = value
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
    content = parse_json(path, read_text(path))
    return mapping(path, content)


def parse_json(path: Path, text: str) -> Any:
    """Parse JSON without duplicate names; errors quote nothing of it.

    Args:
        path: The file, for the error message.
        text: Its content. Its size must be bounded by the caller.

    Returns:
        The value.

    Raises:
        UnreadableError: If it is not valid JSON; the message has the line and the column.
    """
    try:
        return json.loads(text, object_pairs_hook=unique)
    except RecursionError as error:
        raise UnreadableError(f"{path}: not valid JSON: nested too deep") from error
    except ValueError as error:
        raise UnreadableError(f"{path}: not valid JSON: {error}") from error


def read_text(path: Path, limit: int = _MAX_BYTES, what: str = "a config") -> str:
    """Read the text of a small file.

    Args:
        path: The file, in UTF-8.
        limit: Allowed size in bytes.
        what: What the file is, with its article, for the error message.

    Returns:
        Its text.

    Raises:
        UnreadableError: If the file cannot be read or is not UTF-8.
        RefusedError: If the file is too large, or not a regular file.
    """
    try:
        raw = read_up_to(path, limit, what)
    except OSError as error:
        raise unreadable(path, error) from error
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
