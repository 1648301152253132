"""Detect that a file has changed while it was being read, by fingerprints of files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from ...errors import UnreadableError

# Device, inode, size and modification time in ns: writing, replacing or truncating changes one.
Fingerprints: TypeAlias = Mapping[Path, tuple[int, int, int, int]]


def fingerprints(files: Iterable[Path]) -> Fingerprints:
    """Take the fingerprints of files.

    Args:
        files: The files. Those that do not exist are left out.

    Returns:
        Device, inode, size in bytes and modification time in nanoseconds of each file.
    """
    found = {}
    for file in files:
        try:
            now = file.stat()
        except OSError:
            continue
        found[file] = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
    return found


def fingerprints_at(path: Path) -> Fingerprints:
    """Take the fingerprints of everything that belongs to a checkpoint, before it is opened.

    Args:
        path: A file, a folder, or a ``*.index.json``, which stands for its folder.

    Returns:
        The fingerprints of the file, or of all files in the folder; empty if there is none.
    """
    if path.name.endswith(".index.json"):
        path = path.parent
    try:
        return fingerprints(path.iterdir() if path.is_dir() else [path])
    except OSError:  # opening the checkpoint gives the better error message
        return {}


def refuse_changed(before: Fingerprints) -> None:
    """Check that files still have their fingerprints.

    Args:
        before: The fingerprints taken before reading.

    Raises:
        UnreadableError: If one of the files was changed or removed.
    """
    now = fingerprints(before)
    for file, fingerprint in before.items():
        if now.get(file) != fingerprint:
            what = "was changed" if file in now else "was removed"
            raise UnreadableError(
                f"{file}: {what} while it was being read",
                hint="nothing was written: convert again when no other program writes this file",
            )
