"""The journal of an evaluation: a line for each video that is done, so that a stopped run goes on.

The first line says what was evaluated, and how. Each line is on the disk before the next video is
begun by the same worker; one that was cut short when the process was killed is dropped. The lines
of videos end with their CRC-32: with a row that was edited the report would be that of no run.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import RefusedError, UnreadableError, UsageError
from ..io.output.rename import sync
from ..io.output.staging import LocksUnavailableError, locked
from ..report import short_json
from .rows import Row

JOURNAL = "videos.jsonl"
_FORMAT = "sam21convert/videos/1"
_BEGINNING = json.dumps({"format": _FORMAT})[:-1].encode()  # of the first line
_CHECK = "crc32"  # of the rest of a line
_LONGEST = 1 << 26  # bytes of a line; one of a thousand frames and a hundred objects has 4 MB

Key = Mapping[str, Any]


class Journal:
    """A journal that is open.

    Args:
        file: The file, at its end.
        rows: What it holds, by the name of the video.

    Attributes:
        rows: The rows of videos that are done; those of failed videos are left out, as what was
            wrong with them may be mended.
    """

    def __init__(self, file: BinaryIO, rows: dict[str, Row]) -> None:
        self._file = file
        self.rows = rows

    def record(self, row: Row) -> None:
        """Write a row. It is on the disk when this returns.

        Args:
            row: The row.

        Raises:
            OSError: If it cannot be written.
        """
        content = row.to_dict()
        _append(self._file, {**content, _CHECK: _check(content)})
        self.rows[row.video] = row


class Unwritten:
    """In place of a journal where none was asked for."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def record(self, row: Row) -> None:
        """Do nothing.

        Args:
            row: The row.
        """


def refuse_foreign(folder: Path, *, overwrite: bool) -> bool:
    """Check that a folder may be that of a journal.

    Args:
        folder: The folder, which need not exist.
        overwrite: Whether it may hold anything.

    Returns:
        Whether there is a journal that may be gone on with.

    Raises:
        UsageError: If it is a file, its own folder is not there, or it holds other files.
    """
    if not folder.parent.is_dir():
        raise UsageError(f"{folder}: the folder {folder.parent} does not exist")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; a report is a folder")
    there = (folder / JOURNAL).exists()
    if not there and not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(
            f"{folder}: exists, and holds no {JOURNAL} of an evaluation to go on with",
            hint="give another name, or `overwrite=True` to write into it",
        )
    return there and not overwrite


@contextmanager
def open_journal(folder: Path, key: Key, *, overwrite: bool) -> Iterator[Journal]:
    """Begin a journal, or go on with it.

    Args:
        folder: Its folder, which is made if it does not exist.
        key: What is evaluated, and how: names and what JSON can hold.
        overwrite: Whether to begin anew whatever the folder holds.

    Yields:
        The journal. If no row is ever recorded, nothing is left of it.

    Raises:
        UsageError: If the journal there is of something else, or another process is writing it.
        UnreadableError: If it is damaged.
        RefusedError: If the file of this name is no journal.
    """
    refuse_foreign(folder, overwrite=overwrite)
    key = json.loads(json.dumps(key))  # as it will be read
    path, made = folder / JOURNAL, not folder.exists()
    folder.mkdir(exist_ok=True)
    path.touch()
    with _alone(path):
        rows, length = ({}, 0) if overwrite else _read(path, key)
        with path.open("r+b") as file:
            file.truncate(length)
            file.seek(length)
            if not length:
                _append(file, {"format": _FORMAT, **key})
                sync(folder)
            journal = Journal(file, rows)
            try:
                yield journal
            finally:
                if not journal.rows:
                    path.unlink()
                    if made:
                        with suppress(OSError):  # somebody has put something there
                            folder.rmdir()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock on the journal, where the file system has locks."""
    lock = locked(path)
    try:
        lock.__enter__()
    except LocksUnavailableError:
        yield
        return
    except BlockingIOError as error:
        raise UsageError(
            f"{path}: another evaluation is writing it",
            hint="wait until it is done, or give another folder",
        ) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _append(file: BinaryIO, content: Mapping[str, Any]) -> None:
    file.write(json.dumps(content).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _read(path: Path, key: Key) -> tuple[dict[str, Row], int]:
    """The rows, and the bytes up to the end of the last whole line."""
    rows: dict[str, Row] = {}
    length = 0
    with path.open("rb") as file:
        while (line := file.readline(_LONGEST)).endswith(b"\n"):
            number = length
            length += len(line)
            try:
                content = json.loads(line)
                if number:
                    if content.pop(_CHECK) != _check(content):
                        raise ValueError(_CHECK)
                    row = Row.from_dict(content)
            except (AttributeError, ValueError, KeyError, TypeError, RecursionError) as error:
                raise UnreadableError(
                    f"{path}: expected the journal of an evaluation, found what is none at byte "
                    f"{number:,}",
                    hint="`overwrite=True` begins anew",
                ) from error
            if not number:
                _refuse_another(path, content, key)
                continue
            rows.pop(row.video, None)
            if row.failure is None:
                rows[row.video] = row
        if len(line) == _LONGEST:
            raise UnreadableError(f"{path}: has a line of more than {_LONGEST:,} bytes")
        if not length and line[: len(_BEGINNING)] != _BEGINNING[: len(line)]:
            raise _none(path)
    return rows, length


def _refuse_another(path: Path, content: Any, key: Key) -> None:
    """Refuse to go on with the journal of another evaluation."""
    if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
        raise _none(path)
    for name in {**key, **content}:
        before, now = content.get(name), key.get(name)
        if before != now:
            raise UsageError(
                f"{path}: is of another evaluation: {name} was {short_json(before)}, and is now "
                f"{short_json(now)}",
                hint="give another folder, or `overwrite=True` to begin anew",
            )


def _none(path: Path) -> RefusedError:
    return RefusedError(
        f"{path}: is not the journal of an evaluation",
        hint="give another folder, or `overwrite=True` to begin anew",
    )


def _check(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content).encode())
