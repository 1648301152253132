"""Pictures and frames become what the model takes, to the last bit or but for rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sam21convert.errors import MissingFileError, RefusedError, UnreadableError
from sam21convert.export.runtime import Frames
from sam21convert.export.runtime.pictures import load_frames, pixels_of
from sam21convert.model import image_predictor, video_files, video_frames

from ..model.test_video_frames import encode
from ..support import videos
from ..support.rounding import EPSILON, MULTIPLE

SIDE = 128


def noisy(height: int, width: int) -> Any:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("size", [(90, 120), (SIDE, SIDE), (301, 57), (40, 1000)])
@pytest.mark.parametrize("kind", ["bytes", "floats", "picture", "reversed"])
def test_a_picture(size: tuple[int, int], kind: str) -> None:
    image = noisy(*size)
    if kind == "floats":
        image = image / np.float32(255)
    if kind == "picture":
        image = Image.fromarray(image)
    if kind == "reversed":
        image = image[::-1, :, ::-1]
    theirs = image_predictor.pixels_of(image, SIDE).numpy()
    mine = pixels_of(image, SIDE)
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    assert np.abs(mine - theirs).max() < MULTIPLE * EPSILON * np.abs(theirs).max()


def test_another_filter_is_seen() -> None:
    theirs = image_predictor.pixels_of(noisy(301, 57), SIDE).numpy()
    square = np.asarray(Image.fromarray(noisy(301, 57)).resize((SIDE, SIDE)))
    assert np.abs(pixels_of(square, SIDE) - theirs).max() > MULTIPLE * EPSILON


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((0, 4, 3)), np.zeros((4, 4, 3), int), "picture.png"]
)
def test_what_is_no_picture(image: Any) -> None:
    with pytest.raises(ValueError, match="^image: expected"):
        pixels_of(image, SIDE)


def same(mine: Frames, theirs: video_frames.Frames) -> bool:
    assert (len(mine.images), mine.height, mine.width) == (
        len(theirs.images),
        theirs.height,
        theirs.width,
    )
    return all(
        np.array_equal(mine.images[number], theirs.images[number].numpy())
        for number in range(len(mine.images))
    )


def test_a_folder_and_frames_in_memory(tmp_path: Path) -> None:
    shots = [videos.frame(number) for number in range(3)]
    for number, shot in enumerate(shots):
        Image.fromarray(shot).save(tmp_path / f"{number}.jpg")
    assert same(load_frames(tmp_path, SIDE), video_frames.load_frames(tmp_path, SIDE, "cpu"))
    theirs = video_frames.load_frames(shots, SIDE, "cpu")
    for given in (shots, np.stack(shots), [Image.fromarray(shot) for shot in shots]):
        assert same(load_frames(given, SIDE), theirs)
    assert not same(load_frames(shots[::-1], SIDE), theirs)


def test_a_video_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shots = np.stack([videos.frame(number) for number in range(3)])
    path = encode(tmp_path / "clip.mp4", "mpeg4", "yuv420p", shots)
    assert same(load_frames(path, SIDE), video_frames.load_frames(path, SIDE, "cpu"))
    monkeypatch.setattr(video_files, "free_memory", lambda _: 3 * 5 * SIDE**2 - 1)
    with pytest.raises(RefusedError, match="has 3 frames, .* holds 2 frames"):
        load_frames(path, SIDE)


def test_frames_that_are_prepared_already_are_taken_as_they_are() -> None:
    prepared = torch.randn(2, 3, SIDE, SIDE).numpy()
    given = Frames(prepared, 90, 120)
    assert load_frames(given, SIDE) is given
    with pytest.raises(ValueError, match="expected frames of the shape"):
        load_frames(given, SIDE + 32)


def test_what_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        load_frames(tmp_path / "gone", SIDE)
    (tmp_path / "video.mp4").write_text("a text")
    with pytest.raises(RefusedError, match="cannot be decoded as a video"):
        load_frames(tmp_path / "video.mp4", SIDE)
    with pytest.raises(UnreadableError, match="found none"):
        load_frames(tmp_path, SIDE)
    Image.fromarray(videos.frame(0)).save(tmp_path / "0.jpg")
    (tmp_path / "1.jpg").write_text("a text")
    with pytest.raises(RefusedError, match=r"1\.jpg: cannot be read as a picture"):
        load_frames(tmp_path, SIDE)
    Image.fromarray(videos.frame(0)[1:]).save(tmp_path / "1.jpg")
    with pytest.raises(UnreadableError, match=r"1\.jpg: expected 90 x 120 pixels"):
        load_frames(tmp_path, SIDE)
    for given, said in ((b"", "found bytes"), ([], "at least one"), ([1], "frame 0: expected")):
        with pytest.raises(ValueError, match=said):
            load_frames(given, SIDE)
