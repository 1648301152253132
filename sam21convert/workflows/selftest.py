"""A test of this installation against what is published: download, convert, compare the bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..conversion.api import convert
from ..errors import MismatchError, UsageError, did_you_mean, nearest
from ..hub import published
from ..hub.published import Published, Twin
from ..hub.resolve import resolve, verify
from ..hub.spelling import published_named, spelt
from ..io.output.temporary import temporary_folder
from ..report import SILENT, Part, Progress, Report, Table, Tone, Toned, one_line


@dataclass(frozen=True)
class Compared:
    """One conversion of a published checkpoint.

    Attributes:
        name: The name of the checkpoint.
        twin: The published file that it is compared with.
        ok: Whether the conversion gives its bytes; None where it need not, and does not.
        fault: What is wrong.
        seconds: How long it took, without the download.
    """

    name: str
    twin: Twin
    ok: bool | None
    fault: str | None
    seconds: float

    def __str__(self) -> str:
        if self.ok:
            return f"identical to {self.twin}"
        return one_line(self.fault or f"not identical to {self.twin}, which others have written")


@dataclass(frozen=True)
class SelfTest(Report, schema="selftest/1"):
    """The answer of :func:`selftest`.

    Attributes:
        compared: The conversions, in the order of the names.
    """

    compared: tuple[Compared, ...]

    @property
    def exit_code(self) -> int:
        """1 if a conversion gives other bytes than it must."""
        return int(any(one.ok is False for one in self.compared))

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, each conversion as a dict.
        """
        return {"compared": [asdict(one) for one in self.compared]}

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A row for each conversion.
        """
        tones: dict[bool | None, Tone] = {True: "good", False: "bad", None: "note"}
        rows = [
            (one.name, f"{one.seconds:.1f} s", Toned(str(one), tones[one.ok]))
            for one in self.compared
        ]
        return [Table(tuple(rows), right=(1,))]


def selftest(names: Sequence[str] = (), *, progress: Progress = SILENT) -> SelfTest:
    """Convert published checkpoints, and compare with what is published of them in other forms.

    Args:
        names: Names of published checkpoints; empty means all whose conversion is known to the
            byte. Each is downloaded to the cache, if it is not there, and its SHA-256 is checked.
        progress: Told of each step.

    Returns:
        The comparisons.

    Raises:
        UsageError: If a name is none of a published checkpoint, or there is nothing published to
            compare with.
        UnreadableError: If a checkpoint cannot be downloaded or has the wrong hash.
    """
    chosen = [_named(name) for name in names] or [
        known for known in published.PUBLISHED if any(twin.binding for twin in known.twins)
    ]
    compared: list[Compared] = []
    for known in chosen:
        compared += _compared(known, progress)
    return SelfTest(tuple(compared))


def _named(name: str) -> Published:
    comparable = [known.name for known in published.PUBLISHED if known.twins]
    taken = spelt(name)
    known = None if taken is None else published_named(taken)
    on_hub = {f"hf://{one.repo}": one for one in published.PUBLISHED}
    known = known or on_hub.get(taken or "")
    if known is not None and known.twins:
        return known
    one_of = f"one of {', '.join(comparable)}"
    raise UsageError(
        f"{name}: expected a published checkpoint of which another form is known",
        hint=did_you_mean([] if known else nearest(name, comparable), one_of),
    )


def _compared(known: Published, progress: Progress) -> Iterator[Compared]:
    located = resolve(known.name)
    progress.start(f"checking {known.name}", 0)
    verify(located)
    for twin in known.twins:
        start = time.perf_counter()
        ok: bool | None = None
        fault = None
        with temporary_folder() as scratch:
            target = scratch / ("model" if twin.dialect == "hf-video" else twin.file)
            try:
                done = convert(located.path, target, to=twin.dialect, progress=progress)
                ok = done.identical_to == twin or None
            except MismatchError as error:
                ok, fault = False, error.message
        yield Compared(known.name, twin, ok, fault, round(time.perf_counter() - start, 2))
