"""Renames that are a single step, and what makes them last."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

# renameat2(2) of Linux, see its manual page.
_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2


def exchange(one: Path, other: Path) -> bool:
    """Swap what two names stand for, in one step. False where the system cannot."""
    try:
        _renameat2(one, other, _EXCHANGE)
    except OSError:
        return False
    return True


def take_name(temporary: Path, path: Path) -> None:
    """Rename to a name that is free. Raises :class:`FileExistsError` when it is not."""
    try:
        _renameat2(temporary, path, _NOREPLACE)
    except FileExistsError:
        raise
    except OSError:  # not on this system, or not on this file system
        _take_name_by_link(temporary, path)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:  # some network file systems do not sync folders
        if not path.is_dir():
            raise
    finally:
        os.close(fd)


def sync_tree(folder: Path) -> None:
    """The same for a folder with all that it holds, which comes first."""
    for path in folder.iterdir():
        if path.is_dir():
            sync_tree(path)
        else:
            sync(path)
    sync(folder)


def _renameat2(source: Path, target: Path, flags: int) -> None:
    import ctypes

    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError as error:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(source), None, str(target))


def _take_name_by_link(temporary: Path, path: Path) -> None:
    if temporary.is_dir():  # a rename never replaces a folder that holds something
        temporary.rename(path)
        return
    try:
        os.link(temporary, path)  # unlike a rename, fails when the name is taken
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        temporary.rename(path)
    else:
        with suppress(FileNotFoundError):
            temporary.unlink()
