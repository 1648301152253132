"""Paths as people type them: with a ``~`` that no shell has expanded, or misspelt."""

from __future__ import annotations

import errno
import os
from itertools import islice
from pathlib import Path

from ..errors import MissingFileError, UnreadableError, did_you_mean, nearest, unreadable

# Errors that say that nothing has this name; the last one is of a link to itself.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
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


def there(path: Path) -> bool:
    """Find out whether a file or a folder has this name.

    Since Python 3.14, ``Path.exists`` also says no where the system does not tell.

    Args:
        path: the path.

    Returns:
        Whether there is one.

    Raises:
        OSError: where the system does not tell, as in a folder that is not to be looked into.
    """
    if path.exists():
        return True
    try:
        path.stat()
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
    except ValueError:  # no name has a zero byte
        pass
    return False


def nearby(path: Path) -> list[Path]:
    """Find what someone may have meant by a path that does not exist.

    Args:
        path: the path.

    Returns:
        At most three paths that exist and are spelt alike, whatever their endings. Where a folder
        is missing, its name may be the one that is misspelt.
    """
    wanted, below = path, list[str]()
    while wanted.name and not wanted.parent.is_dir():
        below.insert(0, wanted.name)
        wanted = wanted.parent
    found = (other.joinpath(*below) for other in _alike(wanted))
    return [other for other in found if other.exists()]


def _alike(path: Path) -> list[Path]:
    """At most three paths of the same folder that are spelt alike."""
    if not path.name:
        return []
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, _SEEN)]
    except OSError:
        return []
    stems: dict[str, list[str]] = {}  # endings are alike whatever the names are
    for other in sorted(names):
        stems.setdefault(Path(other).stem, []).append(other)
    found = [other for stem in nearest(path.stem, stems) for other in stems[stem]]
    return [path.parent / other for other in found[:3]]


def missing(path: Path, otherwise: str | None = None) -> UnreadableError:
    """Make the error for a path that does not exist.

    Args:
        path: the path.
        otherwise: the hint if there is nothing like it.

    Returns:
        The error, to be raised by the caller: a :class:`~..errors.MissingFileError`, or what the
        system says where it does not let anybody look.
    """
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        return unreadable(path, error)
    hint = did_you_mean([str(other) for other in nearby(path)], otherwise)
    return MissingFileError(f"{path}: {os.strerror(errno.ENOENT)}", hint=hint)


def not_a_folder(path: Path, hint: str | None = None) -> UnreadableError:
    """Make the error for a path that should be a folder.

    Args:
        path: the path.
        hint: what to do; where nothing has that name, a name like it is better.

    Returns:
        The error, to be raised by the caller: that there is no such path, or that it is a file.
    """
    if path.exists():
        return UnreadableError(f"{path}: expected a folder, found a file", hint=hint)
    return missing(path, hint)
