"""Output that appears whole or not at all, also when the process is killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import UsageError
from .rename import exchange, sync, sync_tree, take_name
from .staging import FILES, FOLDER, NoLocks, commit, is_stage, locked, recover, remove, staged


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty file beside ``path``; it takes the name ``path`` when the block succeeds.

    Raises :class:`UsageError` when ``path`` exists and ``overwrite`` is false, also when it came to
    exist in the meantime, and while another process writes it. Whatever happens, nothing
    half-written is left behind. A link of that name is replaced; what it leads to stays as it is.
    """
    refuse_existing(path, overwrite=overwrite)
    with staged(path, folder=False) as stage:
        yield stage
        sync(stage)
        if overwrite:
            stage.replace(path)
        else:
            _take(stage, path)
        sync(path.parent)


@contextmanager
def new_files(path: Path, *others: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a folder in which to write ``path`` and what goes with it, all under their own names.

    All lie in one folder, and get their names together: ``path`` has the suffix of weights, and is
    not there while the others change. Raises as :func:`new_file`.
    """
    for each in (path, *others):
        refuse_existing(each, overwrite=overwrite)
    with staged(path, folder=True) as stage:
        yield stage
        sync_tree(stage)
        for each in (path, *others):
            refuse_existing(each, overwrite=overwrite)
        _refuse_folders(stage, path.parent)
        commit(stage, path, FILES)


@contextmanager
def new_folder(path: Path, *, overwrite: bool, without: Collection[str] = ()) -> Iterator[Path]:
    """The same for a folder. With ``overwrite``, other files in an existing folder stay.

    But those named in ``without`` go. A link to a folder stays a link to it. A folder that exists
    is exchanged for one with all that shall be in it; where that cannot be done, its files are
    replaced as :func:`new_files` does.
    """
    refuse_existing(path, overwrite=overwrite)
    if path.is_dir():
        path = Path(os.path.realpath(path))
    stays = path.is_dir() and _must_stay(path)
    with staged(path, folder=True, inside=stays) as stage:
        yield stage
        sync_tree(stage)
        if not os.path.lexists(path):
            _take(stage, path)
            sync(path.parent)
            return
        refuse_existing(path, overwrite=overwrite)
        _refuse_folders(stage, path)
        gone = [path / name for name in without if not os.path.lexists(stage / name)]
        if stays or not _replaced(stage, path, gone):
            commit(stage, path, FILES if stays else FOLDER)
            for old in gone:
                remove(old)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a folder beside ``path`` to work in; the next run removes that of one killed."""
    with staged(path.with_name(f"{path.name}.scratch"), folder=True) as stage:
        yield stage


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise :class:`UsageError` where ``path`` would be written over without leave.

    What a run that was killed left of it is finished or removed before.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist")
    recover(path)
    empty = path.is_dir() and all(map(is_stage, path.absolute().iterdir()))
    if os.path.lexists(path) and not overwrite and not empty:
        raise UsageError(
            f"{path}: exists", hint="give another name, or `overwrite=True` to replace it"
        )


def _take(stage: Path, path: Path) -> None:
    try:
        take_name(stage, path)
    except FileExistsError:
        refuse_existing(path, overwrite=False)
        raise


def _refuse_folders(stage: Path, home: Path) -> None:
    """Raise :class:`UsageError` where a folder stands in the place of a file."""
    for file in stage.iterdir():
        target = home / file.name
        if target.is_dir() and not target.is_symlink() and not file.is_dir():
            raise UsageError(f"{target}: is a folder; what is to be written is a file")


def _must_stay(folder: Path) -> bool:
    """Whether another folder cannot stand in for this one: a mount, a shell in it, its owner."""
    here = Path(os.path.realpath(os.curdir))
    return (
        folder.is_mount()
        or folder in (here, *here.parents)
        or not os.access(folder.parent, os.W_OK)
        or folder.stat().st_uid != os.geteuid()
    )


def _replaced(stage: Path, path: Path, gone: Collection[Path]) -> bool:
    """Exchange a folder for ``stage``, with all that only the old one holds, and remove the old.

    What is in ``gone`` goes with it.
    False, and nothing done, where the system cannot. Raises :class:`UsageError` while the folder is
    locked, as that of a batch is.
    """
    try:
        with locked(path):
            kept = [
                old
                for old in path.iterdir()
                if not os.path.lexists(stage / old.name) and old not in gone
            ]
            if not _joined(stage, path, kept) or not exchange(stage, path):
                for old in kept:
                    remove(stage / old.name)
                return False
            sync(path.parent)
            for late in stage.iterdir():  # came after the links were made
                if not os.path.lexists(path / late.name) and path / late.name not in gone:
                    late.rename(path / late.name)
            remove(stage)
    except NoLocks:
        return False
    except BlockingIOError as error:
        raise UsageError(f"{path}: another process is at work there") from error
    return True


def _joined(stage: Path, path: Path, kept: list[Path]) -> bool:
    """Give ``stage`` the links and attributes that it needs to stand in for ``path``."""
    try:
        for old in kept:
            _link(old, stage / old.name)
        os.chown(stage, -1, path.stat().st_gid)
        shutil.copystat(path, stage)
        sync(stage)
    except (OSError, NotImplementedError):  # no hard links here, or not to these files
        return False
    return True


def _link(old: Path, new: Path) -> None:
    """A second name for a file, or for all files in a folder."""
    if old.is_dir() and not old.is_symlink():
        shutil.copytree(old, new, symlinks=True, copy_function=os.link)
        return
    os.link(old, new, follow_symlinks=False)
