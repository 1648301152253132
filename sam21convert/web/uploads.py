"""Files that a page sends: under names of its own folder alone, and no more than it may."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from ..errors import RefusedError, UsageError
from ..report import size_text

_LONGEST = 200  # bytes of a name, below what file systems take


class Uploads:
    """The files of a page.

    Args:
        folder: A folder for them alone.
        most: Bytes that they may have together.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self._most, self._bytes = folder, most, 0
        folder.mkdir()

    def clear(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self._bytes = 0

    def path(self, name: str) -> Path:
        """Find the place of a file.

        Args:
            name: Its name, without a folder.

        Returns:
            Where it is or will be.

        Raises:
            UsageError: If the name would lead elsewhere.
        """
        odd = not name or name.startswith(".") or not name.isprintable()
        if odd or len(name.encode()) > _LONGEST or {"/", "\\", ":"} & {*name}:
            raise UsageError(f"{name[:_LONGEST]!r}: expected the name of a file, without a folder")
        return self.folder / name

    async def receive(self, name: str, announced: int | None, chunks: AsyncIterator[bytes]) -> None:
        """Write a file as it arrives.

        Args:
            name: Its name.
            announced: Its bytes, if the page says so.
            chunks: Its content.

        Raises:
            UsageError: If the name would lead elsewhere.
            RefusedError: If it is too large; nothing of it is kept.
        """
        path = self.path(name)
        if announced is not None:
            self._check(name, announced)
        path.unlink(missing_ok=True)
        try:
            with path.open("xb") as file:
                async for chunk in chunks:
                    self._check(name, len(chunk))
                    self._bytes += len(chunk)
                    file.write(chunk)
        except BaseException:
            if path.exists():
                self._bytes -= path.stat().st_size
                path.unlink()
            raise

    def _check(self, name: str, more: int) -> None:
        if self._bytes + more > self._most:
            raise RefusedError(
                f"{name}: is too large: the files of a page may have {size_text(self._most)}",
                hint="make the picture smaller, or the video shorter",
            )
