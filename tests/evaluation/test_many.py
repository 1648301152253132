"""Many videos: by several processes, some of them killed, and by runs that were stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sam21convert
from sam21convert.errors import RefusedError, Sam21ConvertError, UnreadableError, UsageError
from sam21convert.evaluation import processes
from sam21convert.evaluation.journal import JOURNAL
from sam21convert.evaluation.processes import threads_each
from sam21convert.evaluation.report import Evaluation
from sam21convert.report import Progress

from ..support.many_videos import BROKEN, LENGTHS, data, model
from ..support.paths import contents


class Given:
    """A model and videos, of which one is broken, and what one process finds of them."""

    def __init__(self, home: Path) -> None:
        self.model = model(home)
        self.root = data(home / "DATA", broken=True)
        self.masks = home / "expected"
        self.expected = self.evaluate(masks=self.masks)

    def evaluate(self, **options: Any) -> Evaluation:
        return sam21convert.evaluate(self.model, self.root, device="cpu", **options)

    def same(self, found: Evaluation, masks: Path) -> None:
        """All is equal, to the last bit and pixel."""
        assert replace(found, masks=None) == replace(self.expected, masks=None)
        assert contents(masks) == contents(self.masks)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The last bits depend on the number of threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = Given(tmp_path_factory.mktemp("many"))
    torch.set_num_threads(before)
    return found


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The processes that are started."""
    found: list[Any] = []
    popen = subprocess.Popen

    def recorded(*args: Any, **options: Any) -> Any:
        found.append(popen(*args, **options))
        return found[-1]

    monkeypatch.setattr(subprocess, "Popen", recorded)
    return found


class Stop(BaseException):
    """What ends a run in its midst, as a signal does."""


class At(Progress):
    """Does something when so many frames are tracked."""

    def __init__(self, frames: int, act: Any) -> None:
        self.left, self.act = frames, act

    def advance(self, count: int, doing: str = "") -> None:
        if count == 1:
            self.left -= 1
            if self.left == 0:
                self.act()


def stop() -> None:
    raise Stop


def test_what_is_expected(given: Given) -> None:
    assert given.expected.videos == len(LENGTHS) - 1
    assert given.expected.tracked_on == ("cpu, 1 thread",)
    (failed,) = given.expected.failed
    assert failed.video == BROKEN
    assert "cannot be read as a picture" in failed.reason
    scores = [one.jf for one in given.expected.per_object]
    assert len({*scores}) == len(scores) == 2 * (len(LENGTHS) - 1)


class TestProcesses:
    def test_the_result_is_that_of_one_even_if_a_worker_is_killed(
        self, given: Given, started: list[Any], tmp_path: Path
    ) -> None:
        def kill() -> None:
            started[0].kill()

        kept = tmp_path / "masks"
        found = given.evaluate(jobs=2, masks=kept, progress=At(3, kill))
        given.same(found, kept)
        assert len(started) == 3
        assert started[0].returncode == -signal.SIGKILL
        assert all(one.returncode is not None for one in started)
        assert [path.name for path in tmp_path.iterdir()] == ["masks"]

    def test_nothing_is_left_if_the_run_is_stopped(
        self, given: Given, started: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "tmp").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
        with pytest.raises(Stop):
            given.evaluate(jobs=2, masks=tmp_path / "masks", progress=At(2, stop))
        assert len(started) == 2
        assert all(one.returncode == -signal.SIGKILL for one in started)
        assert [path for path in tmp_path.rglob("*") if path.name != "tmp"] == []

    def test_processes_that_do_not_start(
        self, given: Given, started: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processes, "_START", "raise OSError('no {fd} here')")
        with pytest.raises(RefusedError, match="it ended with code 1: OSError: no") as error:
            given.evaluate(jobs=2)
        assert error.value.message.startswith("no worker could be started")
        assert len(started) >= 3

    def test_processes_that_are_killed_as_memory_is_short(
        self, given: Given, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processes, "_START", "import os; os.kill(os.getpid(), 9)")
        with pytest.raises(RefusedError, match="it was killed by SIGKILL") as error:
            given.evaluate(jobs=3)
        assert error.value.hint is not None
        assert error.value.hint.endswith("try fewer `jobs`")
        assert given.evaluate(jobs=1, videos=["cow"]).ok

    def test_a_checkpoint_that_has_changed_since_the_run_began(
        self, given: Given, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        other = tmp_path / "model.pt"
        other.write_bytes(given.model.read_bytes())
        start = processes.Processes.hire

        def changed(self: Any) -> Any:
            os.utime(other)
            other.write_bytes(given.model.read_bytes() + b" ")
            return start(self)

        monkeypatch.setattr(processes.Processes, "hire", changed)
        with pytest.raises(Sam21ConvertError, match=r"model\.pt: expected the SHA-256"):
            sam21convert.evaluate(other, given.root, device="cpu", jobs=2)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_all_processes(
        self, number: signal.Signals, given: Given, tmp_path: Path
    ) -> None:
        command = [sys.executable, "-m", "sam21convert", "evaluate", str(given.model)]
        command += [str(given.root), "--jobs", "2", "--masks", str(tmp_path / "masks")]
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as run:
            workers: list[int] = []
            while len(workers) < 2 and run.poll() is None:
                time.sleep(0.05)
                listed = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text()
                workers = [*map(int, listed.split())]
            run.send_signal(number)
            assert run.stderr is not None
            said = run.stderr.read()
        assert run.returncode == 128 + number
        assert said in (b"error: interrupted\n", b"error: terminated\n")
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, 0)
                pytest.fail("a worker is still there")
        assert [*tmp_path.iterdir()] == []


def test_threads_are_a_share_of_the_cores_unless_the_user_has_set_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_each(2) == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert [threads_each(size) for size in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]


class TestAStoppedRun:
    """It goes on where it was, with the result of one that was not stopped."""

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_goes_on(self, jobs: int, given: Given, tmp_path: Path) -> None:
        kept, report = tmp_path / "masks", tmp_path / "report"
        options = {"masks": kept, "report": report}
        # The broken video and the next are done when the third is begun.
        with pytest.raises(Stop):
            given.evaluate(**options, jobs=jobs, progress=At(5 + 5 + 1, stop))
        done = videos_in(report)
        assert 0 < len(done) < len(LENGTHS)
        there = {path.name: len([*path.iterdir()]) for path in kept.glob("*")}
        assert {*there} >= {*done} - {BROKEN}
        assert there == {name: LENGTHS[name] for name in there}  # each appears whole
        # A worker may have ended another, whose answer nobody heard: that one is tracked again.
        heard = [path for name in done for path in kept.glob(f"{name}/*.png")]
        before = {path: path.stat().st_mtime_ns for path in heard}
        tracked: list[int] = []

        class Counted(Progress):
            def start(self, label: str, total: int) -> None:
                tracked.append(total)

        found = given.evaluate(**options, jobs=jobs, progress=Counted())
        given.same(found, kept)
        # The broken one is tried again, as it may have been mended.
        left = [LENGTHS[name] for name in LENGTHS if name not in done or name == BROKEN]
        assert tracked[-1] == sum(left)
        assert all(path.stat().st_mtime_ns == at for path, at in before.items())
        again = given.evaluate(**options)
        given.same(again, kept)

    def test_a_line_that_was_cut_short_is_dropped(self, given: Given, tmp_path: Path) -> None:
        report, kept = tmp_path / "report", tmp_path / "masks"
        given.evaluate(report=report, masks=kept)
        whole = (report / JOURNAL).read_bytes()
        for cut in (1, 100):
            (report / JOURNAL).write_bytes(whole[:-cut])
            last = whole.splitlines()[-1]
            given.same(given.evaluate(report=report, masks=kept), kept)
            rows = [json.loads(line) for line in (report / JOURNAL).read_bytes().splitlines()[1:]]
            assert {row["video"] for row in rows} == {*LENGTHS}
            assert json.loads(last)["video"] in videos_in(report)

    def test_a_first_line_that_was_cut_short_is_begun_anew(
        self, given: Given, tmp_path: Path
    ) -> None:
        (tmp_path / "report").mkdir()
        (tmp_path / "report" / JOURNAL).write_bytes(b'{"format": "sam21')
        found = given.evaluate(report=tmp_path / "report")
        assert found == replace(given.expected, masks=None)

    def test_pictures_of_videos_that_are_not_asked_for_stay(
        self, given: Given, tmp_path: Path
    ) -> None:
        report = tmp_path / "report"
        given.evaluate(report=report)
        pictures = (report / "index.html").read_text().count("image/jpeg")
        assert pictures == 3 * 3  # of the worst three of four videos
        given.evaluate(report=report, videos=["cow"])
        given.evaluate(report=report)
        assert (report / "index.html").read_text().count("image/jpeg") == pictures

    def test_some_videos_first_and_all_later(self, given: Given, tmp_path: Path) -> None:
        report = tmp_path / "report"
        given.evaluate(report=report, videos=["cow"])
        assert videos_in(report) == ["cow"]
        assert given.evaluate(report=report) == replace(given.expected, masks=None)
        assert sorted(videos_in(report)) == sorted(LENGTHS)

    def test_a_mended_video(self, given: Given, tmp_path: Path) -> None:
        root, report = data(tmp_path / "DATA", broken=True), tmp_path / "report"
        options: dict[str, Any] = {"report": report, "device": "cpu"}
        assert sam21convert.evaluate(given.model, root, **options).failed
        frame = f"JPEGImages/480p/{BROKEN}/{LENGTHS[BROKEN] - 1:05d}.jpg"
        whole = data(tmp_path / "WHOLE", broken=False)
        (root / frame).write_bytes((whole / frame).read_bytes())
        found = sam21convert.evaluate(given.model, root, **options)
        assert found.ok
        alone = sam21convert.evaluate(given.model, whole, device="cpu")
        assert replace(found, data=whole) == alone

    def test_masks_that_were_taken_away_are_made_again(self, given: Given, tmp_path: Path) -> None:
        kept, report = tmp_path / "masks", tmp_path / "report"
        given.evaluate(report=report, masks=kept)
        (kept / "cow").rename(tmp_path / "elsewhere")
        given.same(given.evaluate(report=report, masks=kept), kept)

    def test_of_two_checkpoints(self, given: Given, tmp_path: Path) -> None:
        options: dict[str, Any] = {"against": given.model, "device": "cpu"}
        expected = sam21convert.evaluate(given.model, given.root, **options)
        assert expected.paired is not None
        assert expected.paired.identical
        options["report"] = tmp_path / "report"
        with pytest.raises(Stop):
            sam21convert.evaluate(given.model, given.root, **options, progress=At(18, stop))
        assert sam21convert.evaluate(given.model, given.root, **options) == expected


def videos_in(report: Path) -> list[str]:
    """The videos in a journal, in the order in which they came."""
    _, *rows = (json.loads(line) for line in (report / JOURNAL).read_text().splitlines())
    return [row["video"] for row in rows]


class TestAnotherJournal:
    """One sentence that says what is in the way, and nothing is changed."""

    @pytest.fixture
    def report(self, given: Given, tmp_path: Path) -> Path:
        given.evaluate(report=tmp_path / "report", videos=["cow"])
        return tmp_path / "report"

    def refused(self, report: Path, kind: type[Exception], text: str, run: Any) -> None:
        before = contents(report)
        with pytest.raises(kind, match=text) as error:
            run()
        assert contents(report) == before
        assert "overwrite=True" in (getattr(error.value, "hint", "") or "overwrite=True")

    def test_of_other_options(self, given: Given, report: Path) -> None:
        for options, text in (
            ({"protocol": "sav"}, 'protocol was "davis", and is now "sav"'),
            ({"image_size": 64}, "image_size was null, and is now 64"),
            ({"masks": report.parent / "masks"}, "masks was null, and is now"),
            ({"against": given.model}, "checkpoints was"),
        ):
            self.refused(
                report, UsageError, text, lambda o=options: given.evaluate(report=report, **o)
            )
        assert not (report.parent / "masks").exists()

    def test_of_another_checkpoint(self, given: Given, report: Path, tmp_path: Path) -> None:
        other = torch.load(given.model)
        other["model"]["sam_mask_decoder.mask_tokens.weight"] *= -1
        torch.save(other, tmp_path / "other.pt")
        self.refused(
            report,
            UsageError,
            r"videos\.jsonl: is of another evaluation: checkpoints was",
            lambda: sam21convert.evaluate(
                tmp_path / "other.pt", given.root, device="cpu", report=report
            ),
        )

    @pytest.mark.parametrize(
        "row", [b"{}", b"[1]", b"not JSON", b'{"video": 1}', b"[" * 5000, b"\xff"]
    )
    def test_that_is_damaged(self, row: bytes, given: Given, report: Path) -> None:
        path = report / JOURNAL
        path.write_bytes(path.read_bytes() + row + b"\n")
        self.refused(
            report, UnreadableError, "what is none at byte", lambda: given.evaluate(report=report)
        )

    @pytest.mark.parametrize(
        ("key", "value"),
        [("video", []), ("scores", []), ("scores", [[{}]]), ("seconds", "x"), ("pixels", 1)],
    )
    def test_that_was_edited(self, key: str, value: object, given: Given, report: Path) -> None:
        path = report / JOURNAL
        *lines, last = path.read_text().splitlines()
        path.write_text("\n".join([*lines, json.dumps({**json.loads(last), key: value}), ""]))
        self.refused(
            report, UnreadableError, "what is none at byte", lambda: given.evaluate(report=report)
        )

    @pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b'{"format": 1}\n', b"ant,bee"])
    def test_that_is_something_else(self, line: bytes, given: Given, report: Path) -> None:
        (report / JOURNAL).write_bytes(line)
        self.refused(
            report, RefusedError, "is not the journal", lambda: given.evaluate(report=report)
        )

    def test_is_begun_anew_with_overwrite(self, given: Given, report: Path) -> None:
        for text in ("", "not JSON\n", "{}\n"):
            (report / JOURNAL).write_text((report / JOURNAL).read_text() + text)
            found = given.evaluate(report=report, protocol="sav", overwrite=True, videos=["ant"])
            assert found.protocol == "sav"
            assert videos_in(report) == ["ant"]
        (report / JOURNAL).rename(report / "mine")
        assert given.evaluate(report=report, overwrite=True, videos=["ant"]).ok

    def test_a_folder_with_other_files(self, given: Given, tmp_path: Path) -> None:
        (tmp_path / "mine").touch()
        self.refused(
            tmp_path, UsageError, "holds no videos", lambda: given.evaluate(report=tmp_path)
        )
        with pytest.raises(UsageError, match="mine: is a file"):
            given.evaluate(report=tmp_path / "mine")
        with pytest.raises(UsageError, match=r"the folder .*no does not exist"):
            given.evaluate(report=tmp_path / "no/report")

    def test_among_the_data(self, given: Given) -> None:
        with pytest.raises(UsageError, match="the report would be written among the data"):
            given.evaluate(report=given.root / "Annotations/480p/report")

    def test_among_the_masks(self, given: Given, tmp_path: Path) -> None:
        text = "the report would be written among the masks"
        for report in (tmp_path, tmp_path / "report"):
            with pytest.raises(UsageError, match=text):
                given.evaluate(report=report, masks=tmp_path)
            with pytest.raises(UsageError, match=text):
                sam21convert.score(tmp_path, given.root, report=report, overwrite=True)
        assert not [*tmp_path.iterdir()]

    def test_two_runs_at_a_time(self, given: Given, report: Path) -> None:
        texts: list[str] = []

        def second() -> None:
            with pytest.raises(UsageError) as error:
                given.evaluate(report=report)
            texts.append(error.value.message)

        given.evaluate(report=report, progress=At(2, second))
        assert texts == [f"{report / JOURNAL}: another evaluation is writing it"]

    def test_masks_within_the_report(self, given: Given, tmp_path: Path) -> None:
        report = tmp_path / "report"
        found = given.evaluate(report=report, masks=report / "masks", videos=["ant"])
        assert found.masks == report / "masks"
        assert (report / "masks/ant/00003.png").exists()
        assert (report / "index.html").exists()

    def test_nothing_is_left_if_the_model_cannot_be_loaded(
        self, given: Given, tmp_path: Path
    ) -> None:
        image, report = tmp_path / "image", tmp_path / "report"
        sam21convert.convert(given.model, image, to="hf-image")
        for masks in (None, report / "masks", tmp_path / "masks"):
            with pytest.raises(RefusedError):
                sam21convert.evaluate(image, given.root, report=report, masks=masks)
            assert [path.name for path in tmp_path.iterdir()] == ["image"]
