"""Paths as people type them: with a ``~`` that no shell has expanded, or misspelt."""

from __future__ import annotations

import errno
import os
from itertools import islice
from pathlib import Path

from ..errors import MissingFileError, UnreadableError, did_you_mean, nearest

_SEEN = 10_000  # names of a folder that are compared


def expanded(path: Path) -> Path:
    """Put the home folder in place of a ``~`` at the beginning.

    Args:
        path: a path as it was typed.

    Returns:
        The path itself if something has that very name, or no user has that of the ``~``.
    """
    if not str(path).startswith("~") or os.path.lexists(path.parts[0]):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def nearby(path: Path) -> list[Path]:
    """Find what someone may have meant by a path that does not exist.

    Args:
        path: the path.

    Returns:
        At most three paths that exist and are spelt alike, whatever their endings, also in the
        names of folders.
    """
    name, folder = path.name, path.parent
    if not name:
        return []
    if not folder.is_dir():
        others = [other / name for other in nearby(folder) if other.is_dir()]
        return [other for other in others if other.exists()]
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _SEEN)]
    except OSError:
        return []
    stems: dict[str, list[str]] = {}  # endings are alike whatever the names are
    for other in sorted(names):
        stems.setdefault(Path(other).stem, []).append(other)
    return [folder / other for stem in nearest(path.stem, stems) for other in stems[stem]][:3]


def missing(path: Path, otherwise: str | None = None) -> MissingFileError:
    """Make the error for a path that does not exist.

    Args:
        path: the path.
        otherwise: the hint if there is nothing like it.

    Returns:
        The error, to be raised by the caller.
    """
    hint = did_you_mean([str(other) for other in nearby(path)], otherwise)
    return MissingFileError(f"{path}: {os.strerror(errno.ENOENT)}", hint=hint)


def not_a_folder(path: Path) -> UnreadableError:
    """Make the error for a path that should be a folder.

    Args:
        path: the path.

    Returns:
        The error, to be raised by the caller: that there is no such path, or that it is a file.
    """
    if path.exists():
        return UnreadableError(f"{path}: expected a folder, found a file")
    return missing(path)
