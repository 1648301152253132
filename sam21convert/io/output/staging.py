"""Places beside an output in which it is made, and what becomes of those of a run that was killed.

Of an output ``out``, ``.out.sam21.tmp`` is what a run has begun. The run holds a lock on it, which
goes with the process: one without a lock is a leftover, and the next run removes it. An output of
several files that cannot appear in one step is complete before the first of them gets its name, in
``.out.sam21.files`` (to be put where that lies) or ``.out.sam21.folder`` (to be put into ``out``):
of a run that was killed then, the next one finishes it.
"""

from __future__ import annotations

import fcntl
import filecmp
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import UsageError
from .rename import sync

FILES, FOLDER = ".sam21.files", ".sam21.folder"
_TMP = ".sam21.tmp"
_STAGE = re.compile(r"\.(?P<name>.+)\.sam21\.(tmp|files|folder)")
_WEIGHTS = {".pt", ".pth", ".safetensors"}


class NoLocks(OSError):  # noqa: N818 - a lack, for the one who asks to judge
    """The file system has no locks."""


@contextmanager
def staged(path: Path, *, folder: bool, inside: bool = False) -> Iterator[Path]:
    """Yield an empty file or folder, beside ``path`` or in it, to be moved from there.

    What has not been moved is removed. Raises :class:`UsageError` while another process writes
    ``path``. An :class:`OSError` that names the stage or nothing names ``path`` instead.
    """
    stage = _stage(path, _TMP, inside=inside)
    fd = None
    try:
        fd = _claim(stage, path, folder=folder)
        _finish_wholes(path)
        yield stage
    except OSError as error:
        named = str(error.filename or "")
        if not named or named == str(stage) or named.startswith(f"{stage}{os.sep}"):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if fd is not None:
            if _is(fd, stage):
                remove(stage)
            os.close(fd)


def leftovers(folder: Path) -> list[Path]:
    """The outputs in ``folder`` of which a run that was killed may have left something."""
    hits = (_STAGE.fullmatch(path.name) for path in folder.iterdir())
    return sorted({folder / hit["name"] for hit in hits if hit})


def recover(path: Path) -> None:
    """Finish or remove what a run that was killed left of ``path``.

    What another process is at work on stays, and so does what cannot be removed.
    """
    with suppress(OSError, UsageError):
        _finish_wholes(path)
    for inside in (False, True):
        stage = _stage(path, _TMP, inside=inside)
        if os.path.lexists(stage):
            with suppress(OSError), locked(stage):
                remove(stage)


def is_stage(path: Path) -> bool:
    """Whether ``path`` lies in the folder that it is a stage of."""
    return path.name in {f".{path.parent.name}{suffix}" for suffix in (_TMP, FILES)}


def commit(stage: Path, path: Path, suffix: str) -> None:
    """Put the files in ``stage``, all on the disk, in their places: all of them, come what may."""
    whole = stage.with_name(f".{path.absolute().name}{suffix}")
    stage.rename(whole)
    sync(whole.parent)
    try:
        complete(whole)
    except OSError:
        raise
    except BaseException:  # a signal: what is half done is done
        if whole.exists():
            complete(whole)
        raise


def complete(whole: Path) -> None:
    """Move what ``whole`` holds to its places, and no weights beside settings that are not theirs.

    Old weights go before the first settings change, new ones come last; in between there are none.
    May be cut off anywhere, and be done again. With the settings as they were, old weights become
    new ones in one step.
    """
    folder = whole.parent
    if whole.name.endswith(FOLDER):
        folder = folder / whole.name[1 : -len(FOLDER)]
    left = []
    for file in sorted(whole.iterdir(), key=lambda file: (file.suffix in _WEIGHTS, file.name)):
        if file.suffix not in _WEIGHTS and _same(file, folder / file.name):
            file.unlink()
        else:
            left.append(file)
    if len(left) > 1:
        for file in left:
            if file.suffix in _WEIGHTS:
                (folder / file.name).unlink(missing_ok=True)
        sync(folder)
    for file in left:
        target = folder / file.name
        if file.is_dir() and target.is_dir():
            remove(target)
        file.replace(target)
    sync(folder)
    whole.rmdir()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of ``path``.

    Raises :class:`BlockingIOError` while another process does, :class:`FileNotFoundError` when
    ``path`` is not what it was before the lock was had, and :class:`NoLocks` where there are none.
    """
    fd = _open(path)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            raise NoLocks(error.errno, error.strerror, str(path)) from error
        if not _is(fd, path):
            raise FileNotFoundError(path)
        yield
    finally:
        os.close(fd)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds; a link is only unlinked."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _stage(path: Path, suffix: str, *, inside: bool) -> Path:
    path = path.absolute()  # "." has no name
    return (path if inside else path.parent) / f".{path.name}{suffix}"


def _finish_wholes(path: Path) -> None:
    for suffix, inside in ((FILES, False), (FOLDER, False), (FILES, True)):
        whole = _stage(path, suffix, inside=inside)
        if os.path.lexists(whole):
            try:
                with locked(whole):
                    complete(whole)
            except (BlockingIOError, NoLocks) as error:
                raise _occupied(path, whole) from error


def _claim(stage: Path, path: Path, *, folder: bool) -> int:
    """Make ``stage`` and lock it; the descriptor returned holds the lock."""
    while True:
        try:
            stage.mkdir() if folder else stage.touch(exist_ok=False)
        except FileExistsError:
            _clear(stage, path)
            continue
        try:
            fd = _open(stage)
        except FileNotFoundError:  # another took it for a leftover before it was locked
            continue
        with suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        if _is(fd, stage):
            return fd
        os.close(fd)


def _clear(stage: Path, path: Path) -> None:
    try:
        with locked(stage):
            remove(stage)
    except FileNotFoundError:
        pass
    except (BlockingIOError, NoLocks) as error:
        raise _occupied(path, stage) from error


def _occupied(path: Path, stage: Path) -> UsageError:
    return UsageError(
        f"{path}: is being written by another run",
        hint=f"wait for it; if it has died on a file system without locks, remove {stage}",
    )


def _open(path: Path) -> int:
    writing = os.O_RDONLY if path.is_dir() else os.O_RDWR  # network file systems lock no other
    return os.open(path, writing | os.O_NOFOLLOW)


def _is(fd: int, path: Path) -> bool:
    """Whether ``path`` is still a name of the open file ``fd``."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except OSError:
        return False


def _same(one: Path, other: Path) -> bool:
    """Whether two are files with the same bytes."""
    if other.is_symlink() or not (one.is_file() and other.is_file()):
        return False
    return filecmp.cmp(one, other, shallow=False)
