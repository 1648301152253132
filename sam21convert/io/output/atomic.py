"""Write outputs atomically: the old one or the complete new one, even if the process is killed."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import UsageError
from .permissions import keep_permissions, keep_permissions_within
from .rename import exchange, sync, sync_tree, take_name
from .staging import (
    FILES,
    FOLDER,
    SCRATCH,
    LocksUnavailableError,
    commit,
    is_staging_path,
    locked,
    recover,
    remove,
    staged,
)


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Write a file atomically.

    If the block raises, or the process is killed, ``path`` is as it was before. The new file has
    the permissions of the one that it replaces.

    Args:
        path: The output. If it is a link, the link is replaced and its target does not change.
        overwrite: Whether ``path`` may exist.

    Yields:
        An empty file beside ``path``, to be filled by the block; it is renamed to ``path`` after
        the block.

    Raises:
        UsageError: If ``path`` exists without ``overwrite``, now or after the block; if its folder
            does not exist; or if another process is writing it.
        OSError: If the file cannot be written.
    """
    refuse_existing(path, overwrite=overwrite)
    with staged(path, folder=False) as staging:
        yield staging
        sync(staging)
        keep_permissions(path, staging)
        if overwrite:
            staging.replace(path)
        else:
            _rename_new(staging, path, overwrite)
        sync(path.parent)


@contextmanager
def new_files(path: Path, *others: Path, overwrite: bool) -> Iterator[Path]:
    """Write a file of weights together with files that belong to it, such as its config.

    While the other files change, there is no file ``path``, so that weights are never beside a
    config that is not theirs.

    Args:
        path: The weights.
        *others: The other files, in the same folder.
        overwrite: Whether the files may exist.

    Yields:
        A folder, in which the block writes the files under their own names.

    Raises:
        UsageError: See :func:`new_file`; also if a folder is in the place of a file.
        OSError: If a file cannot be written.
    """
    for each in (path, *others):
        refuse_existing(each, overwrite=overwrite)
    with staged(path, folder=True) as staging:
        yield staging
        _finish(staging, path.parent)
        for each in (path, *others):
            refuse_existing(each, overwrite=overwrite)
        _refuse_folders(staging, path.parent)
        commit(staging, path, FILES)


@contextmanager
def new_folder(
    path: Path, *, overwrite: bool | None, without: Collection[str] = ()
) -> Iterator[Path]:
    """Write a folder atomically, or write into an existing one.

    An existing folder is exchanged for a new one that also has its other files. Where that is not
    possible, its files are replaced like those of :func:`new_files`. The folder and what is
    replaced in it keep their permissions.

    Args:
        path: The output. If it is a link to a folder, that folder is written.
        overwrite: Whether a folder that is not empty may exist. Its files stay unless they are
            replaced. None for a caller that replaces none, whatever it is asked for.
        without: Names of files and folders that are removed from an existing folder, unless the
            block writes them.

    Yields:
        An empty folder, to be filled by the block.

    Raises:
        UsageError: See :func:`new_file`; also if a folder is in the place of a file, or another
            process has locked the folder.
        OSError: If a file cannot be written.
    """
    refuse_existing(path, overwrite=overwrite)
    if path.is_dir():
        path = Path(os.path.realpath(path))
    in_place = path.is_dir() and _cannot_be_exchanged(path)
    with staged(path, folder=True, inside=in_place) as staging:
        yield staging
        _finish(staging, path)
        if not os.path.lexists(path):
            staging.chmod(_mode_of_a_new_folder(staging))
            _rename_new(staging, path, None if overwrite is None else False)
            sync(path.parent)
            return
        refuse_existing(path, overwrite=overwrite)
        _refuse_folders(staging, path)
        unwanted = [path / name for name in without if not os.path.lexists(staging / name)]
        if in_place or not _exchange_folder(staging, path, unwanted):
            commit(staging, path, FILES if in_place else FOLDER)
            for old in unwanted:
                remove(old)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Make a temporary folder beside an output.

    Args:
        path: The output; it is not changed.

    Yields:
        An empty folder, which is removed after the block. If the process is killed, the next run
        removes it.

    Raises:
        UsageError: If another process is using the temporary folder of this output.
        OSError: If the folder cannot be made.
    """
    with staged(path, folder=True, suffix=SCRATCH) as staging:
        yield staging


def refuse_existing(path: Path, *, overwrite: bool | None) -> None:
    """Check that an output may be written.

    Before that, what killed runs left of it is completed or removed, see
    :func:`~sam21convert.io.output.staging.recover`.

    Args:
        path: The output.
        overwrite: Whether it may exist. An empty folder always may. None if it may not, and the
            caller has no such option, which would else be advised.

    Raises:
        UsageError: If ``path`` exists and may not, or if its folder does not exist.
        OSError: If there can be no such path, for example because its name is too long.
    """
    if "\0" in str(path):
        raise UsageError(f"{path}: a name of a file cannot hold a zero byte")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist")
    with suppress(FileNotFoundError):
        path.lstat()  # what cannot be looked up cannot be written: better to know it now
    recover(path)
    empty = path.is_dir() and all(map(is_staging_path, path.absolute().iterdir()))
    if os.path.lexists(path) and not overwrite and not empty:
        otherwise = "" if overwrite is None else ", or `overwrite=True` to replace it"
        raise UsageError(f"{path}: exists", hint=f"give another name{otherwise}")


def _rename_new(staging: Path, path: Path, overwrite: bool | None) -> None:
    try:
        take_name(staging, path)
    except FileExistsError:
        refuse_existing(path, overwrite=overwrite)
        raise


def _finish(staging: Path, home: Path) -> None:
    """Wait until a staging folder is on the disk, with the permissions of what it replaces."""
    keep_permissions_within(home, staging, unfinished=True)
    sync_tree(staging)
    keep_permissions_within(home, staging)


def _mode_of_a_new_folder(staging: Path) -> int:
    """The mode that the system gives to new folders here, which depends on more than the umask."""
    probe = staging / ".mode"
    probe.mkdir()
    try:
        return stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.rmdir()


def _refuse_folders(staging: Path, home: Path) -> None:
    """Refuse a folder in the place of a file that is to be written."""
    for file in staging.iterdir():
        target = home / file.name
        if target.is_dir() and not target.is_symlink() and not file.is_dir():
            raise UsageError(f"{target}: is a folder, but the output needs a file of this name")


def _cannot_be_exchanged(folder: Path) -> bool:
    """Whether the folder itself must be kept: a mount, a current folder, or another owner's."""
    here = Path(os.path.realpath(os.curdir))
    return (
        folder.is_mount()
        or folder in (here, *here.parents)
        or not os.access(folder.parent, os.W_OK)
        or folder.stat().st_uid != os.geteuid()
    )


def _exchange_folder(staging: Path, path: Path, unwanted: Collection[Path]) -> bool:
    """Exchange a folder for ``staging``, which gets its other files too, and remove the old one.

    Returns False, with nothing changed, if the system cannot do it. Raises :class:`UsageError` if
    the folder is locked, as a batch does with its output folder.
    """
    try:
        with locked(path):
            kept = [
                old
                for old in path.iterdir()
                if not os.path.lexists(staging / old.name) and old not in unwanted
            ]
            if not _add_kept(staging, path, kept) or not exchange(staging, path):
                for old in kept:
                    remove(staging / old.name)
                return False
            sync(path.parent)
            for late in staging.iterdir():  # written to the old folder after the links were made
                if not os.path.lexists(path / late.name) and path / late.name not in unwanted:
                    late.rename(path / late.name)
            remove(staging)
    except LocksUnavailableError:
        return False
    except BlockingIOError as error:
        raise UsageError(f"{path}: another process is writing in this folder") from error
    return True


def _add_kept(staging: Path, path: Path, kept: list[Path]) -> bool:
    """Give ``staging`` the other files of ``path``, as hard links, and its attributes."""
    try:
        for old in kept:
            _link(old, staging / old.name)
        os.chown(staging, -1, path.stat().st_gid)
        shutil.copystat(path, staging)
        sync(staging)
    except (OSError, NotImplementedError):  # hard links are not possible here
        return False
    return True


def _link(old: Path, new: Path) -> None:
    """Make a hard link to a file, or to all files in a folder."""
    if old.is_dir() and not old.is_symlink():
        shutil.copytree(old, new, symlinks=True, copy_function=os.link)
        return
    os.link(old, new, follow_symlinks=False)
