"""The picture of a card: the user's photo, with the masks that the published model finds in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sam21convert
from sam21convert import Box, Point, UsageError
from sam21convert.prediction.draw import scene
from sam21convert.prediction.prompts import Prompt
from sam21convert.workflows.publish import push, repository
from sam21convert.workflows.publish.example import Example, read_example
from sam21convert.workflows.publish.present import Present
from sam21convert.workflows.publish.repository import Repository, compose

from ..commands.test_commands import run
from ..support.checkpoints import DEBUG
from .test_repository import REPO, at_work, card, programs, ran

__all__ = ["at_work"]

SECRETS = (b"Jane Roe", b"Exif", b"GPS-of-my-home", b"jane")
WIDTH, HEIGHT = 1500, 750  # as it is seen; the file has it on its side
HOUSE, SUN = (525, 465), (1170, 150)
PROMPTS: dict[str, list[Prompt]] = {
    "candidates": [Point(*HOUSE)],
    "one mask": [Box(300, 300, 750, 600), Point(525, 330, label=0)],
    "objects": [Point(*HOUSE, obj_id="house"), Box(1000, 60, 1300, 240, obj_id="the-sun")],
}


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo with all that a camera writes into it."""
    path = tmp_path_factory.mktemp("photo") / "jane-in-our-garden.jpg"
    picture = Image.fromarray(scene(750)).resize((WIDTH, HEIGHT))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    exif[0x013B] = "Jane Roe"
    exif.get_ifd(0x8825)[0x001B] = b"GPS-of-my-home"
    picture.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, comment=b"jane")
    assert all(secret in path.read_bytes() for secret in SECRETS)
    return path


@pytest.fixture(scope="module")
def published(
    photo: Path, checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Repository]:
    home = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository, "compared", lambda *_: [])
        return {
            name: compose(
                checkpoints(DEBUG),
                home / name.replace(" ", "-"),
                REPO,
                to="hf-image",
                with_official=True,
                example=read_example(photo, prompts),
            )
            for name, prompts in PROMPTS.items()
        }


@pytest.fixture(params=PROMPTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def masks_of(found: Mapping[str, Any]) -> list[Any]:
    """The masks of a program, of whatever shape."""
    masks = found["masks"]
    if isinstance(masks, dict):
        return [np.asarray(mask) > 0 for mask in masks.values()]
    return [*(np.asarray(masks).reshape(-1, HEIGHT * 1024 // WIDTH, 1024) > 0)]


@pytest.mark.usefixtures("at_work")
def test_the_programs_find_the_masks_of_the_picture(
    published: Mapping[str, Repository], photo: Path, name: str
) -> None:
    made = published[name]
    shown = read_example(photo, PROMPTS[name])
    expected = sam21convert.predict_image(
        made.folder / "photo.jpg", made.folder, None, shown.prompts, device="cpu"
    ).arrays
    found = [masks_of(ran(program, made.folder)) for program in programs(made)]
    assert [len(masks) for masks in found] == [len(expected)] * 3
    transformers, official, own = found
    assert all(map(np.array_equal, official, expected))
    assert all(map(np.array_equal, own, expected))
    for theirs, mask in zip(transformers, expected, strict=True):  # it rounds what it resizes
        assert (theirs == mask).mean() > 0.98
        assert (theirs == ~mask).mean() < 0.98


def test_nothing_but_pixels_is_published(published: Mapping[str, Repository], name: str) -> None:
    made = published[name]
    for path in made.folder.iterdir():
        content = path.read_bytes()
        assert not [secret for secret in SECRETS if secret in content], path
    with Image.open(made.folder / "photo.jpg") as picture:
        assert not picture.getexif()
        assert {*picture.info} <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        upright = picture.resize((96, 96))
    assert np.abs(np.asarray(upright, int) - scene(96)).mean() < 8
    assert np.abs(np.asarray(upright.rotate(90), int) - scene(96)).mean() > 8


def test_picture_and_photo_are_of_bounded_size(
    published: Mapping[str, Repository], name: str
) -> None:
    with Image.open(published[name].folder / "photo.jpg") as picture:
        assert picture.size == (1024, 512)
    with Image.open(published[name].folder / "example.png") as picture:
        assert max(picture.size) <= 1600


def test_the_card_says_what_is_shown(published: Mapping[str, Repository]) -> None:
    text = {name: card(made) for name, made in published.items()}
    assert "Three candidate masks for one point in [`photo.jpg`](photo.jpg)." in text["candidates"]
    assert "The mask for a box and one point in [`photo" in text["one mask"]
    assert re.search(r"`house` \(0\.\d\d\), `the-sun` \(0\.\d\d\)\.", text["objects"])
    assert all(
        re.search(r"tensors took up to [\d.]+ [MG]B of memory", one) for one in text.values()
    )
    assert not any("scene" in note for made in published.values() for note in made.notes)
    x, y = (value * 1024 / WIDTH for value in HOUSE)
    assert f"[[[[{int(x * 10) / 10}, {int(y * 10) / 10}]]]]" in text["candidates"]


def test_the_command_hands_it_to_what_composes_the_repository(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Example | None] = []

    def enough(*_: object, example: Example | None, **__: object) -> None:
        seen.append(example)
        raise UsageError("enough")

    monkeypatch.setattr(push, "check_user", lambda *_, **__: None)
    monkeypatch.setattr(push, "ask", lambda *_, **__: Present())
    monkeypatch.setattr(push, "compose", enough)
    asked = ["--example", photo, "--point", "525,330,0", "--box", "300,300,750,600"]
    there = photo  # no checkpoint, but nothing here opens it
    assert run("push", there, REPO, *asked).exit_code == 2
    assert run("push", there, REPO).exit_code == 2
    expected = read_example(photo, [*reversed(PROMPTS["one mask"])])
    assert seen == [expected, None]


def test_a_small_photo_and_its_prompts_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "small.png"
    Image.fromarray(scene(96)).save(path)
    prompts: list[Prompt] = [Point(5.25, 7), Box(1, 2, 96, 96)]
    shown = read_example(path, prompts)
    assert (shown.picture.size, shown.prompts) == ((96, 96), prompts)


def test_prompts_at_the_edge_stay_inside(photo: Path) -> None:
    edge = WIDTH - 0.001, HEIGHT - 0.001
    point, box = read_example(photo, [Point(*edge), Box(0, 0, WIDTH, HEIGHT)]).prompts
    assert isinstance(point, Point)
    assert (point.x, point.y) == (1023.9, 511.9)
    assert isinstance(box, Box)
    assert (box.x1, box.y1) == (1024, 512)


@pytest.mark.parametrize(
    ("options", "says", "hint"),
    [
        (["--point", "9,9"], "none is given", "--example PHOTO gives one"),
        (["--example", "PHOTO"], "expected a point or a box in it", "for example --point 210,350"),
        (
            ["--example", "PHOTO", "--point", "9,9", "--parity", "none"],
            "--parity none runs none",
            "leave --parity none out",
        ),
        (["--example", "PHOTO", "--point", "9,2000"], "not inside the picture", ""),
        (["--example", "PHOTO", "--box", "9,9"], "expected [OBJECT:]X0,Y0,X1,Y1", "for example"),
        (["--example", "PHOTO", "--point", "9,9@3"], "is for frame 3", ""),
    ],
)
def test_what_does_not_go_together_is_told_before_anything_is_done(
    photo: Path, options: list[str], says: str, hint: str
) -> None:
    words = [str(photo) if word == "PHOTO" else word for word in options]
    done = run("push", "no-such-file.pt", REPO, *words)
    assert done.exit_code == 2
    assert says in done.stderr
    assert hint in done.stderr
    complete = run("push", "no-such-file.pt", REPO, "--example", str(photo), "--point", "9,9")
    assert complete.exit_code == 3


def test_a_photo_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_example(tmp_path / "none.jpg", [Point(1, 1)])
    with pytest.raises(UsageError):
        read_example(tmp_path / "none.jpg", [])
