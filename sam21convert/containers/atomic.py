"""Output that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UsageError


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes the name ``path`` when the block succeeds.

    Raises :class:`UsageError` when ``path`` exists and ``overwrite`` is false, also when it came to
    exist in the meantime. Whatever happens, nothing half-written is left behind.
    """
    refuse_existing(path, overwrite=overwrite)
    temporary = _beside(path)
    try:
        yield temporary
        _sync(temporary)
        _give_name(temporary, path, overwrite=overwrite)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """The same for a folder. With ``overwrite``, other files in an existing folder stay."""
    refuse_existing(path, overwrite=overwrite)
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        if path.is_dir():
            for file in sorted(temporary.iterdir(), key=lambda file: file.suffix == ".safetensors"):
                file.replace(path / file.name)
            _sync(path)
        else:
            temporary.rename(path)
            _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise :class:`UsageError` where ``path`` would be written over without leave."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist")
    empty = path.is_dir() and not any(path.iterdir())
    if os.path.lexists(path) and not overwrite and not empty:
        raise UsageError(f"{path}: exists", hint="give another name, or --overwrite to replace it")


def _beside(path: Path) -> Path:
    path = path.absolute()  # "." has no name
    return path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _give_name(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
    else:
        try:
            os.link(temporary, path)  # unlike a rename, fails when the name is taken
        except FileExistsError:
            refuse_existing(path, overwrite=False)
            raise
        except OSError:  # a file system without hard links
            temporary.rename(path)
    with suppress(OSError):  # some network file systems do not sync folders
        _sync(path.parent)
