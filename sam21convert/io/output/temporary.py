"""Temporary folders that do not pile up: what a killed run leaves is removed by the next one."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .staging import lock_new, locked, remove

_START, _END = ".sam21convert-", ".sam21.tmp"
_NAME = re.compile(rf"{re.escape(_START)}\w{{8}}{re.escape(_END)}")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder for intermediate files, where the system has such files (``TMPDIR``).

    Like a staging path it is locked, and those of the same user that are not are removed.

    Yields:
        An empty private folder, which is removed after the block.

    Raises:
        OSError: If the folder cannot be made.
    """
    home = Path(tempfile.gettempdir())
    _remove_leftovers(home)
    fd = None
    while fd is None:  # another run may take it for a leftover before it is locked
        folder = Path(tempfile.mkdtemp(_END, _START, home))
        fd = lock_new(folder)
    try:
        yield folder
    finally:
        remove(folder)
        os.close(fd)


def _remove_leftovers(home: Path) -> None:
    with suppress(OSError):
        for path in home.iterdir():
            if _NAME.fullmatch(path.name) and path.lstat().st_uid == os.geteuid():
                with suppress(OSError), locked(path):
                    remove(path)
