"""What the commands for many sources share: finding them, going through them, and failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import RefusedError, Sam21ConvertError, SeveralCheckpointsError, unreadable
from ..io.folder import may_hold_weights
from ..io.several import Listed, Several, expand_pattern, list_sources, several_in
from ..report import Line, Part, Progress, Report, Toned

_MOST_OF_A_REPOSITORY = 100  # checkpoints; each takes several requests
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Unread(Report, schema="error/1"):
    """A source that could not be looked at, among several.

    Attributes:
        path: The source, as it was given.
        error: Why.
        hint: What to do about it.
        code: The exit code that it would have alone.
    """

    path: str
    error: str
    hint: str | None
    code: int

    @classmethod
    def of(cls, source: str, error: Sam21ConvertError) -> Unread:
        """Make the answer for a source from its error.

        Args:
            source: The source, as it was given.
            error: What was raised.

        Returns:
            The answer.
        """
        return cls(source, error.message, error.hint, error.exit_code)

    @property
    def exit_code(self) -> int:
        """That of its error."""
        return self.code

    def to_dict(self) -> dict[str, Any]:
        """Give the error as plain data.

        Returns:
            The path, the error and its hint.
        """
        return {"path": self.path, "error": self.error, "hint": self.hint}

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            The error.
        """
        return [Line((Toned(f"{'unread':<9}", "bad"), f"  {self.error}"), hang=11)]


def find_all(sources: Iterable[str | Path]) -> Listed:
    """Expand patterns, and folders that hold several checkpoints.

    A folder without weights stands for its files, as they are only counted, if it is not alone.

    Args:
        sources: Paths, patterns, and whatever else is accepted as a source.

    Returns:
        What is to be looked at, and what is beside it.

    Raises:
        UsageError: when a pattern matches nothing.
    """
    given = [one for text in sources for one in expand_pattern(str(text))]

    def inside(folder: Path) -> Several | None:
        try:
            return several_in(folder, none=len(given) > 1)
        except Sam21ConvertError:
            return None  # looking at it says the same

    return list_sources(given, inside)


def look_at_all(
    listed: Listed,
    look: Callable[[str], _Result],
    fail: Callable[[str, Sam21ConvertError], _Result],
    progress: Progress,
) -> tuple[list[_Result], tuple[str, ...]]:
    """Look at each source, and at each checkpoint of a repository that has several.

    Args:
        listed: What :func:`find_all` found.
        look: Looks at one source.
        fail: Makes the answer for a source that could not be looked at, from its error.
        progress: Receives the number of finished sources, and their names.

    Returns:
        The answer for each, and what is beyond the bounds, a line for each folder.
    """

    def one(source: str, *, several: bool) -> _Result:
        try:
            return look(source)
        except SeveralCheckpointsError as error:
            if several and len(error.sources) > 1:
                raise
            return fail(source, error)
        except Sam21ConvertError as error:
            return fail(source, error)
        except OSError as error:
            return fail(source, unreadable(source, error))

    cut = tuple(f"{folder}: the files beyond the first 20,000" for folder in listed.cut)
    found = []
    for source in listed.sources:
        progress.advance(0, source)
        inside = listed.inside.get(source, ())
        try:
            if not inside:
                found.append(one(source, several=True))
        except SeveralCheckpointsError as error:  # of a repository, whose files are now known
            inside = error.sources
        found += [one(each, several=False) for each in inside[:_MOST_OF_A_REPOSITORY]]
        if len(inside) > _MOST_OF_A_REPOSITORY:
            cut = (*cut, f"{source}: the checkpoints beyond the first {_MOST_OF_A_REPOSITORY:,}")
        progress.advance(1)
    return found, cut


def is_no_checkpoint(source: str, error: Sam21ConvertError) -> bool:
    """Tell a file that is only counted, such as a README among checkpoints.

    Args:
        source: The source.
        error: Why it is not read.

    Returns:
        True if it is an intact file whose name is not that of weights.
    """
    refused = isinstance(error, RefusedError) and not may_hold_weights(source)
    return refused and Path(source).is_file()
