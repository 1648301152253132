"""Notice that a file has changed while it was being read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from ...errors import UnreadableError

# What a write, a replacement or a cut changes: device, inode, size, time of the last write.
Fingerprints: TypeAlias = Mapping[Path, tuple[int, int, int, int]]


def fingerprints(files: Iterable[Path]) -> Fingerprints:
    """The state of each of these files that is there."""
    found = {}
    for file in files:
        try:
            now = file.stat()
        except OSError:
            continue
        found[file] = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
    return found


def fingerprints_at(path: Path) -> Fingerprints:
    """The same for a file, or for all in a folder; for an index, all that lie beside it."""
    if path.name.endswith(".index.json"):
        path = path.parent
    try:
        return fingerprints(path.iterdir() if path.is_dir() else [path])
    except OSError:  # whoever opens it says what is wrong
        return {}


def refuse_changed(before: Fingerprints) -> None:
    """Raise :class:`UnreadableError` unless all these files are as they were."""
    now = fingerprints(before)
    for file, state in before.items():
        if now.get(file) != state:
            what = "was changed" if file in now else "has gone"
            raise UnreadableError(
                f"{file}: {what} while it was being read",
                hint="nothing was written: convert again when whatever writes it has finished",
            )
