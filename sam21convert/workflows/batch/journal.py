"""The record that a batch keeps in its folder, of what it made of what: ``batch.json``."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...errors import UnreadableError, UsageError
from ...io.output.atomic import new_file
from ...io.output.staging import leftovers, recover

JOURNAL = "batch.json"
_FORMAT = 1

Stamps = dict[str, list[int]]


@dataclass(frozen=True)
class JournalRecord:
    """What is known of an output.

    ``source`` is what was asked for and ``path`` where that lay. ``started`` says that whatever
    stands in the place of the output is this batch's own. ``read`` and ``written`` give
    size in bytes and time of change in nanoseconds of each file. ``error`` is that of the last
    attempt, also of one that left an earlier output in place.
    """

    source: str
    suffix: str
    state: Literal["started", "converted", "failed"]
    path: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    read: Stamps = field(default_factory=dict)
    written: Stamps = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


class Journal:
    """The records of a folder, by the names of outputs. Threads may share one."""

    def __init__(self, folder: Path) -> None:
        """Read what is there. Raises :class:`UnreadableError` for what a batch has not written."""
        self.folder = folder
        self._lock = threading.Lock()
        self._records: dict[str, JournalRecord] = {}
        path = folder / JOURNAL
        if not path.exists():
            return
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(f"of format {content['format']}")
            self._records = {
                name: JournalRecord(**value) for name, value in content["outputs"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UnreadableError(
                f"{path}: not a record of a batch: {error}",
                hint="move it away, or give another folder with `out`",
            ) from error

    def get(self, output: str) -> JournalRecord | None:
        """The record of an output, if there is one."""
        return self._records.get(output)

    def put(self, output: str, record: JournalRecord | None) -> None:
        """Keep a record, or forget it, on the disk before this returns."""
        with self._lock:
            self._records.pop(output, None)
            if record is not None:
                self._records[output] = record
            outputs = {name: asdict(record) for name, record in sorted(self._records.items())}
            with new_file(self.folder / JOURNAL, overwrite=True) as file:
                text = json.dumps({"format": _FORMAT, "outputs": outputs}, indent=1)
                file.write_text(text + "\n", encoding="utf-8")

    @property
    def names(self) -> dict[tuple[str, str], str]:
        """The name, without its suffix, of each output by source and suffix."""
        return {
            (record.source, record.suffix): output.removesuffix(record.suffix)
            for output, record in self._records.items()
        }

    def owns(self, path: str) -> bool:
        """Whether a path is, or lies in, what the batch has written, or is its folder."""
        inside = os.path.relpath(os.path.realpath(path), os.path.realpath(self.folder))
        mine = {output for output, record in self._records.items() if record.state != "failed"}
        settings = {str(Path(output).with_suffix(".yaml")) for output in mine}
        if inside == os.curdir:
            return bool(self._records)
        return not {JOURNAL, *mine, *settings}.isdisjoint(Path(inside).parts[:1])

    def sweep(self) -> None:
        """Remove what a batch that was killed had in hand; no other may be at work."""
        started = [name for name, record in self._records.items() if record.state == "started"]
        for path in (self.folder / name for name in (JOURNAL, *started)):
            recover(path)
            for inside in leftovers(path) if path.is_dir() else ():
                recover(inside)


def stamps(files: Iterable[Path], relative_to: Path | None = None) -> Stamps:
    """Size and time of change of each file that is there."""
    found: Stamps = {}
    for file in files:
        if file.is_file():
            name = str(file.absolute() if relative_to is None else file.relative_to(relative_to))
            status = file.stat()
            found[name] = [status.st_size, status.st_mtime_ns]
    return found


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Raise :class:`UsageError` while another batch is at work in ``folder``."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"{folder}: another batch is at work there") from error
        yield
    finally:
        os.close(fd)
