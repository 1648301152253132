"""What loading a file with ``torch.load(weights_only=False)`` or ``pickle.load`` would run."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from ...errors import RefusedError, Sam21ConvertError, UnreadableError, UsageError, call_of
from ...io.pickle.references import GlobalReference
from ...io.unsupported import PROGRAMS
from ...report import Report, Tone, Toned, one_line
from .find_pickles import Found, look_through
from .folder import look_through_source
from .policy import RATINGS, Rating, does_harm, in_words, rate

FailOn: TypeAlias = Literal["unknown", "dangerous"]
FAIL_ON: tuple[FailOn, ...] = ("unknown", "dangerous")
WARN = "do not load it with anything that runs pickles; ask where it came from"
_SHOWN = 12
_LONGEST = 200  # characters shown of a name


def check_fail_on(fail_on: str) -> None:
    """Check from which rating on the answer is to be no.

    Args:
        fail_on: What was asked for.

    Raises:
        UsageError: If it is not one of ``FAIL_ON``.
    """
    if fail_on not in FAIL_ON:
        raise UsageError(f"`fail_on={fail_on}`: must be one of {', '.join(FAIL_ON)}")


@dataclass(frozen=True)
class Global:
    """A global that a pickle in a file imports.

    Attributes:
        name: Its full name, as the pickle spells it, with unprintable characters escaped.
        entry: The file of a folder, or the zip entry, that holds the pickle; empty when the file
            itself is the pickle.
        offset: Bytes from the start of ``entry`` to the first opcode that names the global.
        called: Whether it is called, as a function or to make an object, or given to something
            that may call it.
        changed: Whether attributes or items of it are set.
        count: How often the pickle refers to it.
        rating: ``"harmless"``, ``"unknown"`` or ``"dangerous"``.
        does: What calling it does, in plain words; None where that is not known.
        arguments: What the first calls are given, each as text of a limited length.
        calls: How often it is called.
    """

    name: str
    entry: str
    offset: int
    called: bool
    changed: bool
    count: int
    rating: Rating
    does: str | None = None
    arguments: tuple[str, ...] = ()
    calls: int = 0

    def __str__(self) -> str:
        action = "called" if self.called else "changed" if self.changed else "imported"
        times = f" {self.count} times" if self.count > 1 else ""
        entry = f" of {self.entry}" if self.entry else ""
        told = f"{self.name} would be {action}{times} (byte {self.offset}{entry})"
        if not self.arguments or self.rating == "harmless":
            return told
        more = f", and {self.calls - len(self.arguments)} more calls"
        shown = "; ".join(f"{self.name}{one}" for one in dict.fromkeys(self.arguments))
        does = f"{self.does}: " if self.does else ""
        return f"{told}: {does}{shown}{more if self.calls > len(self.arguments) else ''}"


@dataclass(frozen=True)
class Safety:
    """Everything that the pickles in a file or folder import.

    Attributes:
        names: The globals, the most dangerous first.
        doubts: Why two programs may read a pickle in it differently.
        unscanned: What was not looked through, and why.
        others: Entries of archives that ``torch.save`` does not write. They were looked through.
        source: The file or folder.
        unreadable: What begins or is named like a checkpoint, and cannot be read to its end.
        other: What the only file is, if it is no checkpoint; else empty.
    """

    names: tuple[Global, ...] = ()
    doubts: tuple[str, ...] = ()
    unscanned: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    source: str = ""
    unreadable: tuple[str, ...] = ()
    other: str = ""

    @property
    def complete(self) -> bool:
        """Whether everything that a library would load was looked through."""
        return not (self.unscanned or self.unreadable)

    @property
    def rating(self) -> Rating:
        """The rating of the worst name, as far as everything was looked through.

        It is dangerous if programs may read a pickle differently, and at best unknown if something
        was not looked through.
        """
        if self.doubts:
            return "dangerous"
        least: Rating = "harmless" if self.complete else "unknown"
        return max((least, *(name.rating for name in self.names)), key=RATINGS.index)

    @property
    def dangerous(self) -> tuple[Global, ...]:
        """The globals that can do harm."""
        return tuple(name for name in self.names if name.rating == "dangerous")

    @property
    def unknown_calls(self) -> tuple[Global, ...]:
        """The globals that are called and not known to be harmless."""
        return tuple(name for name in self.names if name.rating == "unknown" and name.called)

    @property
    def clean(self) -> bool:
        """Whether there is nothing but tensors and plain data."""
        return self.rating == "harmless"

    def passes(self, fail_on: FailOn = "unknown") -> bool:
        """Decide whether the answer to "is it safe?" is yes.

        Args:
            fail_on: ``"dangerous"`` to answer no only if something is known to do harm.

        Returns:
            True if nothing is dangerous and, for ``"unknown"``, nothing that is called is unknown
            and everything was looked through; never if something cannot be read to its end.
        """
        if self.rating == "dangerous" or self.unreadable:
            return False
        return fail_on == "dangerous" or not (self.unknown_calls or self.unscanned)

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        if self.dangerous:
            return "torch.load(weights_only=False) runs code that can do harm"
        if self.doubts:
            return "two programs may load different things from it"
        if self.unknown_calls:
            return "torch.load(weights_only=False) runs code that is not known to be safe"
        if self.unscanned:
            return "not known to be safe: not all of it was looked through"
        if self.unreadable and self.other and not self.names:
            return f"no checkpoint, but {self.other}: torch and pickle fail, and run nothing of it"
        if self.unreadable:
            return "not known to be safe: it cannot be read to its end"
        if self.other:
            return f"no checkpoint, but {self.other}, and nothing that a loader would run"
        if self.rating == "unknown":
            return "tensors and plain data, and names that are unknown but not called"
        return f"nothing but tensors and plain data: {len({n.name for n in self.names})} names"

    def warning(self) -> str | None:
        """Describe in one line what is not clean.

        Returns:
            The file, the verdict and the worst name; None if the file is clean.
        """
        if self.clean:
            return None
        worst = self.against()
        more = f", and {len(worst) - 1} more" if len(worst) > 1 else ""
        return one_line(f"{self.source}: {self.verdict}: {worst[0]}{more}")

    def against(self) -> list[str]:
        """Say what is not harmless.

        Returns:
            A line for each name, doubt and place that was not looked through, the worst first.
        """
        names = [str(name) for name in self.names if name.rating != "harmless"]
        return [*names, *self.doubts, *self.unscanned, *self.unreadable]

    def speaks_of(self, file: str) -> bool:
        """Check whether something was found in a file of the folder.

        Args:
            file: Its path in the folder.

        Returns:
            True if a name, a doubt or a place that was not looked through is in it.
        """
        said = (
            *(name.entry for name in self.names),
            *self.doubts,
            *self.unscanned,
            *self.unreadable,
        )
        return any(text == file or text.startswith(f"{file}: ") for text in said)

    def facts(self) -> dict[str, Any]:
        """Give the findings as plain data, for a report of this file.

        Returns:
            The rating as ``safety``, and what is behind it.
        """
        return {
            "safety": self.rating,
            "pickle": [asdict(name) for name in self.names],
            "doubts": list(self.doubts),
            "not_scanned": list(self.unscanned),
            "unreadable": list(self.unreadable),
            "other_entries": list(self.others),
        }

    def advice(self, path: object, *, readable: bool) -> str:
        """Say what to do with a file that is not clean.

        Args:
            path: The file, as the user gave it.
            readable: Whether its tensors can be converted.

        Returns:
            A sentence, with the call that writes a clean copy if there can be one.
        """
        if self.unreadable and replace(self, unreadable=()).passes():
            if self.other in PROGRAMS:
                return "do not run it as a program either; ask where it came from"
            return "do not load it as it is: download or copy it again from where it came from"
        if readable:
            return f"do not load it; {call_of('convert', path)} writes a clean copy: tensors alone"
        return f"{WARN}; no clean copy can be made: it does not convert as SAM 2"

    def rows(self) -> list[tuple[str, str]]:
        """Describe the findings for people.

        Returns:
            Pairs of a label and a text: one pair for a harmless file, otherwise a verdict and up to
            12 of the globals that are not harmless.
        """
        dangerous = "dangerous: " if self.rating == "dangerous" else ""
        verdict = Toned(f"{dangerous}{self.verdict}", tone_of(self.rating))
        rows: list[tuple[str, str]] = [("safety", verdict)]
        rows += [("dangerous", doubt) for doubt in self.doubts[:_SHOWN]]
        rows += _first([("not scanned", text) for text in self.unscanned])
        rows += _first([(n.rating, str(n)) for n in self.names if n.rating != "harmless"])
        rows += _first([("unreadable", text) for text in self.unreadable])
        rows += _first([("other entry", name) for name in self.others])
        if calls := self.unknown_calls:
            allowed = " ".join(f"`allow={shlex.quote(name.name)}`" for name in calls[:_SHOWN])
            rows.append(("hint", f"if these are your own classes, or you trust them: {allowed}"))
        return rows


def tone_of(rating: Rating) -> Tone:
    """Say how bad a rating is.

    Args:
        rating: The rating.

    Returns:
        The tone of a text that says it.
    """
    tones: dict[Rating, Tone] = {"harmless": "good", "unknown": "note", "dangerous": "bad"}
    return tones[rating]


def _first(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    left = len(rows) - _SHOWN
    return [*rows[:_SHOWN], *([("", f"... {left} more")] if left > 0 else [])]


def assess(
    path: Path, allow: Collection[str] = (), *, loose: bool = False, headers: bool = False
) -> Safety:
    """Rate what the pickles in a file would import and call, without running any of it.

    Args:
        path: A file; or a folder, in which everything is looked through that a library would load
            or run.
        allow: Full names that are taken for harmless: those of your own classes.
        loose: Whether it is a regular file that nobody named. As it may be any text, whose bytes
            are opcodes by chance, it then counts only if it is plainly a pickle or does harm.
        headers: Whether safetensors and legacy files must be readable as well, for a caller that
            opens none.

    Returns:
        The rated globals; none for a file without pickles.

    Raises:
        OSError: ``path`` cannot be read, or is not a regular file.
        UsageError: ``allow`` has a name that is known to do harm.
    """
    for name in allow:
        if does_harm(*name.rpartition(".")[::2]):
            raise UsageError(
                f"{name}: is known to do harm, whatever it is used for",
                hint="only your own classes can be allowed, by the names that inspect prints",
            )
    found = Found(headers=headers)
    if loose:
        look_through(path, found, path.name)
        found.unreadable.clear()  # nobody said that it can be read
    else:
        look_through_source(path, found)
    references = [(entry, one) for entry, one in found.names if one not in found.failing]
    names = [_rated(entry, reference, allow) for entry, reference in references]
    return Safety(
        tuple(sorted(names, key=lambda name: -RATINGS.index(name.rating))),
        tuple(found.doubts),
        tuple(found.unscanned),
        tuple(found.others),
        str(path),
        tuple(found.unreadable),
        found.other,
    )


def together(found: Iterable[Safety]) -> Safety:
    """Join what was found in several sources of one answer.

    Args:
        found: What was found in each.

    Returns:
        All of it, each place with the path of its source, if there is more than one.
    """
    distinct = {one.source: one for one in found}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    names = [
        replace(n, entry=f"{at}: {n.entry}") for at, one in distinct.items() for n in one.names
    ]
    return Safety(
        tuple(sorted(names, key=lambda name: -RATINGS.index(name.rating))),
        tuple(f"{at}: {text}" for at, one in distinct.items() for text in one.doubts),
        tuple(f"{at}: {text}" for at, one in distinct.items() for text in one.unscanned),
        tuple(f"{at}: {text}" for at, one in distinct.items() for text in one.others),
        ", ".join(at for at, one in distinct.items() if not one.clean),
        tuple(f"{at}: {text}" for at, one in distinct.items() for text in one.unreadable),
    )


class SourceReport(Report):
    """Base of the reports of what was read from checkpoints.

    Their ``safety``, a field or a property, says what loading the sources with torch or pickle
    would run.
    """

    if TYPE_CHECKING:  # a property here would be the default of the fields

        @property
        def safety(self) -> Safety:
            """What loading the sources with torch or pickle would import and call."""

    def alerts(self) -> tuple[str, ...]:
        """Warn of a source that is not clean.

        Returns:
            A line, or none.
        """
        warning = self.safety.warning()
        return () if warning is None else (warning,)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data.

        Returns:
            The fields; ``safety`` is the rating alone.
        """
        return {**super().to_dict(), "safety": self.safety.rating}


_Error = TypeVar("_Error", bound=Sam21ConvertError)


def with_harm(error: _Error, path: Path) -> _Error:
    """Add to an error what the file would do if something else loaded it.

    Args:
        error: Why the file is refused, or does not do for what was asked.
        path: The file or folder.

    Returns:
        The same error. Nothing is added if nothing is known against the file, or it is said
        already.
    """
    try:
        found = assess(path)
        is_text = path.is_file() and not _begins_like_a_checkpoint(path)
    except (OSError, Sam21ConvertError):
        return error
    worst = found.dangerous or (() if is_text else found.unknown_calls)
    if not worst or str(worst[0]) in error.message:
        return error
    can = "it can do harm" if found.dangerous else "it runs what is not known to be safe"
    more = f", and {len(worst) - 1} more such names" if len(worst) > 1 else ""
    first, *lines = error.message.split("\n")  # a list of tensors may follow the sentence
    named = "" if str(path) in first else f"{path}, "
    first = f"{first}; {named}loaded with torch or pickle {can}: {worst[0]}{more}"
    error.message = "\n".join([first, *lines])
    error.args = (error.message,)
    if found.dangerous:
        # What is refused is not read at all; any other file can be, as the hint says.
        refused = isinstance(error, (RefusedError, UnreadableError))
        error.hint = WARN if refused or not error.hint else f"{error.hint}; {WARN}"
    return error


@contextmanager
def naming_harm(*paths: Path) -> Iterator[None]:
    """Let every error about files that are open say what they would do if something loaded them.

    Args:
        *paths: The files or folders.

    Yields:
        Nothing.

    Raises:
        Sam21ConvertError: What is raised within, with what :func:`with_harm` adds.
    """
    try:
        yield
    except Sam21ConvertError as error:
        for path in paths:
            with_harm(error, path)
        raise


def _begins_like_a_checkpoint(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (b"PK", *(b"\x80" + bytes([protocol]) for protocol in range(6)))


def _rated(entry: str, found: GlobalReference, allow: Collection[str]) -> Global:
    full = ".".join(part[:_LONGEST] for part in (found.module, found.name) if part)
    rating = rate(found.module, found.name)
    if full in allow and not does_harm(found.module, found.name):
        rating = "harmless"
    if found.changed or found.computed:
        # A changed one decides what other code finds under the name, however harmless that is.
        rating = "dangerous"
    return Global(
        full if full.isprintable() else ascii(full)[1:-1],
        entry,
        found.offset,
        found.called,
        found.changed,
        found.count,
        rating,
        in_words(found.module, found.name) if found.called and rating != "harmless" else None,
        tuple(found.arguments),
        found.calls,
    )
