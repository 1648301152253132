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
from ..config.registry import shipped_like
from ..errors import MismatchError
from ..hub.resolve import Located, resolve
from ..io.data.checksums import sha256
from ..io.output.atomic import new_folder
from ..io.output.temporary import temporary_folder
from ..io.tensor import DType
from ..prediction.devices import pick_device
from ..report import SILENT, Progress
from .datasets import Layout, Video
from .masks import Masks
from .names import Backend, Protocol
from .paired import differing
from .protocols import ObjectScore, score_video
from .rows import Failure, Row
from .trackers.named import named

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
        asked: The config that was given for it; None for its own.
        backend: The package that runs it.
    """

    located: Located
    path: Path
    sha256: Mapping[str, str]
    config: ModelConfig | None
    asked: ModelConfig | None = None
    backend: Backend = "truth"

    @classmethod
    def by(cls, located: Located, config: ModelConfig | None, backend: Backend) -> Given:
        """Look at a checkpoint.

        Args:
            located: Where it is.
            config: The config that is given for it; None for its own.
            backend: The package that runs it.

        Returns:
            The checkpoint, with the hashes of its files.

        Raises:
            Sam21ConvertError: As :func:`~sam21convert.checkpoint.open.open_checkpoint` does.
        """
        opened = open_checkpoint(located, config)
        source = opened.source
        hashes = {str(path): sha256(path) for path in source.files}
        return cls(located, source.path, hashes, opened.model_config, config, backend)

    @property
    def model(self) -> str | None:
        """The name of the shipped config with its tensors; None if there is none."""
        shipped = None if self.config is None else shipped_like(self.config)
        return None if shipped is None else shipped.name

    @property
    def image_size(self) -> int | None:
        """Side of its input in pixels; None if no config is known."""
        return None if self.config is None else self.config.image_size

    def open(self) -> Checkpoint:
        """Open it where it is used.

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
        return open_checkpoint(self.located, self.asked)


@dataclass(frozen=True)
class Task:
    """What is asked of each video, wherever that is done; it can be pickled.

    Attributes:
        layout: The layout of the data set.
        rules: The rules of the score.
        checkpoints: One, or two to compare; none to score masks that are there.
        masks: Where the masks of each video go, or are: in a folder of its name, and with two
            checkpoints of each in a folder of :data:`FIRST` and :data:`SECOND`. None keeps none.
        pictures: Where pictures of the worst frame of each video go, in a folder of its name; None
            makes none.
        scored: Whether masks are scored.
        image_size: Side of the model's input in pixels; None for what its config says.
        device: The device of the model, as torch names it, or ``"auto"``.
        dtype: The type to compute in; other than float32, by autocast.
    """

    layout: Layout
    rules: Protocol
    checkpoints: tuple[Given, ...] = ()
    masks: Path | None = None
    pictures: Path | None = None
    scored: bool = True
    image_size: int | None = None
    device: str = "auto"
    dtype: DType = "float32"

    def by(
        self,
        sources: Sequence[tuple[str | Path, ModelConfig | None]],
        backend: Backend = "truth",
        progress: Progress = SILENT,
    ) -> Task:
        """The same task for checkpoints.

        Args:
            sources: One or two, as :func:`~sam21convert.load_model` takes them or with a backend
                before it, each with its config; None for its own.
            backend: What runs those that name none.
            progress: Told of each.

        Returns:
            The task, which holds the hashes of their files.

        Raises:
            Sam21ConvertError: As :func:`~sam21convert.checkpoint.open.open_checkpoint` does.
        """
        given = []
        for source, config in sources:
            progress.start(f"reading {source}", 0)
            who, where = named(source, backend)
            given.append(Given.by(resolve(where), config, who))
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
    import torch

    from ..prediction.arithmetic import Arithmetic
    from .track import computes_on, track
    from .trackers.base import Wanted
    from .trackers.named import TRACKERS

    device = pick_device(task.device)
    arithmetic = Arithmetic(device, task.dtype)
    trackers = []
    for one in task.checkpoints:
        progress.start(f"loading {one.path}", 0)
        where = task.device if one.backend == "onnx" else device  # which runs on the CPU alone
        wanted = Wanted(one.open(), task.image_size, where, task.dtype)
        trackers.append(TRACKERS[one.backend](wanted))

    def evaluated(video: Video, progress: Progress) -> Row:
        with _places(task, video) as folders:
            for tracker, folder in zip(trackers, folders, strict=True):
                with arithmetic.in_force():
                    track(tracker, video, task.layout, folder, progress)
            return replace(_scored(task, video, folders), device=tracked_on)

    tracked_on = computes_on(torch.device(device))
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
    if task.pictures is not None:
        from .worst import draw_worst

        draw_worst(video, scores, folders, task.pictures / video.name)
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
