"""A video on the page: objects pointed at, corrected, followed; the masks are those of predict."""

from __future__ import annotations

import io
import json
import shlex
import threading
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import sam21convert
from sam21convert.model.run_lengths import decode
from sam21convert.prediction.media import new_video

from ..commands.test_commands import run
from ..support.web import Answer, Page
from .conftest import FRAMES

HOUSE, SUN = [33.5, 60.0, 1], [75.0, 20.0, 1]
Masks = dict[int, dict[str, NDArray[np.bool_]]]


@pytest.fixture
def clip(work: Path, tmp_path: Path) -> Path:
    """The frames as a file."""
    path = tmp_path / "house.mp4"
    with new_video(path, Fraction(10), 96, 72) as append:
        for frame in sorted((work / "frames").iterdir()):
            append(np.asarray(Image.open(frame)))
    return path


def click(page: Page, name: str, frame: int, *points: list[float], **more: Any) -> Answer:
    return page.ask("mark", object=name, frame=frame, points=list(points), **more)


def follow(page: Page) -> tuple[list[Masks], list[Answer], Answer]:
    """The masks of each checkpoint, all that was told, and the answer."""
    *told, end = page.lines("follow")
    found: list[Masks] = [{}, {}]
    for line in told:
        for masks, objects in zip(found, line["sides"], strict=True):
            masks[line["frame"]] = {name: decode(runs) for name, runs in objects.items()}
    return found, told, end


def written(folder: Path, name: str) -> list[NDArray[np.bool_]]:
    paths = sorted((folder / "masks" / name).iterdir())
    return [np.asarray(Image.open(path)) > 0 for path in paths]


def equal(found: Masks, folder: Path, names: list[str]) -> bool:
    return all(
        np.array_equal([found[frame][name] for frame in range(FRAMES)], written(folder, name))
        for name in names
    )


def test_objects_are_followed_as_the_commands_follow_them(
    page: Page, work: Path, frames: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways from the first click; then corrected, and with a third object, followed again."""
    monkeypatch.chdir(work)
    assert page.open(*frames) == {
        "kind": "video",
        "name": "frames",
        "width": 96,
        "height": 72,
        "frames": FRAMES,
    }
    click(page, "1", 3, HOUSE)
    click(page, "1", 3, HOUSE, [90.0, 5.0, 0])
    click(page, "2", 5, box=[60.0, 5.0, 90.0, 35.0])
    first, told, end = follow(page)
    assert [line["frame"] for line in told] == [*range(3, FRAMES), 2, 1, 0]
    for side, command in enumerate(end["result"]["commands"]):
        words = shlex.split(command)[1:]
        words[-1] = str(tmp_path / f"first{side}")
        assert run(*words).exit_code == 0
        assert equal(first[side], tmp_path / f"first{side}", ["1", "2"])
    assert not equal(first[0], tmp_path / "first1", ["1"])

    before = click(page, "1", 8, [40.0, 30.0, 0])
    click(page, "1", 8, [40.0, 30.0, 0], [60.0, 60.0, 1])
    click(page, "1", 3, [12.0, 12.0, 0])
    click(page, "3", 0, SUN)
    assert set(before["sides"][0]) == {"1", "2"}
    second, _, end = follow(page)
    for side, command in enumerate(end["result"]["commands"]):
        assert "1:40,30,0@8/2" in command
        words = shlex.split(command)[1:]
        words[-1] = str(tmp_path / f"second{side}")
        assert run(*words).exit_code == 0
        assert equal(second[side], tmp_path / f"second{side}", ["1", "2", "3"])
        assert not equal(first[side], tmp_path / f"second{side}", ["1"])


def test_one_round_is_that_of_the_official_settings(
    page: Page, work: Path, frames: list[Path]
) -> None:
    from sam21convert.model import build_sam2_video_predictor

    page.open(*frames)
    click(page, "1", 0, HOUSE)
    (found, _), _, _ = follow(page)
    predictor = build_sam2_video_predictor("debug/sam2.1_debug", work / "first.pt")
    state = predictor.init_state(str(work / "frames"))
    predictor.add_new_points_or_box(state, 0, "1", points=[HOUSE[:2]], labels=[1])
    for frame, _, logits in predictor.propagate_in_video(state):
        assert np.array_equal(found[frame]["1"], (logits[0, 0] > 0).numpy())


def test_a_correction_is_kept_when_objects_are_followed_again(
    page: Page, frames: list[Path]
) -> None:
    page.open(*frames)
    click(page, "1", 0, HOUSE)
    (first, _), _, _ = follow(page)
    corrected = click(page, "1", 6, [40.0, 30.0, 0])["sides"][0]["1"]
    (second, _), _, _ = follow(page)
    assert not np.array_equal(decode(corrected), first[6]["1"])
    assert np.array_equal(second[6]["1"], decode(corrected))
    assert not np.array_equal(second[9]["1"], first[9]["1"])


def test_what_is_taken_back_leaves_no_trace(page: Page, frames: list[Path]) -> None:
    """Clicks, undone clicks, another object that is taken back: only what is left counts."""
    page.open(*frames)
    click(page, "1", 0, HOUSE)
    plain, _, _ = follow(page)
    page.open(*frames)
    click(page, "1", 0, [10.0, 10.0, 1])
    click(page, "1", 0, [10.0, 10.0, 1], HOUSE)
    click(page, "2", 4, SUN)
    assert set(click(page, "2", 4)["sides"][0]) == set()
    click(page, "1", 0)
    click(page, "1", 0, HOUSE)
    again, _, end = follow(page)
    assert "2:" not in end["result"]["commands"][0]
    for one, other in zip(plain, again, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[frame]["1"], other[frame]["1"]) for frame in one)
    followed = again[0][6]["1"]
    assert not np.array_equal(decode(click(page, "1", 6, SUN)["sides"][0]["1"]), followed)
    assert np.array_equal(decode(click(page, "1", 6)["sides"][0]["1"]), followed)


def test_stop_keeps_what_was_marked(page: Page, frames: list[Path]) -> None:
    page.open(*frames)
    click(page, "1", 0, HOUSE)
    plain, _, _ = follow(page)
    page.open(*frames)
    click(page, "1", 0, HOUSE)
    session = page.server.app.sessions.get(page.facts["session"])
    clip, walked = session.media, []
    whole = clip._followed  # type: ignore[union-attr]

    def followed(stopped: Any) -> Any:
        for step in whole(stopped):
            walked.append(step[0])
            if len(walked) == 5:
                assert page.raw("POST", "stop", b"{}")[0] == 200
            yield step

    clip._followed = followed  # type: ignore[union-attr,method-assign]
    *told, end = page.lines("follow")
    assert end == {"stopped": True}
    assert [line["frame"] for line in told] == walked == [0, 1, 2, 3, 4]
    clip._followed = whole  # type: ignore[union-attr,method-assign]
    again, _, _ = follow(page)
    assert all(np.array_equal(plain[0][at]["1"], again[0][at]["1"]) for at in range(FRAMES))


def test_how_alike_they_are_by_object_and_frame(page: Page, frames: list[Path]) -> None:
    page.open(*frames)
    click(page, "1", 0, HOUSE)
    click(page, "2", 0, SUN)
    (one, other), told, _ = follow(page)
    for line in told:
        for name, iou in line["alike"].items():
            a, b = one[line["frame"]][name], other[line["frame"]][name]
            assert iou == ((a & b).sum() / (a | b).sum() if (a | b).any() else 1)
    assert len({line["alike"]["1"] for line in told}) > 3


def test_a_file_and_its_downloads(
    page: Page, clip: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip.parent)
    facts = page.open(clip)
    assert (facts["kind"], facts["name"], facts["frames"]) == ("video", "house.mp4", FRAMES)
    assert Image.open(io.BytesIO(page.raw("GET", "frame/11")[1])).size == (96, 72)
    assert page.raw("GET", "frame/12")[0] == 422
    assert page.raw("GET", "download/masks/0")[0] == 422
    click(page, "1", 2, HOUSE)
    found, _, end = follow(page)
    assert run(*shlex.split(end["result"]["commands"][1])[1:]).exit_code == 0
    followed = clip.parent / "house-b-followed"
    assert equal(found[1], followed, ["1"])
    with zipfile.ZipFile(io.BytesIO(page.raw("GET", "download/masks/1")[1])) as archive:
        assert archive.namelist() == [f"masks/1/{at:05}.png" for at in range(FRAMES)]
        for name in archive.namelist():
            assert archive.read(name) == (followed / name).read_bytes()
    coco = json.loads(page.raw("GET", "download/coco/1")[1])
    areas = [int(found[1][frame]["1"].sum()) for frame in range(FRAMES)]
    assert [one["area"] for one in coco["annotations"]] == areas
    assert [one["image_id"] for one in coco["annotations"]] == [*range(1, FRAMES + 1)]
    film, wanted = page.raw("GET", "download/video/1")[1], followed / "video.mp4"
    one, other = (
        [frame.to_ndarray(format="rgb24") for frame in av.open(source, "r").decode(video=0)]
        for source in (io.BytesIO(film), str(wanted))
    )
    assert np.array_equal(one, other)


def test_what_does_not_fit_is_refused_and_the_page_goes_on(page: Page, frames: list[Path]) -> None:
    page.open(*frames)
    assert "nothing new to follow: mark" in page.lines("follow")[-1]["error"]
    asked: Any = {"object": "1", "frame": 0, "points": [HOUSE]}
    for change, said in (
        ({"frame": FRAMES}, f"is for frame {FRAMES}; the video has {FRAMES} frames"),
        ({"frame": "0"}, "frame: expected a whole number"),
        ({"object": "../1"}, "expected a name of letters"),
        ({"points": [[96, 5, 1]]}, "is not inside the picture"),
    ):
        assert said in page.ask("mark", 422, **{**asked, **change})["error"]
    assert "no picture is open" in page.ask("prompt", 422, points=[HOUSE])["error"]
    page.ask("mark", **asked)
    follow(page)
    assert "nothing new to follow: correct" in page.lines("follow")[-1]["error"]


def test_two_pages_follow_at_the_same_time(page: Page, frames: list[Path]) -> None:
    other = Page(page.server)
    alone = []
    for one, place in ((page, HOUSE), (other, SUN)):
        one.open(*frames)
        click(one, "1", 0, place)
        alone.append(follow(one)[0])
        one.open(*frames)
        click(one, "1", 0, place)
    together: list[Any] = [None, None]

    def run_one(at: int) -> None:
        together[at] = follow((page, other)[at])[0]

    threads = [threading.Thread(target=run_one, args=(at,)) for at in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for wanted, found in zip(alone, together, strict=True):
        for side in (0, 1):
            for frame in range(FRAMES):
                assert np.array_equal(wanted[side][frame]["1"], found[side][frame]["1"])
    other.ask("close")


def test_prompts_of_rounds_in_python(work: Path, tmp_path: Path) -> None:
    first = sam21convert.Point(33.5, 60)
    later = sam21convert.Point(40, 30, label=0, frame_idx=6, round=2)
    found = [
        sam21convert.predict_video(work / "frames", work / "first.pt", tmp_path / name, prompts)
        for name, prompts in (("one", [first]), ("two", [first, later]), ("turned", [later, first]))
    ]
    assert found[1].objects[0].prompted_on == (0, 6)
    assert found[0].objects[0].areas != found[1].objects[0].areas == found[2].objects[0].areas
