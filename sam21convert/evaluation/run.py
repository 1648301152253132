"""Carry out an evaluation: choose the workers, and have all videos done that are not done yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .._version import __version__
from ..io.output.atomic import new_folder
from ..io.output.staging import recover
from ..io.output.temporary import temporary_folder
from ..report import Progress
from .amounts import amount_of, longest_first
from .datasets import Dataset, Video
from .driver import Alone, Crew, drive
from .journal import Journal, Unwritten, open_journal
from .processes import Processes
from .rows import Row
from .task import Task, working_on


def carry_out(
    task: Task,
    videos: Sequence[Video],
    *,
    jobs: int | None,
    ray: str | None,
    record: Callable[[Row], None],
    progress: Progress,
) -> None:
    """Have videos evaluated.

    Args:
        task: What is asked.
        videos: The videos.
        jobs: How many at a time; None for as many as there are devices.
        ray: The address of a Ray cluster; None for this machine.
        record: Receives the row of each video when it comes.
        progress: Told of frames and videos.

    Raises:
        Sam21ConvertError: If no video can be evaluated, as a checkpoint cannot be loaded.
        OSError: If the disk is full.
    """
    if not videos:
        return
    amounts = [amount_of(video, task.layout) for video in videos]
    sides = len(task.checkpoints)
    frames = {
        video.name: sides * amount.tracked for video, amount in zip(videos, amounts, strict=True)
    }
    with _crew(task, jobs, ray, len(videos), progress) as crew:
        try:
            drive(crew, longest_first(videos, amounts), frames, record, progress)
        finally:
            _sweep(task, videos)


@contextmanager
def _crew(
    task: Task, jobs: int | None, ray: str | None, most: int, progress: Progress
) -> Iterator[Crew]:
    """Those who work."""
    if ray is not None:
        from .cluster import Cluster, connected

        progress.start(f"connecting to {ray}", 0)
        with connected(ray):
            yield Cluster(task, jobs)
        return
    size = min(jobs or 1, most)
    if size == 1:
        yield Alone(working_on(task, progress))
        return
    with temporary_folder() as scratch:
        yield Processes(task, size, scratch)


@contextmanager
def in_place(
    dataset: Dataset, task: Task, report: Path | None, *, overwrite: bool
) -> Iterator[tuple[Task, Journal | Unwritten]]:
    """Prepare the folders that an evaluation writes.

    Args:
        dataset: The data set.
        task: The task.
        report: The folder of the journal; None for none.
        overwrite: Whether the folders may exist.

    Yields:
        The task with the folder that masks are put into: with a journal that is the one asked for,
        as what is done is there to stay, and else one that takes its place when all is done. And
        the journal, or what takes its place.
    """
    if report is not None:
        with ExitStack() as stack:
            opened = open_journal(report, key_of(dataset, task), overwrite=overwrite)
            journal = stack.enter_context(opened)
            if task.masks is not None:
                stack.enter_context(_folder(task.masks))
                for name in [*journal.rows]:  # whose masks may have been taken away
                    if not all(place.is_dir() for place in task.places(name)):
                        del journal.rows[name]
            yield task, journal
    elif task.masks is not None:
        with new_folder(task.masks, overwrite=overwrite) as staging:
            yield replace(task, masks=staging), Unwritten()
    else:
        yield task, Unwritten()


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Have a folder; one that was made for it goes again if nothing is put into it."""
    made = not path.exists()
    path.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if made:
            with suppress(OSError):  # it is not empty
                path.rmdir()


def _sweep(task: Task, videos: Sequence[Video]) -> None:
    """Remove what workers that were killed have left of masks."""
    for video in videos:
        for place in task.places(video.name):
            with suppress(OSError):
                recover(place)


def key_of(dataset: Dataset, task: Task) -> dict[str, Any]:
    """What rows depend on, so that those of one run are those of another.

    Args:
        dataset: The data set.
        task: The task.

    Returns:
        Names, as messages have them, and what JSON can hold.
    """
    return {
        "version": __version__,
        "data": str(dataset.root.resolve()),
        "layout": task.layout,
        "protocol": task.rules,
        "scored": task.scored,
        "checkpoints": [sorted(one.sha256.values()) for one in task.checkpoints],
        "configs": [None if one.config is None else asdict(one.config) for one in task.checkpoints],
        "image_size": task.image_size,
        "device": task.device,
        "dtype": task.dtype,
        "backends": [one.backend for one in task.checkpoints],
        "masks": None if task.masks is None else str(task.masks.resolve()),
    }
