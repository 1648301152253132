"""Staging: make an output beside its place, and recover from runs that were killed.

An output ``out`` is made in the staging path ``.out.sam21.tmp``. The run holds a lock on it, which
ends with the process, so a staging path without a lock is a leftover that the next run removes.
Of a long name only the beginning is used, with a hash of all of it, since file systems limit names.

An output of several files may not fit into a single rename. It is committed instead: the staging
folder, complete and on the disk, is renamed to ``.out.sam21.files`` (its files belong beside it)
or ``.out.sam21.folder`` (they belong into ``out``), and then its files are moved to their places.
If the run is killed in between, the next run completes the commit.
"""

from __future__ import annotations

import fcntl
import filecmp
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import Sam21ConvertError, UsageError
from .permissions import keep_permissions
from .rename import sync

FILES, FOLDER = ".sam21.files", ".sam21.folder"  # suffixes of a commit
OUTPUT, SCRATCH = ".sam21.tmp", ".sam21.scratch"  # suffixes of an output, and of other work for it
_STAGING = re.compile(r"\.(?P<name>.+)\.sam21\.(tmp|scratch|files|folder)")
_LONGEST = 120  # bytes of a name that are used: most file systems allow 255, some 143
_WEIGHTS = {".pt", ".pth", ".safetensors"}


class LocksUnavailableError(OSError):
    """The file system does not support locks."""


@contextmanager
def staged(
    path: Path, *, folder: bool, inside: bool = False, suffix: str = OUTPUT
) -> Iterator[Path]:
    """Make a staging path for an output, from which the block moves the output to its place.

    A folder is private, and nobody can read a file who could not read ``path`` before.

    Args:
        path: The output.
        folder: Whether to make an empty folder instead of an empty file.
        inside: Whether to make it in ``path``, which is a folder then, instead of beside it.
        suffix: ``OUTPUT``, or ``SCRATCH`` for other work.

    Yields:
        The staging path. If it still exists after the block, it is removed.

    Raises:
        UsageError: If another process is writing ``path``.
        OSError: If the block raises one or staging fails. Instead of the staging path it names
            ``path``, which is what the user knows.
    """
    staging, fd = path, None
    try:
        staging = _staging_path(path, suffix, inside=inside)
        fd = _create_locked(staging, path, folder=folder)
        if not folder:
            keep_permissions(path, staging, unfinished=True)
        _complete_commits(path)
        yield staging
    except Sam21ConvertError:
        raise
    except OSError as error:
        named = str(error.filename2 or error.filename or "")
        if named and staging not in (Path(named), *Path(named).parents):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        if fd is not None:
            if _is_open_as(fd, staging):
                remove(staging)
            os.close(fd)


def leftovers(folder: Path) -> list[Path]:
    """List the outputs for which there are staging paths or unfinished commits.

    Args:
        folder: The folder that holds the outputs.

    Returns:
        The outputs, sorted; they need not exist. :func:`recover` deals with each.
    """
    names = [path.name for path in folder.iterdir()]
    whole = {_shortened(name): name for name in names}
    found = {match["name"] for match in map(_STAGING.fullmatch, names) if match}
    return sorted(folder / whole.get(name, name) for name in found)


def recover(path: Path) -> None:
    """Complete the commits and remove the leftovers of runs on an output that were killed.

    Staging paths that another process is using, or that cannot be removed, are left alone.

    Args:
        path: The output; it need not exist.
    """
    with suppress(OSError, UsageError):
        _complete_commits(path)
    for suffix, inside in ((OUTPUT, False), (OUTPUT, True), (SCRATCH, False)):
        with suppress(OSError):
            staging = _staging_path(path, suffix, inside=inside)
            if os.path.lexists(staging):
                with locked(staging):
                    remove(staging)


def is_staging_path(path: Path) -> bool:
    """Whether a path is a staging path of the folder that contains it.

    Args:
        path: An absolute path.

    Returns:
        True if it is one, so that the folder counts as empty if it holds nothing else.
    """
    return path in [_staging_path(path.parent, suffix, inside=True) for suffix in (OUTPUT, FILES)]


def commit(staging: Path, path: Path, suffix: str) -> None:
    """Move the files of a staging folder to their places, all of them or none.

    Args:
        staging: The staging folder, with all of its contents on the disk.
        path: The output.
        suffix: ``FILES`` if the files belong beside the staging folder, ``FOLDER`` if they belong
            into ``path``.

    Raises:
        OSError: If a file cannot be moved; the next run tries again.
    """
    pending = staging.parent / _staging_path(path, suffix, inside=False).name
    folder = path if suffix == FOLDER else staging.parent
    staging.rename(pending)
    sync(pending.parent)
    try:
        complete(pending, folder)
    except OSError:
        raise
    except BaseException:  # a signal must not leave the commit half done
        if pending.exists():
            complete(pending, folder)
        raise


def complete(pending: Path, folder: Path) -> None:
    """Complete a commit: move its files to their places and remove its folder.

    May be interrupted at any point and called again. At no point are there weights beside a config
    that is not theirs: if a config changes, the old weights are removed first and the new ones
    come last. If no config changes, the new weights replace the old ones in one step.

    Args:
        pending: The folder of the commit.
        folder: The folder into which its files belong.

    Raises:
        OSError: If a file cannot be moved.
    """
    changed = []
    for file in sorted(pending.iterdir(), key=lambda file: (file.suffix in _WEIGHTS, file.name)):
        if file.suffix not in _WEIGHTS and _same(file, folder / file.name):
            file.unlink()
        else:
            changed.append(file)
    if len(changed) > 1:
        for file in changed:
            if file.suffix in _WEIGHTS:
                (folder / file.name).unlink(missing_ok=True)
        sync(folder)
    for file in changed:
        target = folder / file.name
        if file.is_dir() and target.is_dir():
            remove(target)
        file.replace(target)
    sync(folder)
    pending.rmdir()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file or folder while the block runs.

    Args:
        path: The file or folder, which must exist.

    Yields:
        Nothing.

    Raises:
        BlockingIOError: If another process holds the lock.
        FileNotFoundError: If ``path`` was removed or replaced before it was locked.
        LocksUnavailableError: If the file system does not support locks.
    """
    fd = _open(path)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            raise LocksUnavailableError(error.errno, error.strerror, str(path)) from error
        if not _is_open_as(fd, path):
            raise FileNotFoundError(path)
        yield
    finally:
        os.close(fd)


def lock_new(path: Path) -> int | None:
    """Lock a file or folder that was just created.

    Args:
        path: The file or folder.

    Returns:
        A descriptor, which holds the lock until it is closed; None if another run took the path
        for a leftover and has removed it.

    Raises:
        OSError: If it cannot be opened.
    """
    try:
        fd = _open(path)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # without locks, leftovers cannot be recognised later
        fcntl.flock(fd, fcntl.LOCK_EX)
    if _is_open_as(fd, path):
        return fd
    os.close(fd)
    return None


def remove(path: Path) -> None:
    """Remove a file, or a folder with everything in it. Of a link only the link is removed.

    Args:
        path: The file or folder; a file need not exist.

    Raises:
        OSError: If it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path)
        except PermissionError:  # a folder in it that its owner made read-only
            for folder, _, _ in os.walk(path):
                Path(folder).chmod(0o700)
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _staging_path(path: Path, suffix: str, *, inside: bool) -> Path:
    path = path.absolute()  # "." has no name
    return (path if inside else path.parent) / f".{_shortened(path.name)}{suffix}"


def _shortened(name: str) -> str:
    """A name as it stands in staging paths; different names stay different."""
    if len(os.fsencode(name)) <= _LONGEST:
        return name
    mark = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    while len(os.fsencode(name + mark)) > _LONGEST:
        name = name[:-1]
    return name + mark


def _complete_commits(path: Path) -> None:
    """Complete the commits of runs on ``path`` that were killed."""
    for suffix, inside in ((FILES, False), (FOLDER, False), (FILES, True)):
        pending = _staging_path(path, suffix, inside=inside)
        if os.path.lexists(pending):
            try:
                with locked(pending):
                    complete(pending, path if suffix == FOLDER else pending.parent)
            except (BlockingIOError, LocksUnavailableError) as error:
                raise _being_written(path, pending) from error


def _create_locked(staging: Path, path: Path, *, folder: bool) -> int:
    """Create and lock ``staging``; the lock is held until the returned descriptor is closed."""
    while True:
        try:
            staging.mkdir(0o700) if folder else staging.touch(exist_ok=False)
        except FileExistsError:
            _remove_leftover(staging, path)
            continue
        fd = lock_new(staging)
        if fd is not None:
            return fd


def _remove_leftover(staging: Path, path: Path) -> None:
    try:
        with locked(staging):
            remove(staging)
    except FileNotFoundError:
        pass
    except (BlockingIOError, LocksUnavailableError) as error:
        raise _being_written(path, staging) from error


def _being_written(path: Path, staging: Path) -> UsageError:
    return UsageError(
        f"{path}: is being written by another run",
        hint=f"wait until it ends; if it was killed and there are no file locks, remove {staging}",
    )


def _open(path: Path) -> int:
    # Network file systems give an exclusive lock only on files that are open for writing.
    writing = os.O_RDONLY if path.is_dir() else os.O_RDWR
    return os.open(path, writing | os.O_NOFOLLOW)


def _is_open_as(fd: int, path: Path) -> bool:
    """Whether ``path`` is still a name of the open file ``fd``."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except OSError:
        return False


def _same(one: Path, other: Path) -> bool:
    """Whether both are files with the same bytes."""
    if other.is_symlink() or not (one.is_file() and other.is_file()):
        return False
    return filecmp.cmp(one, other, shallow=False)
