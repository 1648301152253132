"""The loop over workers, with workers that are lost in every way that there is."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from sam21convert.errors import RefusedError
from sam21convert.evaluation.amounts import Amount, longest_first
from sam21convert.evaluation.datasets import Video
from sam21convert.evaluation.driver import (
    TRIES,
    Answer,
    Done,
    Frames,
    Heard,
    Lost,
    Ready,
    Refused,
    Worker,
    drive,
)
from sam21convert.evaluation.rows import Row
from sam21convert.report import SILENT, Progress

NAMES = [f"video{at}" for at in range(7)]
VIDEOS = [Video(name, Path("frames"), Path("truth")) for name in NAMES]
Behaviour = Callable[[int, "Video | None"], "list[Answer]"]


def good(_: int, video: Video | None) -> list[Answer]:
    """What a worker answers at first, and to each video."""
    return [Ready()] if video is None else [Frames(2), Done(Row(video.name))]


class Scripted:
    """A crew whose workers answer what a function says; one answer of each at a time."""

    def __init__(self, size: int, behaviour: Behaviour = good) -> None:
        self.size, self.behaviour = size, behaviour
        self.hired: list[Scripted.One] = []
        self.most = 0  # videos in flight at a time

    class One:
        def __init__(self, crew: Scripted, number: int) -> None:
            self.crew, self.number = crew, number
            self.answers: deque[Answer] = deque(crew.behaviour(number, None))
            self.given: list[str] = []
            self.in_flight = False
            self.ended = self.trusted = False

        def submit(self, video: Video) -> None:
            assert self.trusted, "a worker gets a video only after its first answer"
            assert not self.in_flight, "one video at a time"
            assert not self.ended
            self.in_flight = True
            self.given.append(video.name)
            self.crew.most = max(self.crew.most, sum(one.in_flight for one in self.crew.hired))
            self.answers.extend(self.crew.behaviour(self.number, video))

        def end(self) -> None:
            self.ended = True
            self.in_flight = False

    def hire(self) -> Worker:
        assert sum(not one.ended for one in self.hired) < self.size
        self.hired.append(self.One(self, len(self.hired)))
        return self.hired[-1]

    def end(self) -> None:
        for one in self.hired:
            one.end()

    def wait(self, workers: Collection[Worker], seconds: float, heard: Heard) -> None:
        for one in self.hired:
            if one in workers and one.answers:
                answer = one.answers.popleft()
                one.trusted = one.trusted or isinstance(answer, Ready)
                one.in_flight = one.in_flight and not isinstance(answer, Done)
                heard(one, answer)


def driven(crew: Scripted, progress: Progress = SILENT, patience: float = 600) -> dict[str, Row]:
    """The rows, of which there is one for each video."""
    found: list[Row] = []
    try:
        drive(crew, VIDEOS, dict.fromkeys(NAMES, 2), found.append, progress, patience)
    finally:
        assert all(one.ended for one in crew.hired), "none outlives the run"
    assert sorted(row.video for row in found) == NAMES
    return {row.video: row for row in found}


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_each_video_is_done_once_and_one_at_a_time(size: int) -> None:
    crew = Scripted(size)
    assert not any(row.failure for row in driven(crew).values())
    assert len(crew.hired) == crew.most == min(size, len(NAMES))
    assert sorted(name for one in crew.hired for name in one.given) == NAMES


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("loses", range(len(NAMES)))
def test_a_lost_video_is_put_back_and_its_worker_replaced(size: int, loses: int) -> None:
    lost: list[str] = []

    def behaviour(number: int, video: Video | None) -> list[Answer]:
        if video is not None and video.name == NAMES[loses] and not lost:
            lost.append(video.name)
            return [Frames(1), Lost("was killed")]
        return good(number, video)

    crew = Scripted(size, behaviour)
    assert not any(row.failure for row in driven(crew).values())
    given = Counter(name for one in crew.hired for name in one.given)
    assert given == Counter([*NAMES, NAMES[loses]])
    # At the end there may be others who have nothing to do.
    assert len(crew.hired) == size + 1 if loses == 0 else size <= len(crew.hired) <= size + 1


@pytest.mark.parametrize("size", [1, 3])
def test_a_video_that_kills_has_failed_after_three_tries_and_the_rest_is_done(size: int) -> None:
    def behaviour(number: int, video: Video | None) -> list[Answer]:
        if video is not None and video.name == NAMES[2]:
            return [Lost("was killed by SIGKILL", "a hint")]
        return good(number, video)

    crew = Scripted(size, behaviour)
    rows = driven(crew)
    failed = {name: row.failure for name, row in rows.items() if row.failure}
    assert [*failed] == [NAMES[2]]
    assert failed[NAMES[2]].reason == "video2: what evaluated it was killed by SIGKILL, 3 times"
    assert failed[NAMES[2]].hint == "a hint"
    assert [name for one in crew.hired for name in one.given].count(NAMES[2]) == TRIES == 3


def test_workers_that_cannot_start_are_not_waited_for() -> None:
    """As where a node is gone and there is no room for another: the others go on."""

    def behaviour(number: int, video: Video | None) -> list[Answer]:
        if number == 0:
            return good(number, video)
        return []  # no answer, ever

    crew = Scripted(3, behaviour)
    assert not any(row.failure for row in driven(crew).values())
    assert crew.hired[0].given == NAMES


def test_the_run_ends_if_no_worker_answers_in_time() -> None:
    crew = Scripted(2, lambda number, video: [])
    with pytest.raises(RefusedError, match="no worker was ready within 0 seconds"):
        driven(crew, patience=0.01)


def test_workers_that_die_before_their_first_answer_end_the_run() -> None:
    crew = Scripted(2, lambda number, video: [Lost("ended with code 1: no libcuda", "a hint")])
    with pytest.raises(RefusedError, match="could be started: it ended with code 1: no libcuda"):
        driven(crew)
    assert len(crew.hired) <= TRIES + 1


def test_some_that_die_before_their_first_answer_do_not() -> None:
    def behaviour(number: int, video: Video | None) -> list[Answer]:
        return [Lost("ended with code 1")] if number else good(number, video)

    crew = Scripted(2, behaviour)
    assert not any(row.failure for row in driven(crew).values())
    assert len(crew.hired) == 1 + TRIES


def test_what_would_stop_all_ends_the_run() -> None:
    full = OSError(28, "No space left on device", "scratch")

    def behaviour(number: int, video: Video | None) -> list[Answer]:
        if video is not None and video.name == NAMES[3]:
            return [Refused(full)]
        return good(number, video)

    with pytest.raises(OSError, match="No space left"):
        driven(Scripted(2, behaviour))


def test_progress_takes_back_what_a_lost_video_had_and_ends_at_the_total() -> None:
    class Told(Progress):
        done, total, words = 0, 0, ""

        def start(self, label: str, total: int) -> None:
            self.total = total

        def advance(self, count: int, doing: str = "") -> None:
            self.done += count

        def tell(self, text: str) -> None:
            self.words = text

    lost: list[str] = []

    def behaviour(number: int, video: Video | None) -> list[Answer]:
        if video is not None and video.name == NAMES[1] and not lost:
            lost.append(video.name)
            return [Frames(1), Lost("was killed")]
        return good(number, video)

    told = Told()
    driven(Scripted(2, behaviour), told)
    assert told.done == told.total == 2 * len(NAMES)
    assert told.words.startswith("7/7")


def test_the_longest_videos_are_begun_first() -> None:
    amounts = [(5, 1), (3, 2), (0, 1), (9, 1), (3, 3)]
    found = longest_first(VIDEOS[:5], [Amount(*one, apart=False) for one in amounts])
    assert [video.name[-1] for video in found] == ["3", "4", "1", "0", "2"]
