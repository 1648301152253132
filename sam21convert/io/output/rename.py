"""Atomic renames, and syncing them to the disk."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

# renameat2(2) of Linux, see its manual page.
_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2


def exchange(one: Path, other: Path) -> bool:
    """Exchange two files or folders in one step.

    Args:
        one: A path on the same file system as ``other``.
        other: The other path; both must exist.

    Returns:
        False, with nothing changed, if the system or the file system cannot do it.
    """
    try:
        _renameat2(one, other, _EXCHANGE)
    except OSError:
        return False
    return True


def take_name(temporary: Path, path: Path) -> None:
    """Rename a file or folder without replacing anything.

    Args:
        temporary: The file or folder.
        path: Its new name, on the same file system.

    Raises:
        FileExistsError: If there is something with that name, even if it appeared just now.
        OSError: If the renaming fails for another reason.
    """
    try:
        _renameat2(temporary, path, _NOREPLACE)
    except FileExistsError:
        raise
    except OSError:  # not supported by this system or file system
        _take_name_by_link(temporary, path)


def sync(path: Path) -> None:
    """Wait until the contents of a file, or the names in a folder, are on the disk.

    Args:
        path: The file or folder.

    Raises:
        OSError: If that fails; for a folder this is ignored, as some network file systems do not
            support it.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(fd)


def sync_tree(folder: Path) -> None:
    """Wait until a folder and everything in it are on the disk.

    The contents are synced before the names that lead to them.

    Args:
        folder: The folder.

    Raises:
        OSError: If a file cannot be synced.
    """
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
    if temporary.is_dir():  # a rename never replaces a folder that is not empty
        temporary.rename(path)
        return
    try:
        os.link(temporary, path)  # unlike a rename, it fails if the name exists
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        temporary.rename(path)
    else:
        with suppress(FileNotFoundError):
            temporary.unlink()
