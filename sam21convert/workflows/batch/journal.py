"""The journal of a batch in its folder: which output was made from what (``batch.json``)."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...errors import UnreadableError, UsageError
from ...io.output.atomic import new_file
from ...io.output.staging import leftovers, recover
from ...io.source import is_file_name
from ...io.text import parse_json, read_text

JOURNAL = "batch.json"
_FORMAT = 1

_MAX_BYTES = 64 << 20  # a record has some 2 KB

Stamps = dict[str, list[int]]

# The types that values have in the file.
_TEXT, _MAYBE = (str,), (str, type(None))
_RECORD: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("source", "suffix", "state"), _TEXT),
    **dict.fromkeys(("path", "error"), _MAYBE),
    **dict.fromkeys(("options", "read", "written", "facts"), (dict,)),
}
_FACTS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("source_dialect", "dialect"), _TEXT),
    **dict.fromkeys(("config", "generation", "identical_to", "safety"), _MAYBE),
    "dtypes": (dict,),
    "bytes": (int,),
}


@dataclass(frozen=True)
class JournalRecord:
    """What the journal knows about an output.

    Attributes:
        source: The source as it was given, see
            :func:`~sam21convert.workflows.batch.manifest.identity`.
        suffix: The extension of the output, empty for a folder.
        state: ``"started"`` while it is written: anything at its path then belongs to this batch;
            ``"converted"``, or ``"failed"``.
        path: Where the source was on this machine.
        options: The options of the conversion.
        read: Size in bytes and time of change in nanoseconds of each file of the source.
        written: The same for each file of the output.
        facts: What the report says about the output.
        error: The error of the last attempt, even if it left an earlier output in place.
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
    """The records of a batch folder, by the names of outputs. Threads may share one.

    Args:
        folder: The output folder of the batch. A journal in it is read.

    Raises:
        UnreadableError: If ``batch.json`` was not written by a batch.
        RefusedError: If it is too large, or not a regular file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._records: dict[str, JournalRecord] = {}
        self._texts: dict[str, str] = {}  # each as it is in the file: all are written every time
        path = folder / JOURNAL
        if not path.exists():
            return
        content = parse_json(path, read_text(path, _MAX_BYTES, "the journal of a batch"))
        if not _is_journal(content):
            raise UnreadableError(
                f"{path}: not the journal of a batch",
                hint="move it away, or choose another folder with `out=FOLDER`",
            )
        for name, value in content["outputs"].items():
            self._set(name, JournalRecord(**value))

    def get(self, output: str) -> JournalRecord | None:
        """Look up an output.

        Args:
            output: Its name.

        Returns:
            Its record; None if there is none.
        """
        return self._records.get(output)

    def put(self, output: str, record: JournalRecord | None) -> None:
        """Save or remove a record. The file is written before this returns.

        Args:
            output: The name of the output.
            record: Its new record; None removes it.
        """
        with self._lock:
            self._set(output, record)
            outputs = ",\n  ".join(self._texts[name] for name in sorted(self._texts))
            outputs = f"{{\n  {outputs}\n }}" if outputs else "{}"
            with new_file(self.folder / JOURNAL, overwrite=True) as file:
                text = f'{{\n "format": {_FORMAT},\n "outputs": {outputs}\n}}\n'
                file.write_text(text, encoding="utf-8")

    def _set(self, output: str, record: JournalRecord | None) -> None:
        if record is None:
            self._records.pop(output, None)
            self._texts.pop(output, None)
            return
        self._records[output] = record
        text = json.dumps(asdict(record), indent=1).replace("\n", "\n  ")  # none is in a string
        self._texts[output] = f"{json.dumps(output)}: {text}"

    @property
    def names(self) -> dict[tuple[str, str], str]:
        """Source and extension to the name of their output, without the extension."""
        return {
            (record.source, record.suffix): output.removesuffix(record.suffix)
            for output, record in self._records.items()
        }

    def owns(self, path: str) -> bool:
        """Tell whether this batch has written a path.

        Args:
            path: Any source.

        Returns:
            True for outputs, files in them, configs beside them, the journal, and the folder itself
            once it has records.
        """
        inside = os.path.relpath(os.path.realpath(path), os.path.realpath(self.folder))
        mine = {output for output, record in self._records.items() if record.state != "failed"}
        configs = {str(Path(output).with_suffix(".yaml")) for output in mine}
        if inside == os.curdir:
            return bool(self._records)
        return not {JOURNAL, *mine, *configs}.isdisjoint(Path(inside).parts[:1])

    def sweep(self) -> None:
        """Remove temporary files of a batch that was killed. No other batch may be running."""
        started = [name for name, record in self._records.items() if record.state == "started"]
        for path in (self.folder / name for name in (JOURNAL, *started)):
            recover(path)
            for inside in leftovers(path) if path.is_dir() else ():
                recover(inside)


def _is_journal(content: Any) -> bool:
    """Whether a batch may have written this, so that all of it can be relied on."""
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return False
    outputs = content.get("outputs")
    return isinstance(outputs, dict) and all(
        is_file_name(name) and name.strip(".") and _is_record(value)
        for name, value in outputs.items()
    )


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() >= {"source", "suffix", "state"}
        and _fits(value, _RECORD)
        and value["state"] in ("started", "converted", "failed")
        and _fits(value.get("facts", {}), _FACTS)
        and all(type(count) is int for count in value.get("facts", {}).get("dtypes", {}).values())
        and all(
            map(_is_stamp, [*value.get("read", {}).values(), *value.get("written", {}).values()])
        )
    )


def _fits(value: dict[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> bool:
    return all(key in kinds and type(found) in kinds[key] for key, found in value.items())


def _is_stamp(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(item) is int for item in value)


def stamps(files: Iterable[Path], relative_to: Path | None = None) -> Stamps:
    """Take size and time of change of files.

    Args:
        files: The files; those that do not exist are left out.
        relative_to: A folder that contains them; None names them by their absolute paths.

    Returns:
        Path to size in bytes and time of change in nanoseconds.
    """
    found: Stamps = {}
    for file in files:
        if file.is_file():
            name = str(file.absolute() if relative_to is None else file.relative_to(relative_to))
            status = file.stat()
            found[name] = [status.st_size, status.st_mtime_ns]
    return found


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, so that only one batch writes to it.

    Args:
        folder: The output folder, which must exist.

    Yields:
        Nothing.

    Raises:
        UsageError: If another batch holds the lock.
    """
    fd = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"{folder}: another batch is writing to it") from error
        yield
    finally:
        os.close(fd)
