"""Permissions: what replaces a file or folder may be read and written by the same users."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

_USABLE = {stat.S_IFREG: 0o600, stat.S_IFDIR: 0o700}  # what the owner needs, by kind
_KEPT = {stat.S_IFREG: 0o777, stat.S_IFDIR: 0o7777}  # a file of data is not set-user-ID
_ACCESS_LIST = "system.posix_acl_access"  # the attribute in which Linux stores an access list


def keep_permissions(old: Path, new: Path, *, unfinished: bool = False) -> None:
    """Give a file the permissions of the file that it replaces, or a folder those of a folder.

    That is the mode and, where the user may give them away, owner, group and access list. If the
    group cannot be kept, another group gets no more than everybody has. A file system that does
    not store them is no error.

    Args:
        old: What is replaced. If it does not exist, is a link or is not of the same kind, ``new``
            stays as it is.
        new: What replaces it.
        unfinished: Whether the user must still be able to read and write ``new``, whatever the
            mode of ``old``.
    """
    try:
        before, now = old.lstat(), new.lstat()
    except OSError:
        return
    kind = stat.S_IFMT(now.st_mode)
    if kind not in _USABLE or kind != stat.S_IFMT(before.st_mode):
        return
    mode = before.st_mode & _KEPT[kind]
    if not _give_away(new, now, before):
        mode &= ~0o070 | (mode & 0o007) << 3
    with suppress(OSError, AttributeError):  # no list, or a system without lists
        os.setxattr(new, _ACCESS_LIST, os.getxattr(old, _ACCESS_LIST))
    if unfinished:
        mode |= _USABLE[kind]
    if stat.S_IMODE(new.lstat().st_mode) != mode:
        with suppress(OSError):
            new.chmod(mode)


def keep_permissions_within(old: Path, new: Path, *, unfinished: bool = False) -> None:
    """Do the same for everything in a folder that has a counterpart in another one.

    Args:
        old: The folder that is replaced or written to; it need not exist.
        new: The folder with what replaces files and folders in it.
        unfinished: As for :func:`keep_permissions`.

    Raises:
        OSError: If ``new`` cannot be read.
    """
    for path in new.iterdir():
        counterpart = old / path.name
        if path.is_dir() and not path.is_symlink() and not counterpart.is_symlink():
            keep_permissions_within(counterpart, path, unfinished=unfinished)
        keep_permissions(counterpart, path, unfinished=unfinished)


def _give_away(path: Path, now: os.stat_result, before: os.stat_result) -> bool:
    """Give a file the owner and group of another one; returns whether its group is the same."""
    for uid in (before.st_uid, -1):  # only root may give a file to another user
        if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
            with suppress(OSError):
                os.chown(path, uid, before.st_gid)
                return True
    return now.st_gid == before.st_gid
