"""Objects are tracked as the official script tracks them: no pixel differs.

Its rules are written down again here (``tools/vos_inference.py`` is in no package), around the
official video predictor.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sam21convert
from sam21convert.checkpoint.open import open_checkpoint
from sam21convert.config.registry import shipped_config
from sam21convert.errors import MissingFileError, RefusedError, UnreadableError, UsageError
from sam21convert.evaluation.datasets import Layout, Video
from sam21convert.evaluation.paired import compare
from sam21convert.evaluation.protocols import ObjectScore
from sam21convert.evaluation.track import track
from sam21convert.evaluation.trackers.base import Wanted
from sam21convert.evaluation.trackers.truth import Truth
from sam21convert.model.inference_state import TrackedObject
from sam21convert.report import Progress

from ..support import videos
from ..support.answers import conforms
from ..support.checkpoints import official_pt
from ..support.many_videos import seeing
from ..support.official import DEBUG, build_official_predictor
from ..support.paths import contents

FRAMES = 5
Ids = Any  # H x W


def truth(frame: int) -> Ids:
    """Two objects that touch; the second is to be seen from the third frame on."""
    height, width = videos.frame(0).shape[:2]
    y, x = np.mgrid[:height, :width]
    ids = np.zeros((height, width), np.uint8)
    ids[(x - width / 3) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2] = 1
    if frame >= 2:
        ids[(x > width / 2) & (y > height / 3) & (y < height / 2)] = 2
    return ids


def data(root: Path, layout: Layout) -> Path:
    """A data set of one video, whose objects are both on its first frame but in LVOS."""
    later = layout == "lvos"
    masks = [truth(frame if later else frame + 2) for frame in range(FRAMES)]
    steps = (1, 5, "08d") if later else (0, 1, "05d")
    names = [f"{steps[0] + steps[1] * frame:{steps[2]}}" for frame in range(FRAMES)]
    frames, annotations, inner = {
        "davis": ("JPEGImages/480p", "Annotations/480p", ""),
        "sav": ("JPEGImages_24fps", "Annotations_6fps", "000"),
        "lvos": ("JPEGImages", "Annotations", ""),
    }[layout]
    for number, name in enumerate(names):
        picture = root / frames / "car" / f"{name}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(videos.frame(number)).save(picture)
        for at in (1, 2) if inner else (0,):
            folder = root / annotations / "car" / (f"{at - 1:03d}" if inner else "")
            folder.mkdir(parents=True, exist_ok=True)
            ids = 255 * (masks[number] == at).astype(np.uint8) if inner else masks[number]
            Image.fromarray(ids).save(folder / f"{name}.png")
    if later:
        spans = {"1": ("1", "21", "5"), "2": ("11", "21", "3")}
        keys = ("start", "end", "frame_nums")
        objects = {
            name: {"frame_range": dict(zip(keys, span, strict=True))}
            for name, span in spans.items()
        }
        stated = {"videos": {"car": {"objects": objects}}}
        (root / "valid_meta.json").write_text(json.dumps(stated))
    return root


def officially(layout: Layout, root: Path, name: str) -> Iterator[dict[int, Ids]]:
    """The masks of both objects on each frame, by the official predictor and the script's rules."""
    config = replace(shipped_config(name), dynamic_multimask_via_stability=False)
    predictor = build_official_predictor(config, non_overlap_masks=layout != "sav")
    predictor.load_state_dict(seeing(name))
    frames = next(root.glob("JPEGImages*"))
    state = predictor.init_state(str(frames / ("480p" if layout == "davis" else "") / "car"))
    if layout != "lvos":
        for number in (1, 2):
            predictor.add_new_mask(state, 0, number, truth(2) == number)
        for _, ids, logits in predictor.propagate_in_video(state):
            yield dict(zip(ids, (logits[:, 0] > 0).numpy(), strict=True))
        return
    scores = torch.full((FRAMES, 2, 1, *truth(0).shape), -1024.0)
    for at, (number, first) in enumerate(((1, 0), (2, 2))):
        predictor.reset_state(state)
        predictor.add_new_mask(state, first, number, truth(first) == number)
        for frame, _, logits in predictor.propagate_in_video(state, first, reverse=False):
            scores[frame, at] = logits[0]
    for found in scores:
        apart = predictor._apply_non_overlapping_constraints(found)
        yield dict(zip((1, 2), (apart[:, 0] > 0).numpy(), strict=True))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {name: official_pt(home / f"{at}.pt", seeing(name)) for at, name in enumerate(DEBUG)}


@pytest.mark.parametrize("name", DEBUG)
@pytest.mark.parametrize("layout", ["davis", "sav", "lvos"])
def test_no_pixel_differs_from_the_official_script(
    layout: Layout, name: str, models: dict[str, Path], tmp_path: Path
) -> None:
    root, kept = data(tmp_path / "DATA", layout), tmp_path / "masks"
    found = sam21convert.evaluate(models[name], root, config=name, masks=kept)
    assert (found.layout, found.videos, found.objects) == (layout, 1, 2)
    objects = sorted((kept / "car").iterdir()) if layout == "sav" else [kept / "car"]
    read = [[np.array(Image.open(p)) for p in sorted(of.iterdir())] for of in objects]
    seen = set()
    for frame, masks in enumerate(officially(layout, root, name)):
        for number, mask in masks.items():
            mine = read[number - 1][frame] if layout == "sav" else read[0][frame] == number
            assert np.array_equal(mine, mask)
            seen.add((number, frame))
            assert mask.any() or (layout, number, frame < 2) == ("lvos", 2, True)
    assert len(seen) == 2 * FRAMES
    # What was scored is what was written.
    again = sam21convert.score(kept, root)
    assert again.per_object == found.per_object


class TestMemory:
    """Of a long video few frames and results are held, and the masks are those of all of them."""

    LENGTH = 22  # more than the 15 frames to which a frame can attend

    @pytest.fixture(params=["davis", "lvos"])
    def video(self, request: pytest.FixtureRequest, tmp_path: Path) -> Video:
        home = tmp_path / "frames"
        home.mkdir()
        for number in range(self.LENGTH):
            Image.fromarray(videos.frame(number)).save(home / f"{number:05}.jpg")
            folder = tmp_path / "truth"
            folder.mkdir(exist_ok=True)
            Image.fromarray(truth(number)).save(folder / f"{number:05}.png")
        if request.param == "davis":
            Image.fromarray(truth(2)).save(folder / "00000.png")
        return Video(request.param, home, folder)

    def test_is_bounded_and_no_pixel_differs(
        self,
        video: Video,
        models: dict[str, Path],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        tracker = Truth.load(Wanted(open_checkpoint(models[DEBUG[0]]), None, "cpu"))
        predictor = tracker.predictor
        held: list[int] = []
        step = predictor.track

        def watched(state: Any, frame: int, obj_id: Any, *, reverse: bool) -> Any:
            held.append(len(state.objects[obj_id].settled.tracked))
            return step(state, frame, obj_id, reverse=reverse)

        monkeypatch.setattr(predictor, "track", watched)
        layout: Layout = "lvos" if video.name == "lvos" else "davis"
        for kept in (False, True):
            if kept:  # as the official code does
                monkeypatch.setattr(TrackedObject, "forget_memories", lambda *_: None)
            held.clear()
            (tmp_path / f"masks{kept}").mkdir()
            track(tracker, video, layout, tmp_path / f"masks{kept}")
            assert max(held) == (self.LENGTH - 2 if kept else 15)
        found, expected = (sorted((tmp_path / f"masks{k}").iterdir()) for k in (False, True))
        assert [path.read_bytes() for path in found] == [path.read_bytes() for path in expected]
        assert len({path.read_bytes() for path in found}) == self.LENGTH
        # The negative control: one memory less is seen.
        monkeypatch.undo()
        monkeypatch.setattr("sam21convert.evaluation.trackers.truth.reach", lambda *_: 14)
        (tmp_path / "less").mkdir()
        track(tracker, video, layout, tmp_path / "less")
        less = [path.read_bytes() for path in sorted((tmp_path / "less").iterdir())]
        assert less != [path.read_bytes() for path in expected]


def test_how_far_from_the_published_figure(models: dict[str, Path], tmp_path: Path) -> None:
    """Of both checkpoints; debug models and this data have none, which is no fault of theirs."""
    root, kept = data(tmp_path / "DATA", "sav"), tmp_path / "hf"
    sam21convert.convert(models[DEBUG[0]], kept, config=DEBUG[0])
    options: dict[str, Any] = {"config": DEBUG[0], "against": kept}
    found = sam21convert.evaluate(models[DEBUG[0]], root, expect="published", **options)
    assert found.against is not None
    for one in (found, found.against):
        assert one.expected is not None
        assert one.model == DEBUG[0]
        assert (one.backend, one.dtype, one.image_size) == ("truth", "float32", 128)
        assert (one.expected.benchmark, one.expected.model) == ("SA-V test", None)
        assert one.expected.why is not None
        assert "here are 1 video and 2 objects" in one.expected.why
    assert found.exit_code == 0
    conforms(found.to_json())
    assert sam21convert.evaluate(models[DEBUG[0]], root, **options).expected is None


def test_a_report_of_two_checkpoints(models: dict[str, Path], tmp_path: Path) -> None:
    """With pictures of the worst frame, though no masks are kept."""
    root, folder = data(tmp_path / "DATA", "davis"), tmp_path / "evidence"
    options: dict[str, Any] = {"against": models[DEBUG[1]], "report": folder}
    found = sam21convert.evaluate(models[DEBUG[0]], root, **options)
    names = ["frames", "index.html", "report.json", "videos.jsonl"]
    assert sorted(path.name for path in folder.iterdir()) == names
    html = (folder / "index.html").read_text()
    assert html.count("data:image/jpeg;base64") == 4
    assert found.paired is not None
    assert f"{found.paired.pixels:,} of {found.paired.of_pixels:,} pixels differ" in html
    written = conforms((folder / "report.json").read_text())
    assert written == json.loads(found.to_json())
    (folder / "index.html").unlink()
    sam21convert.evaluate(models[DEBUG[0]], root, **options)  # all is done: only the page is made
    assert (folder / "index.html").read_text() == html
    sam21convert.evaluate(models[DEBUG[0]], root, report=folder, overwrite=True)
    assert (folder / "index.html").read_text().count("data:image/jpeg;base64") == 3
    for place in (root / "JPEGImages", root):
        with pytest.raises(UsageError, match="the report would be written among the data"):
            sam21convert.evaluate(models[DEBUG[0]], root, report=place, overwrite=True)


def test_a_report_of_masks_without_frames(models: dict[str, Path], tmp_path: Path) -> None:
    root = data(tmp_path / "DATA", "davis")
    found = sam21convert.evaluate(models[DEBUG[0]], root, masks=tmp_path / "masks")
    (root / "JPEGImages").rename(tmp_path / "frames")
    again = sam21convert.score(tmp_path / "masks", root, report=tmp_path / "evidence")
    assert again.per_object == found.per_object
    html = (tmp_path / "evidence/index.html").read_text()
    assert f"J&amp;F {found.jf:.1f}" in html
    assert "<img" not in html


class TestTwoCheckpoints:
    @pytest.fixture(scope="class")
    @classmethod
    def root(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return data(tmp_path_factory.mktemp("two") / "DATA", "davis")

    def test_a_conversion_is_identical(
        self, models: dict[str, Path], root: Path, tmp_path: Path
    ) -> None:
        folder, kept = tmp_path / "hf", tmp_path / "masks"
        sam21convert.convert(models[DEBUG[0]], folder)
        found = sam21convert.evaluate(models[DEBUG[0]], root, against=folder, masks=kept)
        assert found.paired is not None
        assert found.against is not None
        assert (found.paired.identical, found.paired.pixels, found.paired.changed) == (True, 0, 0)
        assert (found.paired.jf, found.paired.worst) == (0, None)
        assert found.per_object == found.against.per_object
        assert found.sha256.keys() != found.against.sha256.keys()
        assert "identical: none of" in str(found)
        names = [path.name for path in sorted((kept / "first/car").iterdir())]
        assert names == [path.name for path in sorted((kept / "second/car").iterdir())]

    def test_what_another_changes_is_counted(
        self, models: dict[str, Path], root: Path, tmp_path: Path
    ) -> None:
        other = torch.load(models[DEBUG[0]])
        other["model"]["sam_mask_decoder.mask_tokens.weight"] *= -1
        torch.save(other, tmp_path / "other.pt")
        kept = tmp_path / "masks"
        found = sam21convert.evaluate(
            models[DEBUG[0]], root, against=tmp_path / "other.pt", masks=kept
        )
        assert found.paired is not None
        assert found.against is not None
        first, second = (
            [np.array(Image.open(path)) for path in sorted((kept / which / "car").iterdir())]
            for which in ("first", "second")
        )
        differing = np.count_nonzero(np.stack(first) != np.stack(second))
        assert found.paired.pixels == differing > 0
        assert not found.paired.identical
        mine, theirs = ([one.jf for one in of.per_object] for of in (found, found.against))
        changes = [b - a for a, b in zip(mine, theirs, strict=True)]
        assert found.paired.jf == pytest.approx(sum(changes) / 2)
        assert found.paired.changed == sum(change != 0 for change in changes) > 0
        assert found.paired.between is None  # of one video nothing can be told
        if found.paired.worst is not None:
            assert found.paired.worst.jf == min(changes)
        conforms(found.to_json())


def scored(video: str, jf: float) -> ObjectScore:
    return ObjectScore(video, "1", jf, jf, 3, (), (), ())


def test_the_interval_is_that_of_videos_not_of_objects() -> None:
    """Ten objects of each video change alike, so that they say no more than one."""
    changes = {"a": 1.0, "b": 3.0, "c": -2.0, "d": 0.5}
    few = (
        [scored(video, 50) for video in changes],
        [scored(video, 50 + change) for video, change in changes.items()],
    )
    many = tuple([one for one in side for _ in range(10)] for side in few)
    intervals = []
    for first, second in (few, many):
        found = compare(first, second, 1, 10)
        assert found.jf == pytest.approx(np.mean([*changes.values()]))
        assert found.worst is not None
        assert (found.worst.video, found.worst.jf) == ("c", -2)
        assert found.between is not None
        intervals.append(found.between)
    assert intervals[0] == pytest.approx(intervals[1])
    low, high = intervals[0]
    assert -2 <= low < 0 < high <= 3


def test_progress_counts_frames_and_tells_how_many_videos_are_done(
    models: dict[str, Path], tmp_path: Path
) -> None:
    told: list[Any] = []

    class Told(Progress):
        def start(self, label: str, total: int) -> None:
            told.append((label, total))

        def advance(self, count: int, doing: str = "") -> None:
            told.append(count)

        def tell(self, text: str) -> None:
            told.append(text)

    root = data(tmp_path / "DATA", "lvos")
    sam21convert.evaluate(models[DEBUG[0]], root, config=DEBUG[0], progress=Told())
    start = told.index(("videos", 2 * FRAMES))  # two objects; the second is not on all frames
    counts = [one for one in told[start:] if isinstance(one, int)]
    assert counts == [1] * (FRAMES + FRAMES - 2) + [2]
    assert told[start + 1].startswith("0/1")
    assert told[-1].startswith("1/1")


def test_masks_for_a_server_that_alone_can_score_them(
    models: dict[str, Path], tmp_path: Path
) -> None:
    root, kept = data(tmp_path / "DATA", "davis"), tmp_path / "masks"
    sam21convert.evaluate(models[DEBUG[0]], root, config=DEBUG[0], masks=kept)
    scored = {path.name: path.read_bytes() for path in (kept / "car").iterdir()}
    for name in ("Annotations", "JPEGImages"):  # as MOSE has them, with the first mask alone
        (root / name / "480p").rename(root / "videos")
        (root / name).rmdir()
        (root / "videos").rename(root / name)
    for path in sorted((root / "Annotations/car").iterdir())[1:]:
        path.unlink()
    options: dict[str, Any] = {"config": DEBUG[0], "masks": kept, "overwrite": True}
    found = sam21convert.evaluate(models[DEBUG[0]], root, **options)
    assert (found.layout, found.videos, found.objects, found.jf) == ("mose", 1, 0, None)
    assert found.notes[0].startswith(f"not scored: {root}/Annotations/car: has too few true masks")
    assert {path.name: path.read_bytes() for path in (kept / "car").iterdir()} == scored
    with pytest.raises(RefusedError, match="has too few true masks to score, 1") as error:
        sam21convert.evaluate(models[DEBUG[0]], root, **{**options, "masks": None})
    assert error.value.hint == "--masks OUT writes masks that the server scores"


def test_objects_with_folders_of_other_names_and_empty_first_masks(
    models: dict[str, Path], tmp_path: Path
) -> None:
    root, kept = data(tmp_path / "DATA", "sav"), tmp_path / "masks"
    objects = root / "Annotations_6fps/car"
    (objects / "001").rename(objects / "7")
    first = objects / "7/00000.png"
    Image.fromarray(np.zeros_like(np.array(Image.open(first)))).save(first)
    found = sam21convert.evaluate(models[DEBUG[0]], root, config=DEBUG[0], masks=kept)
    assert [one.object for one in found.per_object] == ["000", "7"]
    assert sorted(path.name for path in (kept / "car").iterdir()) == ["000", "7"]


@pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="this system cannot ask for room on a disk"
)
def test_a_disk_too_full_for_the_logits_of_a_video(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    root, kept = data(tmp_path / "DATA", "lvos"), tmp_path / "masks"
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as error:
        sam21convert.evaluate(models[DEBUG[0]], root, config=DEBUG[0], masks=kept)
    assert Path(error.value.filename).name == "highest.npy"
    assert [path.name for path in tmp_path.iterdir()] == ["DATA"]


def test_a_broken_video_is_reported_and_the_rest_is_as_without_it(
    models: dict[str, Path], tmp_path: Path
) -> None:
    root, kept = data(tmp_path / "DATA", "davis"), tmp_path / "masks"
    options: dict[str, Any] = {"config": DEBUG[0], "overwrite": True, "masks": kept}
    alone = sam21convert.evaluate(models[DEBUG[0]], root, **options)
    for folder in (root / "JPEGImages/480p", root / "Annotations/480p"):
        shutil.copytree(folder / "car", folder / "bus")
        shutil.copytree(folder / "car", folder / "cut")
    frame = root / "JPEGImages/480p/bus/00003.jpg"
    frame.write_bytes(frame.read_bytes()[:200])
    for path in sorted((root / "Annotations/480p/cut").iterdir())[2:]:  # known before tracking
        path.unlink()
    found = sam21convert.evaluate(models[DEBUG[0]], root, **options)
    assert replace(found, failed=()) == alone
    assert [one.video for one in found.failed] == ["bus", "cut"]
    assert found.failed[0].reason.startswith(f"{frame}: cannot be read as a picture")
    assert "expected masks of 3 frames or more" in found.failed[1].reason
    assert found.exit_code == 1
    assert [path.name for path in kept.iterdir()] == ["car"]
    conforms(found.to_json())


class TestWrongInput:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return data(tmp_path / "DATA", "davis")

    def refused(self, kind: type[Exception], text: str, root: Path, **options: Any) -> None:
        model = root.parent / "model.pt"
        sam21convert.sample(model, DEBUG[0])
        with pytest.raises(kind, match=text):
            sam21convert.evaluate(model, root, masks=root.parent / "masks", **options)
        assert sorted(path.name for path in root.parent.iterdir()) == ["DATA", "model.pt"]

    def test_no_frames(self, root: Path) -> None:
        (root / "JPEGImages").rename(root / "frames")
        self.refused(MissingFileError, "JPEGImages", root)

    def test_a_damaged_frame(self, root: Path) -> None:
        path = root / "JPEGImages/480p/car/00001.jpg"
        path.write_bytes(path.read_bytes()[:200])
        self.refused(UnreadableError, r"00001\.jpg", root)

    def test_frames_of_another_size(self, root: Path) -> None:
        for path in (root / "Annotations/480p/car").iterdir():
            Image.open(path).resize((40, 30), Image.Resampling.NEAREST).save(path)
        self.refused(
            UnreadableError, r"00000\.png: expected .*, as the frames have, found 40 x 30", root
        )

    @pytest.mark.parametrize(
        ("small", "text"),
        [(True, "expected .*, as the frames have, found 40 x 30"), (False, "cannot be read as a")],
    )
    def test_a_wrong_later_mask_is_known_before_anything_is_tracked(
        self, small: bool, text: str, root: Path
    ) -> None:
        frames: list[int] = []

        class Counted(Progress):
            def advance(self, count: int, doing: str = "") -> None:
                frames.append(count)

        path = root / "Annotations/480p/car/00002.png"
        if small:
            Image.open(path).resize((40, 30), Image.Resampling.NEAREST).save(path)
        else:
            path.write_bytes(b"")
        text = f"^{re.escape(str(path))}: {text}"
        kind = UnreadableError if small else RefusedError
        self.refused(kind, text, root, progress=Counted())
        assert len(frames) == 1  # all of the video at once, as it has failed

    def test_no_first_mask(self, root: Path) -> None:
        (root / "Annotations/480p/car/00000.png").unlink()
        self.refused(UnreadableError, "expected a mask of the first frame, 00000", root)

    def test_a_mask_of_a_frame_that_is_not_there(self, root: Path) -> None:
        (root / "JPEGImages/480p/car/00002.jpg").unlink()
        self.refused(MissingFileError, "has a mask of frame 00002, which is not in", root)

    def test_hidden_files_are_no_frames_and_no_masks(self, root: Path) -> None:
        """As macOS leaves them beside each file on other disks."""
        model = root.parent / "model.pt"
        sam21convert.sample(model, DEBUG[0])
        before = sam21convert.evaluate(model, root)
        for path in root.rglob("0*.*g"):
            path.with_name(f"._{path.name}").write_bytes(b"attributes")
        assert sam21convert.evaluate(model, root) == before

    def test_two_folders_of_one_number(self, tmp_path: Path) -> None:
        root = data(tmp_path / "DATA", "sav")
        objects = root / "Annotations_6fps/car"
        (objects / "001").rename(objects / "00")
        self.refused(UnreadableError, "a folder for each object, found 00 and 000", root)

    def test_ids_that_no_byte_holds(self, root: Path) -> None:
        path = root / "Annotations/480p/car/00000.png"
        Image.fromarray(200 * np.array(Image.open(path)).astype(np.uint16)).save(path)
        self.refused(RefusedError, r"00000\.png: expected ids from 0 to 255, found 400", root)

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0, "the first mask shows no object"), (255, "the first mask shows nothing but 255")],
    )
    def test_a_first_mask_without_objects_is_known_before_it_is_tracked(
        self, root: Path, value: int, text: str
    ) -> None:
        (root / "JPEGImages").rename(root / "frames")  # which would be the next to be looked for
        path = root / "Annotations/480p/car/00000.png"
        ids = np.array(Image.open(path))
        Image.fromarray(np.where(ids, value, 0).astype(np.uint8)).save(path)
        self.refused(RefusedError, text, root)

    def test_what_cannot_be_scored_is_known_before_it_is_tracked(self, root: Path) -> None:
        (root / "JPEGImages").rename(root / "frames")  # which would be the next to be looked for
        for path in sorted((root / "Annotations/480p/car").iterdir())[1:]:
            path.unlink()
        self.refused(RefusedError, "expected masks of 3 frames or more", root)

    @pytest.mark.parametrize(
        "place", ["", "Annotations/480p", "Annotations/480p/new", "JPEGImages"]
    )
    def test_masks_among_the_data(self, root: Path, place: str) -> None:
        before = contents(root)
        with pytest.raises(UsageError, match="would be written among the data set in"):
            sam21convert.evaluate("model.pt", root, masks=root / place, overwrite=True)
        assert contents(root) == before

    def test_masks_that_are_in_the_way(self, root: Path) -> None:
        model = root.parent / "model.pt"
        sam21convert.sample(model, DEBUG[0])
        (root.parent / "masks").mkdir()
        (root.parent / "masks/mine.txt").touch()
        with pytest.raises(UsageError, match="masks: exists"):
            sam21convert.evaluate(model, root, masks=root.parent / "masks")
