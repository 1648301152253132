"""The loop that hands out videos, one at a time to each worker, and gathers what they find.

Workers are anything that does videos: this process, others on this machine, or actors on a cluster.
They may be lost at any moment, with the video that they had; no worker tries anything again by
itself. Only this loop does, so that each video is evaluated once, or is known to have failed.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import RefusedError
from ..report import Progress
from .datasets import Video
from .rows import Failure, Row
from .task import Work

TRIES = 3  # with a video, and in a row with workers that do not start
_PATIENCE = 600.0  # seconds in which a worker loads its checkpoint
_TICK = 1.0  # seconds


@dataclass(frozen=True)
class Ready:
    """The first answer of a worker: it has loaded its checkpoints."""


@dataclass(frozen=True)
class Frames:
    """A worker has tracked more of its video.

    Attributes:
        count: Number of frames, each once for every object that is tracked by itself.
    """

    count: int


@dataclass(frozen=True)
class Done:
    """A worker is done with its video.

    Attributes:
        row: What it found.
    """

    row: Row


@dataclass(frozen=True)
class Lost:
    """A worker is gone, and answers nothing more.

    Attributes:
        reason: Such as ``was killed by SIGKILL``.
        hint: What to do if it happens again; None if nothing is known to help.
    """

    reason: str
    hint: str | None = None


@dataclass(frozen=True)
class Refused:
    """A worker cannot go on, and nor could another.

    Attributes:
        error: Why: the checkpoint cannot be loaded, or the disk is full.
    """

    error: Exception


Answer = Ready | Frames | Done | Lost | Refused


class Worker(Protocol):
    """One that does a video at a time."""

    def submit(self, video: Video) -> None:
        """Hand it a video; it has none at this time. If it is gone, its next answer says so.

        Args:
            video: The video.
        """

    def end(self) -> None:
        """End it at once, whatever it does; if it is gone, do nothing."""


Heard = Callable[[Worker, Answer], None]


class Crew(Protocol):
    """Where workers come from.

    Attributes:
        size: How many can work at a time.
    """

    size: int

    def hire(self) -> Worker:
        """Begin to start a worker, without waiting for it.

        Returns:
            The worker.
        """

    def wait(self, workers: Collection[Worker], seconds: float, heard: Heard) -> None:
        """Wait for an answer of any worker, for some time, and pass on all that there are.

        Args:
            workers: Those to listen to.
            seconds: How long to wait at most.
            heard: Receives each worker and its answer.
        """

    def end(self) -> None:
        """End all workers that were ever hired, at once."""


def drive(
    crew: Crew,
    videos: Sequence[Video],
    amounts: Mapping[str, int],
    record: Callable[[Row], None],
    progress: Progress,
    patience: float = _PATIENCE,
) -> None:
    """Have videos evaluated.

    Args:
        crew: Where workers come from. All that were started are ended, however this ends.
        videos: The videos, in the order in which they are begun.
        amounts: By name, how many frames each has to track.
        record: Receives the row of each video when it comes.
        progress: Told of frames, and of videos, speed and time left in words.
        patience: Seconds to wait for the first answer of a worker while no other works.

    Raises:
        Exception: What a worker cannot go on for.
        RefusedError: If no worker can be started.
    """
    run = _Run(crew, videos, _Meter(progress, amounts), record, patience)
    try:
        run.all()
    finally:
        crew.end()


class _Run:
    """The state of the loop."""

    def __init__(
        self,
        crew: Crew,
        videos: Sequence[Video],
        meter: _Meter,
        record: Callable[[Row], None],
        patience: float,
    ) -> None:
        self.crew, self.meter, self.record, self.patience = crew, meter, record, patience
        self.waiting = deque(videos)
        self.tries: Counter[str] = Counter()
        self.starting: list[Worker] = []  # not trusted yet: they may never answer
        self.idle: list[Worker] = []
        self.busy: dict[Worker, Video] = {}
        self.unstarted = 0  # workers in a row that were lost before their first answer
        self.since = time.monotonic()  # of the last answer

    def workers(self) -> list[Worker]:
        return [*self.starting, *self.idle, *self.busy]

    def all(self) -> None:
        while self.waiting or self.busy:
            self._hire()
            while self.idle and self.waiting:
                worker, video = self.idle.pop(), self.waiting.popleft()
                self.busy[worker] = video
                worker.submit(video)
            self.crew.wait(self.workers(), _TICK, self._heard)
            if self.busy or self.idle:
                self.since = time.monotonic()
            elif time.monotonic() - self.since > self.patience:
                raise RefusedError(
                    f"no worker was ready within {self.patience:.0f} seconds",
                    hint="look whether there is a device that is free",
                )

    def _hire(self) -> None:
        wanted = min(self.crew.size, len(self.waiting) + len(self.busy))
        while len(self.workers()) < wanted and self.unstarted < TRIES:
            self.starting.append(self.crew.hire())

    def _heard(self, worker: Worker, answer: Answer) -> None:
        self.since = time.monotonic()
        if isinstance(answer, Refused):
            raise answer.error
        if isinstance(answer, Lost):
            self._lost(worker, answer)
        elif isinstance(answer, Ready):
            self.unstarted = 0
            self.starting.remove(worker)
            self.idle.append(worker)
        elif isinstance(answer, Frames):
            self.meter.frames(self.busy[worker].name, answer.count)
        else:
            del self.busy[worker]
            self.idle.append(worker)
            self._done(answer.row)

    def _lost(self, worker: Worker, why: Lost) -> None:
        worker.end()
        if worker in self.starting:
            self.starting.remove(worker)
            self.unstarted += 1
            if self.unstarted >= TRIES and not self.workers():
                raise RefusedError(f"no worker could be started: it {why.reason}", hint=why.hint)
        elif worker in self.idle:
            self.idle.remove(worker)
        else:
            video = self.busy.pop(worker)
            self.tries[video.name] += 1
            self.meter.lost(video.name)
            if self.tries[video.name] < TRIES:
                self.waiting.append(video)  # last, should the video itself be what kills
                return
            reason = f"{video.name}: what evaluated it {why.reason}, {TRIES} times"
            self._done(Row(video.name, failure=Failure(RefusedError.__name__, reason, why.hint)))

    def _done(self, row: Row) -> None:
        self.record(row)
        self.meter.done(row.video)


class _Meter:
    """Tells how far the videos are: how many, how fast, and how long it still takes."""

    def __init__(self, progress: Progress, amounts: Mapping[str, int]) -> None:
        self._progress, self._amounts = progress, amounts
        self._total = sum(amounts.values())
        self._tracked = 0
        self._of: Counter[str] = Counter()
        self._videos = 0
        self._began = time.monotonic()
        progress.start("videos", self._total)
        self._tell()

    def frames(self, video: str, count: int) -> None:
        self._tracked += count
        self._add(video, count)

    def lost(self, video: str) -> None:
        self._add(video, -self._of[video])

    def done(self, video: str) -> None:
        self._videos += 1
        self._add(video, self._amounts[video] - self._of[video])

    def _add(self, video: str, count: int) -> None:
        self._of[video] += count
        self._progress.advance(count)
        self._tell()

    def _tell(self) -> None:
        words = [f"{self._videos}/{len(self._amounts)}"]
        passed, done = time.monotonic() - self._began, sum(self._of.values())
        if self._tracked and passed > 1:
            left = max(0, self._total - done) * passed / max(1, done)
            minutes, seconds = divmod(int(left), 60)
            words += [f"{self._tracked / passed:.1f} frames/s", f"{minutes}:{seconds:02} left"]
        self._progress.tell(", ".join(words))


class Alone:
    """A crew of one: this process.

    Args:
        work: The work on one video.
    """

    size = 1

    def __init__(self, work: Work) -> None:
        self._work = work
        self._video: Video | None = None

    def hire(self) -> Worker:
        """Be the worker.

        Returns:
            Itself.
        """
        return self

    def submit(self, video: Video) -> None:
        """Take a video, for the next :meth:`wait`.

        Args:
            video: The video.
        """
        self._video = video

    def end(self) -> None:
        """Do nothing: as a worker and as a crew, it is who asks."""

    def wait(self, workers: Collection[Worker], seconds: float, heard: Heard) -> None:
        """Do what is to be done.

        Args:
            workers: Itself.
            seconds: Not heeded.
            heard: As for :meth:`Crew.wait`.
        """
        if self._video is None:
            heard(self, Ready())
            return
        video, self._video = self._video, None
        heard(self, Done(self._work(video, Telling(lambda frames: heard(self, frames)))))


class Telling(Progress):
    """The progress of a video, passed on as answers of a worker.

    Args:
        tell: Receives them.
    """

    def __init__(self, tell: Callable[[Frames], object]) -> None:
        self._tell = tell

    def advance(self, count: int, doing: str = "") -> None:
        """Pass on that frames were tracked.

        Args:
            count: How many.
            doing: Not passed on.
        """
        self._tell(Frames(count))
