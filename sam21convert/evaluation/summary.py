"""The report of a data set, summed up from what was found of each video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import UsageError
from .paired import compare
from .protocols import total
from .report import Evaluation, FailedVideo
from .rows import Row
from .task import Task
from .trackers.named import known_of


def summed_up(
    data: Path,
    task: Task,
    rows: Sequence[Row],
    *,
    masks: Path | None,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Make the report of what was found of each video.

    Args:
        data: The data set.
        task: What was asked.
        rows: What was found, in the order of the data set.
        masks: The folder of the masks; None if they were not kept.
        notes: What the figures depend on.

    Returns:
        The report, the same whoever has evaluated the videos, and in whatever order.

    Raises:
        Sam21ConvertError: That of the first video, if none could be evaluated.
        UsageError: If no object counts.
    """
    failures = [(row.video, row.failure) for row in rows if row.failure is not None]
    done = [row for row in rows if row.failure is None]
    if failures and not done:
        raise failures[0][1].error()
    failed = tuple(FailedVideo(video, why.reason, why.hint) for video, why in failures)
    first, *others = (
        _of_one(data, task, at, done, masks and masks / inner, notes, failed)
        for at, inner in enumerate(task.inner)
    )
    if not others:
        return first
    pixels, of_pixels = sum(row.pixels for row in done), sum(row.of_pixels for row in done)
    paired = compare(first.per_object, others[0].per_object, pixels, of_pixels)
    return replace(first, against=others[0], paired=paired)


def _of_one(
    data: Path,
    task: Task,
    at: int,
    rows: Sequence[Row],
    masks: Path | None,
    notes: Sequence[str],
    failed: tuple[FailedVideo, ...],
) -> Evaluation:
    """The report of one checkpoint, or of masks."""
    scores = [one for row in rows if task.scored for one in row.scores[at]]
    if task.scored and not scores:
        raise UsageError(f"{data}: no object counts in the chosen videos")
    j, f, jf = total(task.rules, scores) if scores else (None, None, None)
    given = task.checkpoints[at] if task.checkpoints else None
    return Evaluation(
        data=data,
        layout=task.layout,
        protocol=task.rules,
        checkpoint=None if given is None else given.path,
        sha256={} if given is None else dict(given.sha256),
        masks=masks,
        videos=len(rows),
        objects=len(scores),
        frames=sum(one.frames for one in scores),
        j=j,
        f=f,
        jf=jf,
        per_object=tuple(scores),
        notes=(*notes, *([] if given is None else known_of(given.backend, task.dtype))),
        tracked_on=tuple(sorted({row.device for row in rows} - {""})),
        failed=failed,
        model=None if given is None else given.model,
        image_size=None if given is None else task.image_size or given.image_size,
        backend=None if given is None else given.backend,
        dtype=None if given is None else task.dtype,
    )
