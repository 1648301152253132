"""Say what each of many files is: one line a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ..errors import RefusedError, Sam21ConvertError
from ..io.several import Listed
from ..report import (
    SILENT,
    Line,
    Part,
    Progress,
    Report,
    Table,
    Toned,
    json_lines,
    not_checkpoints,
    size_text,
)
from .inspect import Inspection, inspect
from .many import find_all, is_no_checkpoint, look_at_all
from .safety.folder import may_be_loaded
from .safety.policy import Rating
from .safety.report import FailOn, Safety, assess, tone_of

Kind: TypeAlias = Literal["checkpoint", "refused", "unreadable", "other"]
_BAD: tuple[Rating, ...] = ("dangerous", "unknown")
_MOST_OTHERS = 1000  # files that are no checkpoints, and are looked through


@dataclass(frozen=True)
class Inspected(Report):
    """One of many files.

    Attributes:
        path: the file or folder, or the source as it was given.
        kind: ``"checkpoint"``; ``"refused"`` if it is intact, and not what this package reads;
            ``"unreadable"``; or ``"other"``: a file that is no checkpoint by its name, and that
            does no harm.
        inspection: what the file tells, for a checkpoint of any model.
        safety: what loading it with torch or pickle would import and call; None if nobody knows.
        error: why it is refused or unreadable.
        hint: what to do about that.
        code: the exit code that :func:`~sam21convert.inspect` would have for it alone; 0 if it is
            no checkpoint.
    """

    path: str
    kind: Kind
    inspection: Inspection | None = None
    safety: Safety | None = None
    error: str | None = None
    hint: str | None = None
    code: int = 0

    @property
    def exit_code(self) -> int:
        """That of the file."""
        return self.code

    @property
    def schema(self) -> str:
        """That of its inspection, of an error, or of a file that is only counted."""
        if self.inspection is not None:
            return self.inspection.schema
        return "file/1" if self.error is None else "error/1"

    def to_dict(self) -> dict[str, Any]:
        """Give what one line of JSON says.

        Returns:
            For a checkpoint what its inspection says; for any other file its path and the rating,
            and what is behind that; the error and its hint, if it could not be read.
        """
        if self.inspection is not None:
            return self.inspection.to_dict()
        facts: dict[str, Any] = {"path": self.path}
        if self.error is not None:
            facts |= {"error": self.error, "hint": self.hint}
        if self.safety is not None:
            facts |= self.safety.facts()
        return facts

    def cells(self) -> tuple[str, str, str, str]:
        """Give the cells of its line.

        Returns:
            Name, what it is, size and verdict.
        """
        found = self.inspection
        rating = Toned(self.safety.rating, tone_of(self.safety.rating)) if self.safety else ""
        if self.kind == "unreadable" and rating == "harmless":
            rating = ""  # as far as it could be read
        if found is None:
            return self.path, Toned(self.kind, "bad"), _size_on_disk(self.path), rating
        return self.path, found.summary, size_text(found.bytes), rating

    def details(self) -> Iterator[str]:
        """Say what the line leaves out.

        Yields:
            Why it could not be read, what keeps it from loading, and what could do harm.
        """
        if self.error is not None:
            yield self.error.removeprefix(f"{self.path}: ")
        if self.inspection is not None:
            yield from self.inspection.problems if self.inspection.dialect else ()
            if not self.inspection.safety.passes(self.inspection.fail_on):
                yield from self.inspection.safety.against()[:1]


@dataclass(frozen=True)
class Inspections(Report):
    """The answer of :func:`~sam21convert.inspect_all`.

    Attributes:
        files: the files, in the order in which they were given.
        not_looked_at: what a folder has beyond the bounds.

    Example:
        >>> found = sam21convert.inspect_all(["model.pt", "my_finetune.pt"])
        >>> [one.kind for one in found.files]
        ['checkpoint', 'checkpoint']
    """

    files: tuple[Inspected, ...]
    not_looked_at: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The worst of the files; at least 1 if not all were looked at."""
        return max((int(bool(self.not_looked_at)), *(one.exit_code for one in self.files)))

    def to_json(self) -> str:
        """One object for each file, each on a line.

        Returns:
            The lines.
        """
        return json_lines(self.files)

    def alerts(self) -> tuple[str, ...]:
        """Warn of what was not looked at.

        Returns:
            A line for each folder.
        """
        return tuple(f"{text}: not looked at" for text in self.not_looked_at)

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A row for each checkpoint with what it leaves out below it, and the totals.
        """
        shown = [one for one in self.files if one.kind != "other"]
        others = [one.path for one in self.files if one.kind == "other"]
        parts: list[Part] = [_table(shown)] if shown else []
        if others:
            parts.append(Line((Toned(not_checkpoints(others), "dim"),)))
        found = [one.inspection for one in shown if one.inspection is not None]
        kinds = Counter[str](one.kind for one in shown)
        kinds["of SAM 2"] = sum(one.dialect is not None for one in found)
        kinds["of other models"] = len(found) - kinds["of SAM 2"]
        order = ("of SAM 2", "of other models", "refused", "unreadable")
        counts = [f"{kinds[kind]} {kind}" for kind in order if kinds[kind]]
        ratings = Counter(one.safety.rating for one in shown if one.safety)
        verdicts = [Toned(f"{ratings[one]} {one}", tone_of(one)) for one in _BAD if ratings[one]]
        totals = [", ".join(counts)]
        for verdict in verdicts:
            totals += ["; ", verdict]
        return [*parts, Line(tuple(totals))] if shown else parts


def inspect_all(
    sources: Iterable[str | Path],
    *,
    tensors: bool = False,
    tree: bool = False,
    stats: bool = False,
    weights: str | None = None,
    prefix: str | None = None,
    allow: Collection[str] = (),
    fail_on: FailOn = "unknown",
    progress: Progress = SILENT,
) -> Inspections:
    """Say what each of many files is.

    Args:
        sources: what :func:`~sam21convert.inspect` takes; patterns such as ``runs/*.pt``; folders
            that hold several checkpoints.
        tensors: as for :func:`~sam21convert.inspect`.
        tree: as for :func:`~sam21convert.inspect`.
        stats: as for :func:`~sam21convert.inspect`.
        weights: as for :func:`~sam21convert.inspect`.
        prefix: as for :func:`~sam21convert.inspect`.
        allow: as for :func:`~sam21convert.inspect`.
        fail_on: as for :func:`~sam21convert.inspect`.
        progress: receives the number of finished files, and their names.

    Returns:
        What each file tells. A file that cannot be read is an answer as well.

    Raises:
        UsageError: when a pattern matches nothing, or ``allow`` has a name that is known to do
            harm.

    Example:
        >>> sam21convert.inspect_all(["*.pt"]).exit_code
        0
    """
    options: dict[str, Any] = {"tensors": tensors, "tree": tree, "stats": stats}
    options |= {"weights": weights, "prefix": prefix}
    return inspect_listed(find_all(sources), allow, fail_on, progress, **options)


def inspect_listed(
    listed: Listed,
    allow: Collection[str],
    fail_on: FailOn,
    progress: Progress,
    **options: Any,
) -> Inspections:
    """Say what each of the files is that :func:`find_all` found.

    Args:
        listed: the files.
        allow: as for :func:`inspect_all`.
        fail_on: as for :func:`inspect_all`.
        progress: as for :func:`inspect_all`.
        **options: the other arguments of :func:`~sam21convert.inspect`.

    Returns:
        As :func:`inspect_all` does.

    Raises:
        UsageError: when ``allow`` has a name that is known to do harm.
    """

    def look(source: str) -> Inspected:
        found = inspect(source, allow=allow, fail_on=fail_on, **options)
        return Inspected(source, "checkpoint", found, found.safety, code=found.exit_code)

    def fail(source: str, error: Sam21ConvertError) -> Inspected:
        return _failed(source, error, allow, fail_on)

    progress.start("inspecting", len(listed.sources) + len(listed.others))
    files, cut = look_at_all(listed, look, fail, progress)
    looked_at = {*[path for path in listed.others if may_be_loaded(Path(path).name)][:_MOST_OTHERS]}
    for path in listed.others:
        safety = _assessed(path, allow, loose=True) if path in looked_at else Safety()
        files.append(_other(path, safety, fail_on))
        progress.advance(1)
    if len(looked_at) == _MOST_OTHERS:
        cut = (*cut, f"beyond {_MOST_OTHERS:,} files that are no checkpoints")
    return Inspections(tuple(files), cut)


def _failed(
    source: str, error: Sam21ConvertError, allow: Collection[str], fail_on: FailOn
) -> Inspected:
    """A file that is no checkpoint, or cannot be read."""
    safety = _assessed(source, allow) if Path(source).exists() else None
    if is_no_checkpoint(source, error):
        return _other(source, safety or Safety(), fail_on)
    kind: Kind = "refused" if isinstance(error, RefusedError) else "unreadable"
    return Inspected(source, kind, None, safety, error.message, error.hint, code=error.exit_code)


def _other(path: str, safety: Safety, fail_on: FailOn) -> Inspected:
    """A file that is no checkpoint; only what is not harmless is more than counted."""
    if safety.passes(fail_on):
        return Inspected(path, "other", None, safety)
    (why, *_) = safety.against()
    error = f"{path}: no checkpoint; {safety.verdict}: {why}"
    return Inspected(path, "refused", None, safety, error, code=1)


def _assessed(path: str, allow: Collection[str], *, loose: bool = False) -> Safety:
    try:
        if loose and not Path(path).is_file():  # opening a pipe would block
            return Safety()
        return assess(Path(path), allow, loose=loose)
    except OSError as error:
        return Safety(unscanned=(str(error.strerror or error),), source=path)


def _size_on_disk(path: str) -> str:
    try:
        return size_text(Path(path).stat().st_size) if Path(path).is_file() else ""
    except OSError:
        return ""


def _table(files: Sequence[Inspected]) -> Table:
    """A row for each file, and below it what the row leaves out."""
    rows: list[tuple[str, ...] | Line] = []
    for one in files:
        rows.append(one.cells())
        rows += [Line(("    ", text), hang=6) for text in one.details()]
    return Table(tuple(rows), gives=0, right=(2,))
