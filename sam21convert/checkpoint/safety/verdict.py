"""The answer to "is it safe to load?", for files of any kind: also those that are no SAM 2."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import MissingFileError, Sam21ConvertError, UnreadableError, unreadable
from ...hub.remote import HubPath
from ...hub.resolve import resolve
from ...io.several import expand_pattern
from ...report import SILENT, Line, Part, Progress, Report, Toned, json_lines, labelled
from ..inspect import inspect
from ..many import Unread
from .folder import files_of
from .report import FailOn, Safety, assess, check_fail_on, tone_of


@dataclass(frozen=True)
class Verdict(Report, schema="safety/1"):
    """Whether one file or folder is safe to load with torch or pickle.

    Attributes:
        path: The source, as it was given.
        safety: What loading it would import and call.
        fail_on: The rating from which on the answer is no.
        advice: What to do with it; None if the answer is yes.

    Example:
        >>> print(sam21convert.safety("model.pt"))
        harmless   model.pt: nothing but tensors and plain data: ...
    """

    path: str
    safety: Safety
    fail_on: FailOn
    advice: str | None = None

    @property
    def exit_code(self) -> int:
        """1 if it is not known to be safe; 3 if that is only as it cannot be read to its end."""
        if self.safety.passes(self.fail_on):
            return 0
        found = replace(self.safety, unreadable=())
        return UnreadableError.exit_code if found.passes(self.fail_on) else 1

    def to_dict(self) -> dict[str, Any]:
        """Give the verdict as plain data.

        Returns:
            The path, the verdict as a sentence, the rating and what is behind it.
        """
        found = {"path": self.path, "verdict": self.safety.verdict, "fail_on": self.fail_on}
        return {**found, **self.safety.facts(), "advice": self.advice}

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            The rating with the file, and a line for each finding.
        """
        rating = Toned(f"{self.safety.rating:<9}", tone_of(self.safety.rating))
        first = Line((rating, f"  {self.path}: {self.safety.verdict}"), hang=11)
        rows = self.safety.rows()[1:]
        rows += [("what to do", self.advice)] if self.advice else []
        return [first, *(labelled(name, text, 2) for name, text in rows)]


@dataclass(frozen=True)
class Verdicts(Report):
    """The verdict on each of several files.

    Attributes:
        files: The verdicts, in the order in which the files were given.
    """

    files: tuple[Verdict | Unread, ...]

    @property
    def exit_code(self) -> int:
        """1 if any file is a no, as for a folder with both; else the worst of the files."""
        codes = {one.exit_code for one in self.files}
        return 1 if 1 in codes else max(codes)

    def to_json(self) -> str:
        """One object for each file, each on a line.

        Returns:
            The lines.
        """
        return json_lines(self.files)

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            The parts of each verdict.
        """
        return [part for one in self.files for part in one.shown()]


def verdicts_on(
    sources: Iterable[str],
    allow: Collection[str] = (),
    fail_on: FailOn = "unknown",
    progress: Progress = SILENT,
) -> Verdict | Verdicts:
    """Rate what files would import and call if torch or pickle loaded them.

    Args:
        sources: Files of any kind, folders, patterns, and what else is accepted as a source.
        allow: Full names that a pickle may call: your own classes.
        fail_on: ``"unknown"`` or ``"dangerous"``, as for :func:`~sam21convert.inspect`.
        progress: Receives the number of finished sources, and their names.

    Returns:
        The verdict on one source, or on each of several.

    Raises:
        UsageError: If a pattern matches nothing, or ``allow`` has a name that is known to do harm.
        UnreadableError: If the only source cannot be read.
    """
    check_fail_on(fail_on)
    given = [one for text in sources for one in expand_pattern(text)]
    if len(given) == 1:
        return _verdict_on(given[0], allow, fail_on)
    found: list[Verdict | Unread] = []
    progress.start("looking through", len(given))
    for source in given:
        progress.advance(0, source)
        try:
            found.append(_verdict_on(source, allow, fail_on))
        except Sam21ConvertError as error:
            if error.exit_code != UnreadableError.exit_code:  # a wrong option, for instance
                raise
            found.append(Unread.of(source, error))
        progress.advance(1)
    return Verdicts(tuple(found))


def safety(
    source: str | Path, *, allow: Collection[str] = (), fail_on: FailOn = "unknown"
) -> Verdict:
    """Say whether a file is safe to load with torch or pickle, without running any of it.

    The file is of any kind: it need not be a checkpoint, nor SAM 2.

    Args:
        source: A file; a folder, in which everything is looked through that a library would load
            or run; and what else :func:`~sam21convert.inspect` takes.
        allow: Full names that a pickle may call: your own classes.
        fail_on: ``"unknown"`` or ``"dangerous"``, as for :func:`~sam21convert.inspect`.

    Returns:
        The verdict. ``ok`` is the answer, ``safety`` has all that was found, and ``to_dict()`` is
        what the command prints with ``--json``.

    Raises:
        UsageError: If ``allow`` has a name that is known to do harm.
        UnreadableError: If the file cannot be opened or downloaded.

    Example:
        >>> found = sam21convert.safety("model.pt")
        >>> found.ok, found.safety.rating
        (True, 'harmless')
    """
    check_fail_on(fail_on)
    return _verdict_on(str(source), allow, fail_on)


def _verdict_on(source: str, allow: Collection[str], fail_on: FailOn) -> Verdict:
    path = resolve(source, header_only=True).path
    if not path.exists():
        raise MissingFileError(f"{source}: No such file or directory")
    try:
        found = assess(path, allow, headers=True)
    except Sam21ConvertError:
        raise
    except OSError as error:
        raise unreadable(source, error) from error
    if found.passes(fail_on):
        return Verdict(source, found, fail_on)
    return Verdict(source, found, fail_on, _advice(source, path, found, allow, fail_on))


def _advice(source: str, path: Path, found: Safety, allow: Collection[str], fail_on: FailOn) -> str:
    """What to do with a source: whether its tensors can be converted is seen from its header."""
    readable = _converts(source)
    if readable or isinstance(path, HubPath) or not path.is_dir():
        return found.advice(source, readable=readable)
    told = []
    for name, file in files_of(path):
        if not found.speaks_of(name):
            continue
        try:
            one = assess(file, allow, headers=True)
        except OSError:  # a link to nothing, a pipe, or a file that the system keeps from us
            told.append(f"{name}: could not be read; take it away, or look through a copy of it")
            continue
        if not one.passes(fail_on):
            told.append(f"{name}: {one.advice(file, readable=_converts(str(file)))}")
    return "; ".join(told) or found.advice(source, readable=False)


def _converts(source: str) -> bool:
    try:
        return inspect(source).converts
    except (Sam21ConvertError, OSError):
        return False
