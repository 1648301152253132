"""Check each of many checkpoints: one line a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..errors import Sam21ConvertError
from ..io.several import Listed
from ..report import (
    Line,
    Part,
    Progress,
    Report,
    Table,
    Toned,
    json_lines,
    labelled,
    not_checkpoints,
)
from .many import Unread, is_no_checkpoint, look_at_all
from .validate import Validation


@dataclass(frozen=True)
class Counted(Report, schema="counted/1"):
    """A file that is no checkpoint by its name, and is not checked.

    Attributes:
        path: The file.
    """

    path: str


Checked: TypeAlias = Validation | Unread | Counted


@dataclass(frozen=True)
class Validations(Report):
    """The answer for several sources.

    Attributes:
        files: The answer for each, in the order in which they were given.
        not_looked_at: What a folder has beyond the bounds.
    """

    files: tuple[tuple[str, Checked], ...]
    not_looked_at: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The worst of the sources; at least 1 if not all were looked at."""
        return max((int(bool(self.not_looked_at)), *(one.exit_code for _, one in self.files)))

    def to_json(self) -> str:
        """One object for each source, each on a line.

        Returns:
            The lines.
        """
        return json_lines(one for _, one in self.files)

    def alerts(self) -> tuple[str, ...]:
        """Warn of what was not looked at, and of what loading a file would run.

        Returns:
            A line for each.
        """
        cut = tuple(f"{text}: not looked at" for text in self.not_looked_at)
        return (*cut, *(alert for _, one in self.files for alert in one.alerts()))

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A row for each source with its problems below it, and the totals.
        """
        counted = [source for source, one in self.files if isinstance(one, Counted)]
        rows: list[tuple[str, ...] | Line] = []
        for source, one in self.files:
            if not isinstance(one, Counted):
                rows += _rows(source, one)
        parts: list[Part] = [Table(tuple(rows), gives=0)] if rows else []
        if counted:
            parts.append(Line((Toned(not_checkpoints(counted), "dim"),)))
        totals = Counter(_verdict(one) for _, one in self.files if not isinstance(one, Counted))
        kinds = ((_LOADS, "load"), (_FAILS, "do not load"), (_UNREAD, "unread"))
        told = ", ".join(f"{totals[kind]} {text}" for kind, text in kinds if totals[kind])
        return [*parts, Line((told or "no checkpoints",))]


_LOADS, _FAILS, _UNREAD = "loads", "does not load", "unread"


def _verdict(one: Checked) -> str:
    if not isinstance(one, Validation):
        return _UNREAD
    return _LOADS if one.ok else _FAILS


def _rows(source: str, one: Validation | Unread) -> Iterator[tuple[str, ...] | Line]:
    said = Toned(_verdict(one), "good" if one.ok else "bad")
    if isinstance(one, Unread):
        yield (source, said)
        yield Line(("    ", one.error.removeprefix(f"{source}: ")), hang=6)
    else:
        yield (source, said, ", ".join(filter(None, (one.dialect, one.config))))
        yield from (Line(("    ", problem), hang=6) for problem in one.problems)
        yield from (labelled("warning", warning, 4) for warning in one.warnings)


def validate_listed(
    listed: Listed, check: Callable[[str], Validation], progress: Progress
) -> Validations:
    """Check each of the sources that :func:`~sam21convert.checkpoint.many.find_all` found.

    Args:
        listed: The sources.
        check: Checks one.
        progress: Receives the number of finished sources, and their names.

    Returns:
        The answer for each. A source that cannot be read is an answer as well.
    """

    def look(source: str) -> tuple[str, Checked]:
        return source, check(source)

    def fail(source: str, error: Sam21ConvertError) -> tuple[str, Checked]:
        if is_no_checkpoint(source, error):
            return source, Counted(source)
        return source, Unread.of(source, error)

    progress.start("validating", len(listed.sources))
    found, cut = look_at_all(listed, look, fail, progress)
    others: list[tuple[str, Any]] = [(path, Counted(path)) for path in listed.others]
    return Validations((*found, *others), cut)
