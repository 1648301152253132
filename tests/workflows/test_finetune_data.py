"""What ``finetune`` trains on: layouts, refusals before the first step, what is drawn."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sam21convert.errors import RefusedError, Sam21ConvertError, UsageError
from sam21convert.evaluation.masks import Masks
from sam21convert.model.image_predictor import pixels_of
from sam21convert.report import SILENT
from sam21convert.workflows.finetune.augment import Changes, Tint
from sam21convert.workflows.finetune.data import Data, Kind, open_data
from sam21convert.workflows.finetune.footage import WithIds
from sam21convert.workflows.finetune.sampling import MOST_OBJECTS, Draws

from ..support import moving_shapes as made

LENGTH = 6


def opened(root: Path, kind: Kind | None = None, length: int = 4) -> Data:
    return open_data(root, kind, length, SILENT)


def davis(root: Path) -> Path:
    """Videos as DAVIS has them, one of which is for validation."""
    made.videos(root / "raw", range(3), length=LENGTH)
    for name in ("JPEGImages", "Annotations"):
        (root / "DAVIS" / name).mkdir(parents=True)
        shutil.move(root / "raw" / name, root / "DAVIS" / name / "480p")
    listed = root / "DAVIS/ImageSets/2017/val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("video1\n")
    return root / "DAVIS"


def pngs(root: Path) -> Path:
    """Videos whose frames are PNGs."""
    made.videos(root, range(2), length=LENGTH)
    for path in root.rglob("*.jpg"):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    return root


def sav(root: Path) -> Path:
    """Videos as SA-V has them: a folder for each object, and a mask of every second frame."""
    made.videos(root, range(2), length=LENGTH)
    for video in (root / "Annotations").iterdir():
        for path in [*video.iterdir()]:
            ids = np.array(Image.open(path))
            path.unlink()
            for number in (1, 2) if int(path.stem) % 2 == 0 else ():
                (video / f"{number:03d}").mkdir(exist_ok=True)
                mask = np.where(ids == number, 255, 0).astype(np.uint8)
                Image.fromarray(mask).save(video / f"{number:03d}" / path.name)
    (root / "Annotations").rename(root / "Annotations_6fps")
    return root


def voc(root: Path) -> Path:
    """Pictures as PASCAL VOC has them, with outlines of 255."""
    made.pictures(root)
    (root / "images").rename(root / "JPEGImages")
    (root / "masks").rename(root / "SegmentationObject")
    for path in (root / "SegmentationObject").iterdir():
        ids = np.array(Image.open(path))
        ids[0] = 255
        Image.fromarray(ids).save(path)
    return root


Maker = Callable[[Path], Path]
Change = Callable[[Path], object]
LAYOUTS: dict[str, tuple[Maker, str, Kind, int, int]] = {
    "MOSE": (lambda root: made.videos(root, range(2), length=LENGTH), "mose", "video", 2, LENGTH),
    "frames as PNGs": (pngs, "mose", "video", 2, LENGTH),
    "DAVIS": (davis, "davis", "video", 2, LENGTH),
    "SA-V": (sav, "sav", "video", 2, LENGTH // 2),
    "ids": (made.pictures, "ids", "images", 3, 1),
    "PASCAL VOC": (voc, "ids", "images", 3, 1),
    "COCO": (made.coco, "coco", "images", 3, 1),
    "COCO, its JSON": (lambda root: made.coco(root) / "data.json", "coco", "images", 3, 1),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_read(name: str, tmp_path: Path) -> None:
    make, layout, kind, count, length = LAYOUTS[name]
    data = opened(make(tmp_path / "data"), length=2)
    assert (data.layout, data.kind, len(data.footage)) == (layout, kind, count)
    for footage in data.footage:
        number = int(footage.name.removeprefix("video").partition(".")[0])
        drawn = made.clip(number, LENGTH)[:: 1 if layout != "sav" else 2][:length]
        assert len(footage.frames) == len(drawn)
        for frame, seen, (picture, ids) in zip(footage.frames, footage.seen, drawn, strict=True):
            found = [*frame.masks().values()]
            assert len(seen) == len(found) == 2
            there = [ids == 1, ids == 2]
            if name == "PASCAL VOC":  # whose first row is an outline here
                there = [np.where(np.arange(made.HEIGHT)[:, None], one, False) for one in there]
            np.testing.assert_array_equal(found, there)
            assert np.abs(np.array(frame.load()).astype(int) - picture).mean() < 8  # JPEG


def test_frames_of_videos_are_drawn_singly(tmp_path: Path) -> None:
    data = opened(made.videos(tmp_path, range(2), length=3), "images", length=99)
    assert Draws(data, 99, 0).epoch == 6
    clip, _ = Draws(data, 99, 0).draw(0)
    assert len(clip.frames) == 1


def test_the_videos_for_validation_are_left_out(tmp_path: Path) -> None:
    assert [one.name for one in opened(davis(tmp_path)).footage] == ["video0", "video2"]


def spoil(change: Change, make: Maker = made.pictures) -> Maker:
    def spoilt(root: Path) -> Path:
        make(root)
        change(root)
        return root

    return spoilt


def save(path: Path, pixels: Any) -> None:
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def smoothed(root: Path) -> None:
    mask = Image.fromarray(np.where(made.clip(0, 1)[0][1] == 1, 255, 0).astype(np.uint8))
    mask.resize((30, 22)).resize((made.WIDTH, made.HEIGHT), Image.Resampling.BICUBIC).save(
        root / "masks/0.png"
    )


def in_json(change: Callable[[Any], None]) -> Maker:
    def changed(root: Path) -> None:
        content = json.loads((root / "data.json").read_text())
        change(content)
        (root / "data.json").write_text(json.dumps(content))

    return spoil(changed, made.coco)


def annotation(**fields: Any) -> Maker:
    return in_json(lambda content: content["annotations"][0].update(fields))


def picture(**fields: Any) -> Maker:
    return in_json(lambda content: content["images"][0].update(fields))


def videos(change: Change) -> Maker:
    return spoil(change, lambda root: made.videos(root, range(2), length=LENGTH))


def nothing_in(video: Path) -> None:
    for path in video.iterdir():
        save(path, np.zeros((made.HEIGHT, made.WIDTH)))


def late(root: Path) -> None:
    """An object that is there on the last frame only."""
    for path in sorted((root / "Annotations/video1").iterdir())[:-1]:
        save(path, np.zeros((made.HEIGHT, made.WIDTH)))


def lists_others(root: Path) -> None:
    stated = {name: {"objects": ["1"]} for name in ("video0", "video1")}
    (root / "meta.json").write_text(json.dumps({"videos": stated}))


def all_for_validation(root: Path) -> None:
    (root / "sav_val.txt").write_text("video0\nvideo1\n")


RUNS = {"size": [made.HEIGHT, made.WIDTH]}
REFUSED: dict[str, tuple[Maker, str]] = {
    "nothing known": (spoil(lambda root: root.mkdir(), lambda root: root), "found nothing"),
    "no such folder": (lambda root: root, "No such file or directory"),
    "no object": (
        spoil(lambda root: save(root / "masks/1.png", np.zeros((made.HEIGHT, made.WIDTH)))),
        "1.png: its mask shows no object",
    ),
    "colours": (
        spoil(lambda root: save(root / "masks/1.png", np.zeros((made.HEIGHT, made.WIDTH, 3)))),
        "expected ids of objects",
    ),
    "another size": (
        spoil(lambda root: save(root / "masks/1.png", np.ones((9, 8)))),
        "1.png: expected 96 x 72 pixels",
    ),
    "smoothed": (spoil(smoothed), "whose edges were smoothed"),
    "no picture": (spoil(lambda root: (root / "images/2.png").unlink()), "expected a picture 2"),
    "two pictures": (
        spoil(lambda root: shutil.copy(root / "images/2.png", root / "images/2.jpg")),
        "expected one picture 2, found 2.jpg and 2.png",
    ),
    "a broken mask": (
        spoil(lambda root: (root / "masks/0.png").write_bytes(b"\x89PNG\r\n\x1a\nx")),
        "0.png",
    ),
    "a broken picture": (
        spoil(lambda root: (root / "images/0.png").write_bytes(b"\x89PNG\r\n\x1a\nx")),
        "0.png",
    ),
    "more than 8 bits": (
        spoil(lambda root: Image.new("I;16", (96, 72)).save(root / "images/0.png")),
        "0.png: expected 8 bits per channel",
    ),
    "a short video": (
        videos(lambda root: (root / "Annotations/video1/00005.png").unlink()),
        "video video1 has masks of 5 frames, and clips have 6",
    ),
    "a frame without a picture": (
        videos(lambda root: (root / "JPEGImages/video1/00003.jpg").unlink()),
        "there is no frame 00003",
    ),
    "no frames": (
        videos(lambda root: shutil.rmtree(root / "JPEGImages")),
        "training needs the frames of each video",
    ),
    "an empty video": (
        videos(lambda root: nothing_in(root / "Annotations/video1")),
        "shows no object in any mask",
    ),
    "an object too late": (videos(late), "no 6 frames in a row begin with one that shows"),
    "an id that is not listed": (videos(lists_others), "has object 2, which"),
    "all for validation": (videos(all_for_validation), "none is left to train on"),
    "no JSON of COCO": (
        in_json(lambda content: content.pop("images")),
        "expected the lists images and annotations",
    ),
    "two JSON files": (
        spoil(lambda root: (root / "more.json").write_text("{}"), made.coco),
        "has several JSON files, data.json and more.json",
    ),
    "a picture that is not listed": (annotation(image_id=99), "is of the picture 99"),
    "a box alone": (annotation(segmentation=[]), "has an empty mask"),
    "no segmentation": (annotation(segmentation=None), "expected polygons or run lengths"),
    "half a point": (annotation(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "expected polygons"),
    "a point nowhere": (annotation(segmentation=[[1, 2, 3, 4, 5, 1e300]]), "expected polygons"),
    "runs of another size": (
        annotation(segmentation={"size": [9, 9], "counts": [81]}),
        "found the size",
    ),
    "runs that are too long": (
        annotation(segmentation={**RUNS, "counts": [99999]}),
        "expected run lengths of 6,912 pixels",
    ),
    "runs below nothing": (
        annotation(segmentation={**RUNS, "counts": [6913, -1]}),
        "expected run lengths of 6,912 pixels",
    ),
    "runs that are no text of runs": (
        annotation(segmentation={**RUNS, "counts": "\x7f"}),
        "expected run lengths of 6,912 pixels",
    ),
    "a picture of another size": (picture(width=95), "expected 95 x 72 pixels"),
    "a picture without a size": (picture(width=None), "expected file_name, height and width"),
    "a picture elsewhere": (picture(file_name="../data.json"), "there is no such picture"),
    "a picture without an id": (picture(id=None), "an id of its own in each of images"),
    "two pictures with one id": (picture(id=1), "an id of its own in each of images"),
    "two annotations with one id": (annotation(id=1), "an id of its own in each of annotations"),
    "a picture that is a list": (annotation(image_id=[0]), "is of the picture [0]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_on_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    make, said = REFUSED[name]
    root = make(tmp_path / "data")
    with pytest.raises(Sam21ConvertError) as caught:
        opened(root, length=LENGTH)
    assert said in caught.value.message
    assert str(root) in caught.value.message
    assert "\n" not in caught.value.message


def test_what_a_hint_asks_for_is_taken(tmp_path: Path) -> None:
    short = REFUSED["a short video"][0](tmp_path / "short")
    with pytest.raises(RefusedError) as caught:
        opened(short, length=LENGTH)
    assert caught.value.hint == (
        f"`frames={LENGTH - 1}` fits all, and `images=True` trains on single frames"
    )
    assert opened(short, length=LENGTH - 1).kind == "video"
    assert opened(short, "images").kind == "images"

    one = REFUSED["an object too late"][0](tmp_path / "late")
    with pytest.raises(RefusedError) as caught:
        opened(one, length=LENGTH)
    assert caught.value.hint == "`frames=1` or fewer can be drawn of it"
    assert opened(one, length=1).kind == "video"

    pictures = made.pictures(tmp_path / "pictures")
    with pytest.raises(UsageError) as clips:
        opened(pictures, "video")
    assert clips.value.hint == "`images=True` trains on pictures"
    assert opened(pictures, "images").kind == "images"


def test_a_mask_with_many_small_objects_is_none_that_was_smoothed(tmp_path: Path) -> None:
    """Control."""
    ids = np.zeros((40, 40), np.uint8)
    for number in range(36):
        row, column = divmod(number, 6)
        ids[6 * row : 6 * row + 4, 6 * column : 6 * column + 4] = number + 1
    save(tmp_path / "a.png", ids)
    frame = WithIds("a", tmp_path / "a.png", Masks(tmp_path), "a")
    assert len(frame.masks()) == 36


def test_clips_are_consecutive_and_begin_with_their_objects(tmp_path: Path) -> None:
    data = opened(made.videos(tmp_path, range(3), length=LENGTH), length=3)
    draws = Draws(data, 3, seed=7)
    starts = set()
    for number in range(60):
        clip, _ = draws.draw(number)
        numbers = [int(frame.name.rpartition(" ")[2]) for frame in clip.frames]
        assert numbers == [*range(numbers[0], numbers[0] + 3)]
        assert {*clip.objects} <= {*clip.frames[0].masks()}
        assert 0 < len(clip.objects) <= MOST_OBJECTS
        starts.add(numbers[0])
    assert starts == {0, 1, 2, 3}


def test_an_epoch_draws_everything_once_in_another_order(tmp_path: Path) -> None:
    draws = Draws(opened(made.pictures(tmp_path, 8)), 4, seed=0)
    orders = []
    for epoch in range(3):
        clips = [draws.draw(epoch * draws.epoch + at)[0] for at in range(draws.epoch)]
        orders.append([clip.frames[0].name for clip in clips])
        assert len({*orders[-1]}) == 8
    assert orders[0] != orders[1] != orders[2]


def test_a_draw_depends_on_its_number_and_the_seed_alone(tmp_path: Path) -> None:
    data = opened(made.videos(tmp_path, range(3), length=LENGTH), length=3)

    def drawn(number: int, seed: int) -> tuple[Any, ...]:
        clip, rng = Draws(data, 3, seed).draw(number)
        return clip.frames[0].name, [*clip.objects], float(rng.random())

    first = [drawn(number, 0) for number in range(9)]
    assert first == [drawn(number, 0) for number in reversed(range(9))][::-1]
    assert first != [drawn(number, 1) for number in range(9)]


PLAIN = Tint((), (1.0, 1.0, 1.0))
TURNED = Changes(True, 17.0, -12.0, PLAIN, False, (PLAIN,))


def placed(changes: Changes, side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """A white object on black, and its mask, both changed."""
    mask = made.clip(0, 1)[0][1] == 1
    white = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("RGB")
    frames, masks = changes.apply([white], [{"1": mask}], ["1"], side)
    return frames[0, 0] > frames[0, 0].mean(), masks[0, 0]


def apart(one: torch.Tensor, other: torch.Tensor) -> int:
    """Pixels of two masks that differ, and not only along the edge."""
    edge = torch.nn.functional.max_pool2d(other[None].float(), 5, 1, 2) - (
        1 - torch.nn.functional.max_pool2d(1 - other[None].float(), 5, 1, 2)
    )
    return int(((one != other) & (edge[0] == 0)).sum())


def test_a_mask_goes_where_its_object_goes() -> None:
    seen, mask = placed(TURNED)
    # The mean colour fills what the turned picture does not cover; it is no object.
    far = torch.nn.functional.max_pool2d(mask[None].float(), 9, 1, 4)[0] == 0
    assert mask.any()
    assert apart(seen & ~far, mask) == 0
    left, _ = placed(Changes(False, 0, 0, PLAIN, False, (PLAIN,)))
    assert apart(left & ~far, mask) > 0  # control: a picture that is not changed as its mask is


def test_what_would_lose_an_object_is_neither_turned_nor_sheared() -> None:
    mask = np.zeros((64, 64), bool)
    mask[0, 0] = True
    black = Image.new("RGB", (64, 64))
    changes = Changes(True, 25.0, 20.0, PLAIN, False, (PLAIN,))
    frames, masks = changes.apply([black], [{"1": mask}], ["1"], 64)
    assert masks[0, 0].nonzero().tolist() == [[0, 63]]
    assert torch.equal(frames[0], pixels_of(black, 64)[0])


def test_an_object_that_a_frame_does_not_show_has_an_empty_mask_there() -> None:
    mask = made.clip(0, 1)[0][1] == 1
    black = Image.new("RGB", (made.WIDTH, made.HEIGHT))
    changes = Changes.drawn(np.random.default_rng(0), 2)
    _, masks = changes.apply([black] * 2, [{"1": mask}, {}], ["1"], 64)
    assert masks.flatten(2).any(2).tolist() == [[True], [False]]


def test_frames_are_coloured_together_and_a_little_each_by_itself() -> None:
    changes = Changes.drawn(np.random.default_rng(3), 5)
    assert len({tint.factors for tint in changes.tints}) == 5
    grey = Image.new("RGB", (8, 8), (90, 120, 200))
    frames, _ = changes.apply([grey] * 5, [{"1": np.ones((8, 8), bool)}] * 5, ["1"], 8)
    assert len({float(frame[0, 4, 4]) for frame in frames}) == 5


def test_what_is_changed_is_as_often_and_as_much_as_officially() -> None:
    drawn = [Changes.drawn(np.random.default_rng(seed), 1) for seed in range(2000)]
    assert 900 < sum(one.flip for one in drawn) < 1100
    assert 60 < sum(one.grey for one in drawn) < 140
    assert 24 < max(one.degrees for one in drawn) <= 25
    assert -20 <= min(one.shear for one in drawn) < -19
    assert 1.09 < max(one.tint.factors[0] for one in drawn) <= 1.1
    assert 1.029 < max(one.tint.factors[1] for one in drawn) <= 1.03
    assert len({one.tint.order for one in drawn}) == 6
