"""The work on one video: its objects are tracked with each checkpoint, and the masks scored."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoint.open import Checkpoint, open_checkpoint
from ..errors import MismatchError
from ..hub.resolve import Located, resolve
from ..io.data.checksums import sha256
from ..io.output.atomic import new_folder
from ..io.output.temporary import temporary_folder
from ..report import SILENT, Progress
from .datasets import Layout, Video
from .masks import Masks
from .names import Protocol
from .paired import differing
from .protocols import ObjectScore, score_video
from .rows import Failure, Row

if TYPE_CHECKING:
    from ..model.config import ModelConfig

# What the system lacks for one video it lacks for all.
_ENDING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE)
FIRST, SECOND = "first", "second"  # folders for the masks of two checkpoints


@dataclass(frozen=True)
class Given:
    """A checkpoint that tracks.

    Attributes:
        located: Where it is.
        path: The opened file or folder, as reports name it.
        sha256: The SHA-256 of each of its files.
        config: The config of the model; None if nothing tells it.
    """

    located: Located
    path: Path
    sha256: Mapping[str, str]
    config: ModelConfig | None

    @classmethod
    def by(cls, located: Located, config: ModelConfig | None) -> Given:
        """Look at a checkpoint.

        Args:
            located: Where it is.
            config: As for :class:`Task`.

        Returns:
            The checkpoint, with the hashes of its files.

        Raises:
            Sam21ConvertError: As :func:`~sam21convert.checkpoint.open.open_checkpoint` does.
        """
        opened = open_checkpoint(located, config)
        source = opened.source
        hashes = {str(path): sha256(path) for path in source.files}
        return cls(located, source.path, hashes, opened.model_config)

    def open(self, config: ModelConfig | None) -> Checkpoint:
        """Open it where it is used.

        Args:
            config: As for :class:`Task`.

        Returns:
            The opened checkpoint.

        Raises:
            MismatchError: If it is not the one that was looked at.
            Sam21ConvertError: As :func:`~sam21convert.checkpoint.open.open_checkpoint` does.
        """
        for path, expected in self.sha256.items():
            if (found := sha256(Path(path))) != expected:
                raise MismatchError(
                    f"{path}: expected the SHA-256 {expected[:12]}... with which the evaluation "
                    f"began, found {found[:12]}..."
                )
        return open_checkpoint(self.located, config)


@dataclass(frozen=True)
class Task:
    """What is asked of each video, wherever that is done; it can be pickled.

    Attributes:
        layout: The layout of the data set.
        rules: The rules of the score.
        checkpoints: One, or two to compare; none to score masks that are there.
        masks: Where the masks of each video go, or are: in a folder of its name, and with two
            checkpoints of each in a folder of :data:`FIRST` and :data:`SECOND`. None keeps none.
        scored: Whether masks are scored.
        config: The config of the checkpoints; None for their own.
        image_size: Side of the model's input in pixels; None for what its config says.
        device: The device of the model, as torch names it, or ``"auto"``.
    """

    layout: Layout
    rules: Protocol
    checkpoints: tuple[Given, ...] = ()
    masks: Path | None = None
    scored: bool = True
    config: ModelConfig | None = None
    image_size: int | None = None
    device: str = "auto"

    def by(self, sources: Sequence[str | Path], progress: Progress = SILENT) -> Task:
        """The same task for checkpoints.

        Args:
            sources: One or two, as :func:`~sam21convert.load_model` takes them.
            progress: Told of each.

        Returns:
            The task, which holds the hashes of their files.

        Raises:
            Sam21ConvertError: As :func:`~sam21convert.checkpoint.open.open_checkpoint` does.
        """
        given = []
        for source in sources:
            progress.start(f"reading {source}", 0)
            given.append(Given.by(resolve(source), self.config))
        return replace(self, checkpoints=tuple(given))

    @property
    def inner(self) -> tuple[str, ...]:
        """The folder within :attr:`masks` for each checkpoint."""
        return (FIRST, SECOND) if len(self.checkpoints) == 2 else ("",)

    def places(self, video: str) -> list[Path]:
        """The folders of the masks of a video.

        Args:
            video: Its name.

        Returns:
            One for each checkpoint; none if masks are not kept.
        """
        return [] if self.masks is None else [self.masks / inner / video for inner in self.inner]


Work = Callable[[Video, Progress], Row]


def working_on(task: Task, progress: Progress = SILENT) -> Work:
    """Load the checkpoints of a task.

    Args:
        task: The task.
        progress: Told of each checkpoint.

    Returns:
        The work on one video, which tells a :class:`~sam21convert.report.Progress` of the frames.
        A video that cannot be evaluated gives a row that says why.

    Raises:
        Sam21ConvertError: For a checkpoint, as :func:`~sam21convert.load_model` does, and if it is
            not the one that the task names.
    """
    if not task.checkpoints:
        return _reporting(lambda video, _: _scored(task, video, task.places(video.name)))
    from .track import computes_on, predictor_of, track

    predictors = []
    for one in task.checkpoints:
        progress.start(f"loading {one.path}", 0)
        predictors.append(predictor_of(one.open(task.config), task.image_size, task.device))

    def evaluated(video: Video, progress: Progress) -> Row:
        with _places(task, video) as folders:
            for predictor, folder in zip(predictors, folders, strict=True):
                track(predictor, video, task.layout, folder, progress)
            return replace(_scored(task, video, folders), device=device)

    device = computes_on(predictors[0])
    return _reporting(evaluated)


def _reporting(work: Work) -> Work:
    """The same work; why it cannot be done is a row too, but what would stop all videos."""

    def done(video: Video, progress: Progress) -> Row:
        start = time.monotonic()
        try:
            row = work(video, progress)
            return replace(row, seconds=time.monotonic() - start)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _ENDING:
                raise
            return Row(video.name, failure=Failure.of(error, video.name))

    return done


def _scored(task: Task, video: Video, folders: list[Path]) -> Row:
    """Score the masks in each folder, and compare those of two."""
    scores: list[tuple[ObjectScore, ...]] = []
    for folder in folders if task.scored else ():
        scores.append(tuple(score_video(task.rules, video, Masks(video.truth), Masks(folder))))
    pixels, of_pixels = differing(video, *folders) if len(folders) == 2 else (0, 0)
    return Row(video.name, tuple(scores), pixels, of_pixels)


@contextmanager
def _places(task: Task, video: Video) -> Iterator[list[Path]]:
    """An empty folder for the masks of each checkpoint; all appear at the end, or none."""
    with ExitStack() as stack:
        if task.masks is None:
            home = stack.enter_context(temporary_folder())
            folders = [home / (inner or "masks") for inner in task.inner]
            for folder in folders:
                folder.mkdir()
            yield folders
            return
        folders = []
        for place in task.places(video.name):
            place.parent.mkdir(parents=True, exist_ok=True)
            folders.append(stack.enter_context(new_folder(place, overwrite=True)))
        yield folders
