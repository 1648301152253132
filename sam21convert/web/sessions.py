"""The pages that are open: each has its own files and answers, which are gone when it is closed."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import RefusedError, UsageError
from ..model.pictures import FORMATS, is_picture
from ..model.video_files import CONTAINERS, is_video
from .clip import Clip
from .limits import Limits
from .picture import Answer, Picture
from .sides import Side
from .uploads import Uploads


class GoneError(Exception):
    """There is no such page, or no longer."""


class Session:
    """A page that is open.

    Args:
        sides: The checkpoints.
        limits: What it may ask.

    Attributes:
        uploads: The files that it sent.
        media: What it has opened; None before it has.
        turn: Held while the page is answered: it asks one thing at a time.
        seen: When it was heard of last.
        stop: Set to stop what goes on.
    """

    def __init__(self, sides: Sequence[Side], limits: Limits) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="sam21convert-"))
        self._sides, self._limits, self._count = sides, limits, 0
        self._made = self._home / "made"
        self.uploads = Uploads(self._home / "uploads", limits.upload_bytes)
        self.media: Picture | Clip | None = None
        self.turn = threading.Lock()
        self.seen = time.monotonic()
        self.stop = threading.Event()
        self.closed = False

    def clear(self) -> None:
        """Forget the picture or video, and its files."""
        self.media = None
        self.uploads.clear()
        shutil.rmtree(self._made, ignore_errors=True)

    def open(self, names: Sequence[str], folder: str, tell: Callable[[Answer], None]) -> Answer:
        """Open a picture, a video, or frames, of the files that were sent.

        Args:
            names: Names of the files: one, or those of several frames.
            folder: Name of the folder that frames are from.
            tell: Told how far it is.

        Returns:
            What it is.

        Raises:
            UsageError: If no such files were sent.
            Sam21ConvertError: If it cannot be read, or is too large.
        """
        paths = [self.uploads.path(name) for name in names]
        title = self.uploads.path(folder).name
        if not paths or not all(path.is_file() for path in paths):
            raise UsageError("no file was sent that could be opened")
        self.media = None
        try:
            if len(paths) == 1:
                self.media = self._open_file(paths[0], tell)
            else:
                self.media = self._clip(self.uploads.folder, title, tell)
        except BaseException:
            self.clear()
            raise
        if isinstance(self.media, Picture):
            self.uploads.clear()
        return self.media.facts()

    def new_file(self, suffix: str) -> Path:
        """Name a file that nothing else uses.

        Args:
            suffix: The end of its name.

        Returns:
            Its path, in the folder of the page.
        """
        self._count += 1
        self._made.mkdir(exist_ok=True)
        return self._made / f"{self._count}{suffix}"

    def close(self) -> None:
        """Stop what goes on, and forget everything."""
        self.closed = True
        self.stop.set()
        with self.turn:
            self.media = None
            self.discard_files()

    def discard_files(self) -> None:
        """Remove all files."""
        shutil.rmtree(self._home, ignore_errors=True)

    def without_folder(self, text: str) -> str:
        """Leave the folder of the page out of a message.

        Args:
            text: The message, which may name files of the page.

        Returns:
            The message with names alone.
        """
        return text.replace(f"{self.uploads.folder}/", "").replace(
            str(self.uploads.folder), "frames"
        )

    def _open_file(self, path: Path, tell: Callable[[Answer], None]) -> Picture | Clip:
        if is_picture(path):
            tell({"progress": "reading the picture", "done": 0, "total": 0})
            return Picture(path, self._sides, self._limits.pixels)
        if is_video(path):
            return self._clip(path, path.name, tell)
        raise RefusedError(
            f"{path.name}: is neither a picture ({FORMATS}) nor a video ({CONTAINERS})"
        )

    def _clip(self, path: Path, name: str, tell: Callable[[Answer], None]) -> Clip:
        return Clip(path, name, self.new_file("-frames"), self._sides, self._limits, tell)


class Sessions:
    """All pages that are open.

    Args:
        sides: The checkpoints.
        limits: What they may ask.
    """

    def __init__(self, sides: Sequence[Side], limits: Limits) -> None:
        self._sides, self._limits = sides, limits
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self) -> str:
        """Open a page.

        Returns:
            Its name, which nobody can guess.

        Raises:
            RefusedError: If there are too many.
        """
        self.end_idle()
        with self._lock:
            if len(self._open) >= self._limits.sessions:
                raise RefusedError(
                    f"{len(self._open)} pages are open, as many as there may be",
                    hint="close another tab with this page, and reload this one",
                )
            token = secrets.token_urlsafe(24)
            self._open[token] = Session(self._sides, self._limits)
        return token

    def get(self, token: str) -> Session:
        """Find a page.

        Args:
            token: Its name.

        Returns:
            The page.

        Raises:
            GoneError: If there is none of that name.
        """
        session = self._open.get(token)
        if session is None or session.closed:
            raise GoneError
        session.seen = time.monotonic()
        return session

    def end(self, token: str) -> None:
        """Forget a page.

        Args:
            token: Its name; nothing happens if there is none.
        """
        with self._lock:
            session = self._open.pop(token, None)
        if session is not None:
            session.close()

    def end_idle(self) -> None:
        """Forget pages that were not heard of for long."""
        past = time.monotonic() - self._limits.idle_seconds
        for token, one in [*self._open.items()]:
            if one.seen < past and not one.turn.locked():
                self.end(token)

    def end_all(self) -> None:
        """Forget all pages."""
        for token in [*self._open]:
            self.end(token)

    def discard_files(self) -> None:
        """Remove the files of all pages, whatever goes on: the process is about to end."""
        for session in [*self._open.values()]:
            session.discard_files()
