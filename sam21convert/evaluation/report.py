"""The answer of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..report import BLANK, Line, Part, Report, Table, heading, labelled, one_line, table
from .datasets import Layout
from .names import Protocol
from .paired import Paired
from .protocols import ObjectScore, total

_SHOWN = 5  # of the objects, those with the lowest J&F
_TITLES = {
    "v": "V",
    "classic_f": "F with the usual width",
    "disappear_jf": "J&F while gone",
    "reappear_jf": "J&F after coming back",
}


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
        videos: Number of videos that were tracked or scored.
        objects: Number of objects that count.
        frames: Number of frames that count, each once for every object.
        j: J in percent: see :func:`~sam21convert.evaluation.protocols.total`. None if nothing could
            be scored, as the true masks are not public.
        f: F in percent, or None.
        jf: J&F in percent, or None.
        per_object: The scores of the objects.
        notes: What the figures depend on.
        against: The second checkpoint, if there is one.
        paired: How the second differs from the first on the same objects.

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
    against: Evaluation | None = None
    paired: Paired | None = None

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
        }

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            The result, and the objects with the lowest J&F; the same of the second checkpoint, and
            how the two differ.
        """
        if self.against is None or self.paired is None:
            return [*self._alone()]
        return [
            *self._alone(),
            BLANK,
            *self.against._alone(),
            BLANK,
            Line(("second less first:",)),
            *self.paired.shown(),
        ]

    def _alone(self) -> list[Part]:
        notes = [labelled("note", note) for note in self.notes]
        facts = [
            ("tracked by" if self.checkpoint else "scored", str(self.checkpoint or self.masks)),
            *([("masks", str(self.masks))] if self.checkpoint and self.masks else []),
            ("data", f"{self.data} (layout {self.layout})"),
        ]
        if self.jf is None:
            return [table(facts), *notes]
        facts += [
            (
                "rules",
                f"{self.protocol}: {_counted(self.videos, 'video')}, "
                f"{_counted(self.objects, 'object')}, {_counted(self.frames, 'frame')} of objects",
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


def summed_up(
    data: Path,
    layout: Layout,
    protocol: Protocol,
    scores: Sequence[ObjectScore],
    *,
    videos: int,
    checkpoint: Path | None = None,
    sha256: dict[str, str] | None = None,
    masks: Path | None = None,
    notes: Iterable[str] = (),
) -> Evaluation:
    """Make the report of the scores of all objects.

    Args:
        data: The data set.
        layout: Its layout.
        protocol: The rules.
        scores: The scores of the objects; none if nothing could be scored.
        videos: As for :class:`Evaluation`.
        checkpoint: As for :class:`Evaluation`.
        sha256: As for :class:`Evaluation`.
        masks: As for :class:`Evaluation`.
        notes: As for :class:`Evaluation`.

    Returns:
        The report.
    """
    j, f, jf = total(protocol, scores) if scores else (None, None, None)
    return Evaluation(
        data=data,
        layout=layout,
        protocol=protocol,
        checkpoint=checkpoint,
        sha256=sha256 or {},
        masks=masks,
        videos=videos,
        objects=len(scores),
        frames=sum(one.frames for one in scores),
        j=j,
        f=f,
        jf=jf,
        per_object=tuple(scores),
        notes=tuple(notes),
    )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
