"""The answer of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..report import BLANK, Line, Part, Report, Table, counted, heading, labelled, one_line, table
from .datasets import Layout
from .figures import Expected
from .names import Protocol
from .paired import Paired
from .protocols import ObjectScore

_SHOWN = 5  # of the objects, those with the lowest J&F
_TITLES = {
    "v": "V",
    "classic_f": "F with the usual width",
    "disappear_jf": "J&F while gone",
    "reappear_jf": "J&F after coming back",
}


@dataclass(frozen=True)
class FailedVideo(Report):
    """A video that could not be evaluated.

    Attributes:
        video: Its name.
        reason: Why, in one sentence.
        hint: What to do; None if nothing is known to help.
    """

    video: str
    reason: str
    hint: str | None


@dataclass(frozen=True)
class Evaluation(Report, schema="evaluate/1"):
    """The answer of :func:`~sam21convert.evaluate` and :func:`~sam21convert.score`.

    Attributes:
        data: The data set.
        layout: How its files are arranged: ``davis``, ``sav``, ``lvos``, ``youtube`` or ``mose``.
        protocol: The rules of the score: ``davis``, ``sav``, ``lvos`` or ``mosev2``.
        checkpoint: The checkpoint that has tracked the objects; None if masks were scored.
        sha256: The SHA-256 of each of its files.
        masks: The folder of the scored masks; None if they were not kept.
        videos: Number of videos that were tracked or scored; those that failed are not among them.
        objects: Number of objects that count.
        frames: Number of frames that count, each once for every object.
        j: J in percent: see :func:`~sam21convert.evaluation.protocols.total`. None if nothing could
            be scored, as the true masks are not public.
        f: F in percent, or None.
        jf: J&F in percent, or None.
        per_object: The scores of the objects.
        notes: What the figures depend on.
        against: The second checkpoint, if there is one.
        tracked_on: The devices, such as ``cpu, 2 threads``: the last bits depend on them.
        paired: How the second differs from the first on the same objects.
        failed: The videos that could not be evaluated; all figures are of the others.
        model: The shipped config with the architecture and generation of the checkpoint, such as
            ``sam2.1/sam2.1_hiera_t``; None if there is none, or masks were scored.
        image_size: Side of the model's input in pixels, or None.
        backend: The package that ran the model, or None.
        dtype: The type that it computed in, or None.
        expected: How far J&F is from the published figure, if that was asked.

    Example:
        >>> found = sam21convert.score("masks", "DATA")
        >>> found.protocol, found.objects, round(found.jf, 1)
        ('davis', 1, 100.0)
    """

    data: Path
    layout: Layout
    protocol: Protocol
    checkpoint: Path | None
    sha256: dict[str, str]
    masks: Path | None
    videos: int
    objects: int
    frames: int
    j: float | None
    f: float | None
    jf: float | None
    per_object: tuple[ObjectScore, ...]
    notes: tuple[str, ...]
    tracked_on: tuple[str, ...] = ()
    against: Evaluation | None = None
    paired: Paired | None = None
    failed: tuple[FailedVideo, ...] = ()
    model: str | None = None
    image_size: int | None = None
    backend: str | None = None
    dtype: str | None = None
    expected: Expected | None = None

    @property
    def exit_code(self) -> int:
        """1 when a video failed, or a score is lower than expected."""
        below = self.expected is not None and not self.expected.ok
        other = 0 if self.against is None else self.against.exit_code
        return max(int(below or bool(self.failed)), other)

    @property
    def run_by(self) -> str:
        """What stands before the name of the checkpoint if another package has run it."""
        return "" if self.backend in (None, "truth") else f"{self.backend}:"

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, the score of each object as a dict.
        """
        return {
            **super().to_dict(),
            "per_object": [one.to_dict() for one in self.per_object],
            "against": None if self.against is None else self.against.to_dict(),
            "paired": None if self.paired is None else self.paired.to_dict(),
            "failed": [one.to_dict() for one in self.failed],
            "expected": None if self.expected is None else self.expected.to_dict(),
        }

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            The result, and the objects with the lowest J&F; the same of the second checkpoint, and
            how the two differ; and the videos that failed.
        """
        parts = self._alone()
        if self.against is not None and self.paired is not None:
            parts += [BLANK, *self.against._alone(), BLANK]
            parts += [Line(("second less first:",)), *self.paired.shown()]
        if self.failed:
            parts.append(BLANK)
        for one in self.failed:
            parts.append(labelled("failed", f"{one.video}: {one.reason}"))
            parts += [] if one.hint is None else [labelled("hint", one.hint, 2)]
        return parts

    def _alone(self) -> list[Part]:
        notes: list[Part] = [labelled("note", note) for note in self.notes]
        if self.expected is not None:
            notes += self.expected.shown()
        facts = [
            (
                "tracked by" if self.checkpoint else "scored",
                f"{self.run_by}{self.checkpoint or self.masks}",
            ),
            *([("masks", str(self.masks))] if self.checkpoint and self.masks else []),
            *([("on", "; ".join(self.tracked_on))] if self.tracked_on else []),
            ("data", f"{self.data} (layout {self.layout})"),
        ]
        if self.jf is None:
            return [table(facts), *notes]
        facts += [
            (
                "rules",
                f"{self.protocol}: {counted(self.videos, 'video')}, "
                f"{counted(self.objects, 'object')}, {counted(self.frames, 'frame')} of objects",
            ),
            ("J&F", f"{self.jf:.1f}   J {self.j:.1f}   F {self.f:.1f}"),
            *((_TITLES[name], f"{value:.1f}") for name, value in self._more()),
        ]
        lowest = sorted(self.per_object, key=lambda one: one.jf)[:_SHOWN]
        rows = [
            (
                one_line(one.video),
                one_line(one.object),
                f"{one.jf:.1f}",
                f"{one.j:.1f}",
                f"{one.f:.1f}",
                f"{one.frames}",
            )
            for one in lowest
        ]
        names = heading(["lowest", "object", "J&F", "J", "F", "frames"])
        lowest_rows = Table((names, *rows), gives=0, right=(2, 3, 4, 5))
        return [table(facts), BLANK, lowest_rows, *notes]

    def _more(self) -> Iterator[tuple[str, float]]:
        """Means of what the protocol measures besides."""
        for name in _TITLES:
            values = [one.more[name] for one in self.per_object if one.more.get(name) is not None]
            if values:
                yield name, float(np.mean([value for value in values if value is not None]))
