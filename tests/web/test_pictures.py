"""A picture on the page: the masks of the Python API, bit for bit, and the command that repeats."""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import sam21convert
from sam21convert.model import SAM2AutomaticMaskGenerator
from sam21convert.model.image_predictor import SAM2ImagePredictor
from sam21convert.model.run_lengths import decode
from sam21convert.web.sides import Side

from ..commands.test_commands import run
from ..support.web import Answer, Page

POINTS = [[42.5, 60.0, 1], [100.0, 12.0, 0]]
BOX = [20.0, 30.0, 70.0, 85.0]
Array = NDArray[Any]


def masks_of(answer: Answer) -> list[list[Array]]:
    return [[decode(runs) for runs in side["masks"]] for side in answer["sides"]]


def in_python(path: Path, work: Path, points: list[list[float]], box: list[float] | None) -> Any:
    model, _ = sam21convert.load_model(work / path)
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(np.asarray(Image.open(work / "house.png")))
    places, labels = [point[:2] for point in points], [point[2] for point in points]
    return predictor.predict(places or None, labels or None, box)


@pytest.mark.parametrize(
    ("points", "box"),
    [(POINTS[:1], None), (POINTS, None), ([], BOX), (POINTS, BOX)],
    ids=["a point", "two points", "a box", "both"],
)
def test_candidates_are_those_of_the_python_api_bit_for_bit(
    page: Page, work: Path, points: list[list[float]], box: list[float] | None
) -> None:
    assert page.open(work / "house.png") == {
        "kind": "picture",
        "name": "house.png",
        "width": 120,
        "height": 90,
        "frames": 1,
    }
    answer = page.ask("prompt", points=points, box=box)
    found = masks_of(answer)
    for number, name in enumerate(("first.pt", "second.pt")):
        masks, ious, _ = in_python(Path(name), work, points, box)
        assert np.array_equal(found[number], masks)
        assert answer["sides"][number]["ious"] == ious.tolist()
    one, other = (np.array(masks) for masks in found)
    union, common = (one | other).sum((1, 2)), (one & other).sum((1, 2))
    assert answer["alike"] == (common / union).tolist()
    assert not np.array_equal(one, other)


def test_the_command_repeats_what_was_clicked(
    page: Page, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    page.open(work / "house.png")
    answer = page.ask("prompt", points=POINTS, box=BOX)
    for side, command in enumerate(answer["commands"]):
        program, *words = shlex.split(command)
        assert program == "sam21convert"
        done = run(*words)
        assert done.exit_code == 0, done.output
        stem = words[words.index("-o") + 1].removesuffix(".png")
        written = [np.asarray(Image.open(f"{stem}.mask{at}.png")) > 0 for at in range(3)]
        assert np.array_equal(written, masks_of(answer)[side])
        assert not np.array_equal(written, masks_of(answer)[1 - side])


def test_everything_is_that_of_the_generator(page: Page, work: Path, two: tuple[Side, ...]) -> None:
    page.open(work / "house.png")
    generators = [
        SAM2AutomaticMaskGenerator(side.images.predictor.model, points_per_side=8) for side in two
    ]
    *told, end = page.lines("everything", points_per_side=8)
    picture = np.asarray(Image.open(work / "house.png"))
    for side, generator in zip(end["result"]["sides"], generators, strict=True):
        wanted = sorted(generator.generate(picture), key=lambda one: -one["area"])
        assert len(side["masks"]) == len(wanted) > 0
        for runs, one in zip(side["masks"], wanted, strict=True):
            assert np.array_equal(decode(runs), one["segmentation"])
    assert [one["done"] for one in told if one["done"] == one["total"]] == [64, 64]
    assert "--everything --points-per-side 8" in end["result"]["commands"][0]


def test_masks_are_downloaded_as_predict_writes_them(page: Page, work: Path) -> None:
    page.open(work / "house.png")
    answer = page.ask("prompt", points=POINTS[:1])
    for side in (0, 1):
        status, data = page.raw("GET", f"download/masks/{side}")
        assert status == 200
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.namelist() == [f"house.mask{at}.png" for at in range(3)]
            read = [np.asarray(Image.open(archive.open(name))) for name in archive.namelist()]
        assert np.array_equal(np.array(read) == 255, masks_of(answer)[side])
        coco = json.loads(page.raw("GET", f"download/coco/{side}")[1])
        assert [one["area"] for one in coco["annotations"]] == [
            int(mask.sum()) for mask in masks_of(answer)[side]
        ]
        assert coco["images"] == [{"id": 1, "file_name": "house.png", "width": 120, "height": 90}]
    assert page.raw("GET", "download/video/0")[0] == 422


def test_a_picture_that_browsers_do_not_show_is_shown_as_jpeg(
    page: Page, work: Path, tmp_path: Path
) -> None:
    Image.open(work / "house.png").save(tmp_path / "house.tiff")
    page.open(tmp_path / "house.tiff")
    status, data = page.raw("GET", "frame/0")
    assert (status, Image.open(io.BytesIO(data)).size) == (200, (120, 90))


def test_a_picture_is_turned_upright(page: Page, work: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(work / "house.png").convert("RGB").save(tmp_path / "turned.jpg", exif=exif)
    facts = page.open(tmp_path / "turned.jpg")
    assert (facts["width"], facts["height"]) == (90, 120)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"points": [[120, 5, 1]]}, "point 120,5: is not inside the picture, which has 120 x 90"),
        ({"points": [[-1, 5, 1]]}, "is not inside the picture"),
        ({"points": [[1, 5, 2]]}, "expected x, y and 1 on the object or 0 off it"),
        ({"points": [[1, "5", 1]]}, "expected 3 numbers"),
        ({"points": [[1, float("nan"), 1]]}, "expected 3 numbers"),
        ({"points": [[1, 2, 1]] * 201}, "a list of 200 at most"),
        ({"points": 5}, "a list of 200 at most"),
        ({"box": [5, 5, 5, 9]}, "expected x0 < x1 and y0 < y1"),
        ({"box": [5, 5, 9]}, "expected 4 numbers"),
        ({"points": [[1, 2, 1]], "box": [0, 0, 500, 10]}, "is not inside the picture"),
        ({}, "no prompt"),
    ],
)
def test_what_no_page_asks_is_refused(page: Page, work: Path, given: Answer, said: str) -> None:
    page.open(work / "house.png")
    assert said in page.ask("prompt", 422, **given)["error"]
    assert page.ask("prompt", points=POINTS)["sides"]
