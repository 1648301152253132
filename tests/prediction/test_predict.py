"""Drawn and saved masks equal those of the predictors."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from sam21convert import Box, Point, UsageError, convert, predict_image, predict_video, sample
from sam21convert.commands.main import main
from sam21convert.model import SAM2ImagePredictor, build_sam2, build_sam2_video_predictor
from sam21convert.model.boxes import boxes_of
from sam21convert.prediction.draw import as_html, drawing, scene
from sam21convert.prediction.image import FoundMask
from sam21convert.prediction.media import frame_rate, frames_of, new_video, read_picture
from sam21convert.prediction.prompts import Prompt, grouped

from ..model.test_pictures import png
from ..model.test_video_frames import encode, turned
from ..support.answers import conforms
from ..support.checkpoints import DEBUG
from ..support.paths import contents
from ..support.videos import HEIGHT, LENGTH, WIDTH, frame, jpeg_folder

Pixels = NDArray[Any]


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def path_of(found: FoundMask) -> Path:
    assert found.path is not None
    return found.path


def read_mask(path: Path) -> Pixels:
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    assert set(np.unique(pixels)) <= {0, 255}
    return pixels > 0


@pytest.fixture(autouse=True)
def _without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the last bits differ."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that find an object on most frames; without one, most settings have no effect."""
    path = tmp_path_factory.mktemp("checkpoint") / "debug.safetensors"
    sample(path, DEBUG, seed=3)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    Image.fromarray(scene(96)[:80]).save(path)
    return path


POINTS = {"point_coords": [[33, 60]], "point_labels": [1]}
FRAME = {"box": [20, 40, 50, 75]}


class TestPicture:
    @pytest.mark.parametrize(
        ("prompts", "options", "asked"),
        [
            ([Point(33, 60)], {}, POINTS),
            ([Point(33, 60)], {"multimask": False}, {**POINTS, "multimask_output": False}),
            ([Box(20, 40, 50, 75)], {}, {**FRAME, "multimask_output": False}),
            ([Box(20, 40, 50, 75)], {"multimask": True}, FRAME),
            (
                [Point(33, 60), Point(5.5, 70, 0)],
                {},
                {
                    "point_coords": [[33, 60], [5.5, 70]],
                    "point_labels": [1, 0],
                    "multimask_output": False,
                },
            ),
            (
                [Point(33, 60), Box(20, 40, 50, 75)],
                {},
                {**POINTS, **FRAME, "multimask_output": False},
            ),
        ],
    )
    def test_masks_are_those_of_the_predictor(
        self,
        tmp_path: Path,
        checkpoint: Path,
        picture: Path,
        prompts: list[Prompt],
        options: dict[str, Any],
        asked: dict[str, Any],
    ) -> None:
        predictor = SAM2ImagePredictor(build_sam2(DEBUG, checkpoint, device="cpu"))
        predictor.set_image(Image.open(picture))
        masks, ious, _ = predictor.predict(**{k: _array(v) for k, v in asked.items()})
        done = predict_image(picture, checkpoint, tmp_path / "out.png", prompts, **options)
        names = ["out.mask.png"] if len(masks) == 1 else [f"out.mask{n}.png" for n in range(3)]
        assert [path_of(found).name for found in done.details] == names
        assert sorted(os.listdir(tmp_path)) == sorted(["out.png", "scene.png", *names])
        for found, mask, iou in zip(done.details, masks, ious, strict=True):
            assert np.array_equal(read_mask(path_of(found)), mask > 0)
            assert (found.area, found.iou) == (int(mask.sum()), float(iou))
            assert 0 < found.share == mask.sum() / (80 * 96) < 1
            x0, y0, x1, y1 = boxes_of(torch.from_numpy(mask > 0)[None])[0].tolist()
            assert found.bbox == (x0, y0, x1 - x0, y1 - y0)
        assert (done.width, done.height, done.size, done.model.generation) == (
            96,
            80,
            "debug",
            "2.1",
        )

    @pytest.mark.parametrize("multimask", [True, False])
    def test_arrays_are_the_masks_that_are_written(
        self, tmp_path: Path, checkpoint: Path, picture: Path, multimask: bool
    ) -> None:
        done = predict_image(
            picture, checkpoint, tmp_path / "out.png", [Point(33, 60)], multimask=multimask
        )
        assert len(done.arrays) == len(done.details) == (3 if multimask else 1)
        for array, found in zip(done.arrays, done.details, strict=True):
            assert array.dtype == bool
            assert array.shape == (80, 96)
            assert np.array_equal(array, read_mask(path_of(found)))
        assert np.array_equal(done.masks, np.stack(done.arrays))
        assert not {"arrays", "details", "draw"} & {*done.to_dict()}
        assert "arrays=" not in repr(done)
        assert "arrays" not in json.loads(done.to_json())

    def test_without_an_output_nothing_is_written(
        self, tmp_path: Path, checkpoint: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        prompts: list[Prompt] = [Point(75, 19, obj_id="sun"), Box(20, 40, 50, 75, obj_id="house")]
        before = contents(tmp_path)
        done = predict_image(picture, checkpoint, prompts=prompts)
        assert contents(tmp_path) == before
        assert done.drawing is None
        assert [found.path for found in done.details] == [None, None]
        assert "drawn over" not in str(done)
        answer = json.loads(done.to_json())
        assert answer["drawing"] is None
        assert [found["path"] for found in answer["masks"]] == [None, None]
        written = predict_image(picture, checkpoint, "out.png", prompts)
        for array, other in zip(done.arrays, written.arrays, strict=True):
            assert np.array_equal(array, other)
        assert [found.iou for found in done.details] == [found.iou for found in written.details]

    def test_a_notebook_shows_what_would_be_drawn(
        self, tmp_path: Path, checkpoint: Path, picture: Path
    ) -> None:
        prompts: list[Prompt] = [Point(33, 60), Box(20, 40, 50, 75)]
        drawn = []
        for number, prompt in enumerate(prompts):
            out = tmp_path / f"{number}.png"
            predict_image(picture, checkpoint, out, [prompt])
            done = predict_image(picture, checkpoint, prompts=[prompt])
            drawn.append(np.asarray(Image.open(out)))
            assert np.array_equal(np.asarray(done.overlay), drawn[-1])
            assert as_html(done.overlay) in done._repr_html_()
            assert done.masks.shape == ((3, 1)[number], 80, 96)
            assert done.masks.dtype == bool
        assert drawn[0].shape[1] > 3 * 96, "three candidates, side by side"
        assert drawn[1].shape == (80, 96, 3)

    def test_an_image_model_is_enough(
        self, tmp_path: Path, checkpoint: Path, picture: Path
    ) -> None:
        convert(checkpoint, tmp_path / "image", to="hf-image")
        masks = []
        for number, source in enumerate((checkpoint, tmp_path / "image")):
            done = predict_image(picture, source, tmp_path / f"{number}.png", [Point(33, 60)])
            masks.append([path_of(found).read_bytes() for found in done.details])
        assert masks[0] == masks[1]
        assert "can only segment images" in str(done)

    def test_another_prompt_gives_another_mask(
        self, tmp_path: Path, checkpoint: Path, picture: Path
    ) -> None:
        prompts: list[list[Prompt]] = [[Point(33, 60)], [Point(33, 60, 0)], [Point(70, 20)]]
        masks = set()
        for number, given in enumerate(prompts):
            done = predict_image(
                picture, checkpoint, tmp_path / f"{number}.png", given, multimask=False
            )
            masks.add(path_of(done.details[0]).read_bytes())
        assert len(masks) == len(prompts)

    def test_several_objects_are_segmented_each_by_itself(
        self, tmp_path: Path, checkpoint: Path, picture: Path
    ) -> None:
        sun, house = Point(75, 19, obj_id="sun"), Box(20, 40, 50, 75, obj_id="house")
        both = predict_image(picture, checkpoint, tmp_path / "both.png", [sun, house])
        assert [path_of(found).name for found in both.details] == [
            "both.mask-sun.png",
            "both.mask-house.png",
        ]
        prompts: list[Prompt] = [sun, house]
        for prompt, found in zip(prompts, both.details, strict=True):
            out = tmp_path / "one.png"
            one = predict_image(picture, checkpoint, out, [prompt], multimask=False, overwrite=True)
            assert path_of(one.details[0]).read_bytes() == path_of(found).read_bytes()
            assert one.details[0].iou == found.iou

    def test_a_mask_is_a_prompt(self, tmp_path: Path, checkpoint: Path, picture: Path) -> None:
        """In a picture as large as the model's mask every pixel is one logit, -10 or 10."""
        Image.fromarray(scene(32)).save(picture)
        house = np.zeros((32, 32), bool)
        house[15:25, 8:16] = True
        Image.fromarray(house).save(tmp_path / "mask.png")  # of 1 bit, white on the object
        predictor = SAM2ImagePredictor(build_sam2(DEBUG, checkpoint, device="cpu"))
        predictor.set_image(Image.open(picture))
        given = np.where(house, 10, -10).astype(np.float32)[None]
        plain = predict_image(
            picture, checkpoint, tmp_path / "a.png", [Point(11, 20)], multimask=False
        )
        for prompts, asked in (
            ([], {}),
            ([Point(11, 20)], {"point_coords": _array([[11, 20]]), "point_labels": _array([1])}),
        ):
            done = predict_image(
                picture, checkpoint, tmp_path / "out.png", prompts,
                mask=tmp_path / "mask.png", overwrite=True,
            )  # fmt: skip
            masks, ious, _ = predictor.predict(**asked, mask_input=given, multimask_output=False)
            assert np.array_equal(read_mask(path_of(done.details[0])), masks[0] > 0)
            assert done.details[0].iou == float(ious[0]) != plain.details[0].iou

    def test_the_drawing_has_the_size_of_the_picture(
        self, tmp_path: Path, checkpoint: Path, picture: Path
    ) -> None:
        out = tmp_path / "out.png"
        predict_image(picture, checkpoint, out, [Box(20, 40, 50, 75)])
        assert read_picture(out).shape == (80, 96, 3)
        predict_image(picture, checkpoint, tmp_path / "three.png", [Point(33, 60)])
        height, width, _ = read_picture(tmp_path / "three.png").shape
        assert height > 80
        assert width > 3 * 96

    def test_a_picture_is_turned_as_viewers_turn_it(
        self, tmp_path: Path, checkpoint: Path, picture: Path
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be shown turned clockwise by 90 degrees
        upright = Image.open(picture)
        lying = tmp_path / "lying.png"
        upright.rotate(90, expand=True).save(lying, exif=exif)
        for name in ("scene", "lying"):
            predict_image(
                tmp_path / f"{name}.png", checkpoint, tmp_path / f"{name}-out.png", [Point(70, 20)]
            )
        assert (tmp_path / "scene-out.png").read_bytes() == (
            tmp_path / "lying-out.png"
        ).read_bytes()

    def test_transformers_folders_and_other_sizes_of_input(
        self, tmp_path: Path, checkpoint: Path, picture: Path
    ) -> None:
        convert(checkpoint, tmp_path / "hf")
        same, other = (
            predict_image(
                picture, source, tmp_path / f"{size}.png", [Point(33, 60)], image_size=size
            )
            for source, size in ((tmp_path / "hf", 128), (checkpoint, 256))
        )
        plain = predict_image(picture, checkpoint, tmp_path / "plain.png", [Point(33, 60)])
        assert [found.iou for found in same.details] == [found.iou for found in plain.details]
        assert [found.iou for found in other.details] != [found.iou for found in plain.details]
        assert (same.model.image_size, other.model.image_size) == (128, 256)


def _array(value: Any) -> Any:
    return value if isinstance(value, bool) else np.array(value, np.float32)


@pytest.fixture
def jpegs(tmp_path: Path) -> Path:
    (tmp_path / "jpegs").mkdir()
    return Path(jpeg_folder(tmp_path / "jpegs"))


@pytest.fixture
def mp4(tmp_path: Path) -> Path:
    """Eight frames of the video as H.264."""
    clip = np.stack([frame(number) for number in range(8)])
    return encode(tmp_path / "clip.mp4", "libx264", "yuv420p", clip)


def followed(
    checkpoint: Path, source: Path, prompt: Callable[[Any, Any], None]
) -> dict[tuple[str, int], Pixels]:
    """Masks by object and frame, from the official builder's predictor, forwards then backwards."""
    predictor = build_sam2_video_predictor(DEBUG, checkpoint, device="cpu")
    state = predictor.init_state(source)
    prompt(predictor, state)
    masks: dict[tuple[str, int], Pixels] = {}
    for reverse in (False, True):
        for number, objects, logits in predictor.propagate_in_video(state, reverse=reverse):
            for name, mask in zip(objects, logits[:, 0].numpy() > 0, strict=True):
                masks.setdefault((str(name), number), mask)
    return masks


def nearest(picture: Pixels, others: list[Pixels]) -> int:
    """The index of the picture among the others, before it was compressed."""
    return int(np.argmin([np.abs(picture.astype(int) - other).mean() for other in others]))


class TestVideo:
    PROMPTS = (
        Point(30, 46, 1, 3, "disc"),
        Point(90, 20, 0, 3, "disc"),
        Box(14, 30, 48, 62, 5, "waves"),
        Box(20, 30, 70, 62, 9, "disc"),
        Point(60, 50, 1, 9, "disc"),
    )

    @staticmethod
    def prompt(predictor: Any, state: Any) -> None:
        """The same with the official methods."""
        predictor.add_new_points_or_box(state, 3, "disc", [[30, 46], [90, 20]], [1, 0])
        predictor.add_new_points_or_box(state, 9, "disc", [[60, 50]], [1], box=[20, 30, 70, 62])
        predictor.add_new_points_or_box(state, 5, "waves", box=[14, 30, 48, 62])

    def test_masks_are_those_of_the_predictor_before_and_after_the_prompts(
        self, tmp_path: Path, checkpoint: Path, jpegs: Path
    ) -> None:
        done = predict_video(jpegs, checkpoint, tmp_path / "out", self.PROMPTS)
        masks = followed(checkpoint, jpegs, self.prompt)
        assert len(masks) == 2 * LENGTH
        for (name, number), mask in masks.items():
            found = read_mask(tmp_path / "out" / "masks" / name / f"{number:05}.png")
            assert np.array_equal(found, mask), (name, number)
        areas = {at: int(mask.sum()) for at, mask in masks.items()}
        assert len({*areas.values()}) > LENGTH  # random weights, but hardly two alike
        assert [found.obj_id for found in done.objects] == ["disc", "waves"]
        assert [found.prompted_on for found in done.objects] == [(3, 9), (5,)]
        for told in done.objects:
            assert told.areas == tuple(areas[told.obj_id, n] for n in range(LENGTH))
            assert told.seen_on == sum(area > 0 for area in told.areas) > 0
        assert (done.frames, done.width, done.height, done.video) == (LENGTH, WIDTH, HEIGHT, None)
        assert conforms(done.to_json())["frames"] == LENGTH

    @pytest.mark.parametrize("source", ["jpegs", "mp4"])
    def test_offloaded_it_is_the_same_and_nothing_is_left(
        self, source: str, tmp_path: Path, checkpoint: Path, request: pytest.FixtureRequest
    ) -> None:
        video = request.getfixturevalue(source)
        for name, offload in (("usual", False), ("offloaded", True)):
            out = tmp_path / name
            predict_video(video, checkpoint, out, self.PROMPTS[:3], offload=offload)
        assert {path.name for path in tmp_path.iterdir()} == {"usual", "offloaded", video.name}
        assert contents(tmp_path / "offloaded") == contents(tmp_path / "usual")

    def test_what_is_in_the_folder(self, tmp_path: Path, checkpoint: Path, jpegs: Path) -> None:
        done = predict_video(jpegs, checkpoint, tmp_path / "out", self.PROMPTS)
        numbers = [f"{number:05}" for number in range(LENGTH)]
        assert sorted(contents(tmp_path / "out")) == sorted(
            [
                "overview.png",
                *(f"frames/{number}.jpg" for number in numbers),
                *(f"masks/{name}/{number}.png" for name in ("disc", "waves") for number in numbers),
            ]
        )
        assert done._repr_html_().startswith(as_html(Image.open(done.overview)))
        height, width, _ = read_picture(done.overview).shape
        assert width > 4 * 360
        assert height > 2 * 360 * HEIGHT / WIDTH

    def test_frames_are_drawn_in_order(self, tmp_path: Path, checkpoint: Path, jpegs: Path) -> None:
        done = predict_video(jpegs, checkpoint, tmp_path / "out", self.PROMPTS)
        said = grouped(self.PROMPTS)
        expected, plain = [], []
        for number in range(LENGTH):
            masks = {o.obj_id: read_mask(o.masks / f"{number:05}.png") for o in done.objects}
            here = {name: frames[number] for name, frames in said.items() if number in frames}
            pixels = read_picture(jpegs / f"{number:05}.jpg")
            expected.append(np.asarray(drawing(pixels, masks, here)))
            plain.append(np.asarray(drawing(pixels, masks, {})))
        for number in range(LENGTH):
            drawn = read_picture(tmp_path / "out" / "frames" / f"{number:05}.jpg")
            assert nearest(drawn, expected) == number
            if number in (3, 5, 9):
                assert nearest(drawn, [plain[number], expected[number]]) == 1

    def test_a_video_file_gives_a_video_file(
        self, tmp_path: Path, checkpoint: Path, mp4: Path
    ) -> None:
        import av

        prompts = [Point(30, 46, frame_idx=2)]
        done = predict_video(mp4, checkpoint, tmp_path / "out", prompts)

        def point(predictor: Any, state: Any) -> None:
            predictor.add_new_points_or_box(state, 2, "1", [[30, 46]], [1])

        masks = followed(checkpoint, mp4, point)
        assert len(masks) == 8 == done.frames
        for (name, number), mask in masks.items():
            found = read_mask(tmp_path / "out" / "masks" / name / f"{number:05}.png")
            assert np.array_equal(found, mask)
        assert done.video == tmp_path / "out" / "video.mp4"
        with av.open(str(done.video)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == (WIDTH, HEIGHT)
            assert stream.average_rate == Fraction(25)
        drawn = [read_picture(tmp_path / "out" / "frames" / f"{n:05}.jpg") for n in range(8)]
        assert [nearest(pixels, drawn) for pixels in frames_of(done.video)] == list(range(8))

    @pytest.mark.parametrize("degrees", [0, 90, 180, 270])
    def test_frames_of_a_video_are_upright(self, tmp_path: Path, degrees: int) -> None:
        clip = np.stack([frame(number) for number in range(3)])
        path = turned(encode(tmp_path / "clip.mov", "png", "rgb24", clip), degrees)
        found = np.stack(list(frames_of(path)))
        assert np.array_equal(found, np.rot90(clip, k=-degrees // 90, axes=(1, 2)))

    def test_frames_of_a_folder_are_in_the_order_of_numbers(self, tmp_path: Path) -> None:
        for number in (2, 10, 1):
            Image.new("RGB", (8, number)).save(tmp_path / f"{number}.JPG")
        assert [len(pixels) for pixels in frames_of(tmp_path)] == [1, 2, 10]

    @pytest.mark.parametrize(("rate", "found"), [(25, 25), (240, 240), (90_000, 25)])
    def test_the_frame_rate_is_one_that_cameras_have(
        self, tmp_path: Path, rate: int, found: int
    ) -> None:
        """A new video could not have any other."""
        with new_video(tmp_path / "clip.mp4", Fraction(rate), 64, 48) as append:
            for number in range(4):
                append(np.full((48, 64, 3), number, np.uint8))
        assert frame_rate(tmp_path / "clip.mp4") == found

    @pytest.mark.parametrize(("width", "height"), [(96, 72), (224, 64), (208, 128)])
    def test_the_same_frames_give_the_same_file(
        self, tmp_path: Path, width: int, height: int
    ) -> None:
        """By x264's defaults they do not on every processor, whatever the number of threads."""
        blocks = np.random.default_rng(0).integers(0, 256, (18, 30, 3), np.uint8)
        larger = blocks.repeat(8, 0).repeat(8, 1)
        found = set()
        for number in range(10):
            with new_video(tmp_path / f"{number}.mp4", Fraction(12), width, height) as append:
                for at in range(8):
                    append(larger[at : at + height, at : at + width])
                    np.full(100_000 * (number + 1), at)  # what freed memory holds differs
            found.add((tmp_path / f"{number}.mp4").read_bytes())
        assert len(found) == 1

    def test_odd_sides_are_made_even(self, tmp_path: Path) -> None:
        stripes = np.where(np.arange(45) % 2, 200, 50).astype(np.uint8)  # lost when resized
        pixels = np.broadcast_to(stripes[None, :, None], (31, 45, 3))
        with new_video(tmp_path / "odd.mp4", Fraction(30000, 1001), 45, 31) as append:
            for _ in range(3):
                append(pixels)
        found = list(frames_of(tmp_path / "odd.mp4"))
        assert [picture.shape for picture in found] == [(32, 46, 3)] * 3
        assert np.abs(found[0][:31, :45].astype(int) - pixels).max() < 25


class TestRefusals:
    """Each ends in its exit code, names what is wrong, and leaves everything as it was."""

    @pytest.fixture
    def place(self, tmp_path: Path, picture: Path, jpegs: Path, mp4: Path) -> Path:
        Image.new("L", (96, 80)).save(tmp_path / "black.png")
        Image.new("L", (80, 96), 255).save(tmp_path / "other.png")
        Image.fromarray(np.full((80, 96), 999, np.uint16)).save(tmp_path / "deep.png")
        (tmp_path / "text.png").write_text("no picture")
        (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:-40])
        (tmp_path / "cut.mp4").write_bytes(mp4.read_bytes()[:300])
        (tmp_path / "empty").mkdir()
        (tmp_path / "mixed").mkdir()
        Image.fromarray(frame(0)).save(tmp_path / "mixed" / "0.jpg")
        Image.fromarray(frame(0)[1:]).save(tmp_path / "mixed" / "1.jpg")
        (tmp_path / "taken").mkdir()
        (tmp_path / "taken" / "mine.txt").touch()
        (tmp_path / "large.png").write_bytes(png(13000, 13000))
        Image.new("L", (96, 80)).save(tmp_path / "moving.gif")
        (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nclip.mp4\n")
        (tmp_path / "piped").mkdir()
        os.mkfifo(tmp_path / "piped" / "0.jpg")
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "zero").symlink_to("/dev/zero")
        return tmp_path

    IMAGE = (
        ("gone.png --point 1,1", 3, "gone.png: No such file or directory"),
        ("text.png --point 1,1", 3, "text.png: cannot be read as a picture"),
        ("cut.png --point 1,1", 3, "cut.png: cannot be read as a picture"),
        ("deep.png --point 1,1", 3, "deep.png: expected 8 bits per channel, found"),
        ("empty --point 1,1", 3, "empty: is not a regular file"),
        ("pipe --point 1,1", 3, "pipe: is not a regular file"),
        ("zero --point 1,1", 3, "zero: is not a regular file"),
        ("scene.png --mask pipe", 3, "pipe: is not a regular file"),
        ("large.png --point 1,1", 3, "large.png: has 13000 x 13000 pixels (width x height)"),
        (
            "moving.gif --point 1,1",
            3,
            "moving.gif: cannot be read as a picture: expected JPEG",
        ),
        ("scene.png", 2, "no prompt"),
        ("scene.png --point 1;1", 2, "point '1;1': expected [OBJECT:]X,Y"),
        ("scene.png --box 1,2,3", 2, "box '1,2,3': expected [OBJECT:]X0,Y0"),
        ("scene.png --point 96,1", 2, "point 96,1: is not inside the picture, which has 96 x 80"),
        ("scene.png --box 1,1,97,5", 2, "box 1,1,97,5: is not inside"),
        ("scene.png --point 1,1@2", 2, "point 1,1: is for frame 2"),
        ("scene.png --box 1,1,5,5 --box 6,6,9,9", 2, "object 1 has a box on frame 0 already"),
        ("scene.png --mask black.png", 2, "black.png: expected an object that is not black"),
        ("scene.png --mask other.png", 2, "other.png: expected 96 x 80 pixels (width x height)"),
        ("scene.png --mask gone.png", 3, "gone.png: No such file or directory"),
        ("scene.png --mask other.png --point a:1,1 --point b:2,2", 2, "goes with one object"),
        (
            "scene.png --multimask --point a:1,1 --point b:2,2",
            2,
            "expected one object to draw candidates of, found 2",
        ),
        ("scene.png --point 1,1 -o out.jpg", 2, "out.jpg: expected a name in .png"),
        ("scene.png --point 1,1 -o gone/out.png", 2, "the folder gone does not exist"),
        ("scene.png --point 1,1 -o scene.png", 2, "scene.png: exists"),
        ("scene.png --point 1,1 -o scene.png --overwrite", 2, "scene.png: is an input"),
        ("scene.png --mask other.png -o other.png --overwrite", 2, "other.png: is an input"),
        ("scene.png --point 1,1 --image-size 100", 2, "image_size: 100 is not a multiple of 32"),
        ("scene.png --point 1,1 --device cuda", 2, "device cuda: torch"),
        ("scene.png --point 1,1 --checkpoint gone.pt", 3, "gone.pt"),
        ("scene.png --point 1,1 --checkpoint text.png", 3, "text.png"),
        ("scene.png --point 1,1 --config sam2.1/sam2.1_hiera_t", 1, "does not fit dialect"),
    )
    VIDEO = (
        ("gone --point 1,1", 3, "gone: No such file or directory"),
        ("jpeg --point 1,1", 3, "did you mean jpegs?"),
        ("text.png --point 1,1", 3, "text.png: cannot be decoded as a video"),
        ("cut.mp4 --point 1,1", 3, "cut.mp4: cannot be decoded as a video"),
        ("empty --point 1,1", 3, "empty: expected pictures named <number>.jpg"),
        ("mixed --point 1,1", 3, "1.jpg: expected 90 x 120 pixels"),
        ("pipe --point 1,1", 3, "pipe: is not a regular file"),
        ("piped --point 1,1", 3, "0.jpg: is not a regular file"),
        ("moving.gif --point 1,1", 3, "moving.gif: cannot be decoded as a video: expected MP4"),
        ("list.m3u8 --point 1,1", 3, "list.m3u8: cannot be decoded as a video: expected MP4"),
        ("jpegs", 2, "no prompt"),
        ("jpegs --point 1,1@22", 2, "point 1,1: is for frame 22; the video has 22 frames"),
        ("jpegs --point 1,90", 2, "point 1,90: is not inside the picture, which has 120 x 90"),
        ("jpegs --point 1,1 --box a:1,1,121,9@3", 2, "box 1,1,121,9: is not inside"),
        ("jpegs --point 1,1 -o taken", 2, "taken: exists"),
        ("jpegs --point 1,1 -o taken --overwrite", 2, "taken: holds mine.txt"),
        ("jpegs --point 1,1 -o jpegs --overwrite", 2, "jpegs: holds 00000.jpg"),
        ("jpegs --point 1,1 -o scene.png --overwrite", 2, "scene.png: the output is a folder"),
        ("jpegs --point 1,1 -o gone/out", 2, "the folder gone does not exist"),
        ("jpegs --point 1,1 --checkpoint gone.pt", 3, "gone.pt"),
        ("jpegs --point 1,1 --checkpoint hf-image", 3, "is an image model"),
    )

    @pytest.mark.parametrize(
        ("command", "line", "code", "message"),
        [("image", *case) for case in IMAGE] + [("video", *case) for case in VIDEO],
    )
    def test_refused(
        self,
        place: Path,
        checkpoint: Path,
        monkeypatch: pytest.MonkeyPatch,
        command: str,
        line: str,
        code: int,
        message: str,
    ) -> None:
        monkeypatch.chdir(place)
        if "hf-image" in line:
            convert(checkpoint, "hf-image", to="hf-image")
        before = contents(place)
        arguments = line.split()
        if "-o" not in arguments:
            arguments += ["-o", "out.png" if command == "image" else "out"]
        if "--checkpoint" not in arguments:
            arguments += ["--checkpoint", str(checkpoint)]
        result = run("predict", command, *arguments)
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
        assert contents(place) == before

    def test_no_frame_comes_before_the_first(self, place: Path, checkpoint: Path) -> None:
        early = [Point(1, 1, frame_idx=-1)]
        with pytest.raises(UsageError, match="is for frame -1"):
            predict_image(place / "scene.png", checkpoint, place / "out.png", early)
        with pytest.raises(UsageError, match="is for frame -1"):
            predict_video(place / "jpegs", checkpoint, place / "out", early)

    def test_as_json(self, place: Path, checkpoint: Path) -> None:
        result = run(
            "predict", "image", place / "scene.png", "--checkpoint", checkpoint,
            "-o", place / "out.png", "--point", "x", "--json",
        )  # fmt: skip
        answer = json.loads(result.stdout)
        assert (result.exit_code, answer["exit_code"]) == (2, 2)
        assert "point 'x'" in answer["error"]


class TestCommands:
    def test_image(self, tmp_path: Path, checkpoint: Path, picture: Path) -> None:
        arguments = (
            "predict", "image", picture, "--checkpoint", checkpoint, "-o", tmp_path / "out.png",
            "--point", "sun:75,19", "--point", "sun:5,5,0", "--box", "house:20,40,50,75",
        )  # fmt: skip
        result = run(*arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        for text in ("SAM 2.1 debug, 128 pixels", "96 x 80", "object sun", "out.mask-house.png"):
            assert text in result.stdout
        assert run(*arguments).exit_code == 2
        again = run(*arguments, "--overwrite", "--json")
        answer = json.loads(again.stdout)
        assert [mask["obj_id"] for mask in answer["masks"]] == ["sun", "house"]
        assert answer["model"]["generation"] == "2.1"
        assert answer["size"] == "debug"
        prompts: list[Prompt] = [
            Point(75, 19, 1, 0, "sun"),
            Point(5, 5, 0, 0, "sun"),
            Box(20, 40, 50, 75, 0, "house"),
        ]
        report = predict_image(picture, checkpoint, tmp_path / "again.png", prompts)
        for found, told in zip(report.details, answer["masks"], strict=True):
            assert path_of(found).read_bytes() == Path(told["path"]).read_bytes()
            assert (found.iou, found.area) == (told["iou"], told["area"])

    def test_video(self, tmp_path: Path, checkpoint: Path, mp4: Path) -> None:
        arguments = (
            "predict", "video", mp4, "--checkpoint", checkpoint, "-o", tmp_path / "out",
            "--point", "disc:30,46@1", "--point", "disc:90,20,0@1", "--box", "waves:14,30,48,62",
        )  # fmt: skip
        result = run(*arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        for text in ("120 x 90", "object waves", "overview.png", "video.mp4"):
            assert text in result.stdout
        before = contents(tmp_path / "out")
        assert run(*arguments).exit_code == 2
        assert contents(tmp_path / "out") == before
        answer = json.loads(run(*arguments, "--overwrite", "--json").stdout)
        assert contents(tmp_path / "out") == before
        objects = {found["obj_id"]: found["prompted_on"] for found in answer["objects"]}
        assert objects == {"waves": [0], "disc": [1]}
        assert (answer["frames"], answer["video"]) == (8, str(tmp_path / "out" / "video.mp4"))

    def test_an_earlier_prediction_is_replaced_as_a_whole(
        self, tmp_path: Path, checkpoint: Path, jpegs: Path, mp4: Path
    ) -> None:
        out, fresh = tmp_path / "out", tmp_path / "fresh"
        predict_video(jpegs, checkpoint, out, [Point(30, 46, obj_id="disc")])
        for source in (mp4, jpegs):
            predict_video(source, checkpoint, out, [Box(14, 30, 48, 62)], overwrite=True)
            predict_video(source, checkpoint, fresh, [Box(14, 30, 48, 62)], overwrite=True)
            assert contents(out) == contents(fresh)
            shutil.rmtree(fresh)

    @pytest.mark.parametrize("inside", ["frames", "masks"])
    def test_the_input_is_not_taken_for_an_earlier_prediction(
        self, tmp_path: Path, checkpoint: Path, inside: str
    ) -> None:
        source = tmp_path / "out" / inside
        source.mkdir(parents=True)
        jpeg_folder(source)
        with pytest.raises(UsageError, match="holds the input"):
            predict_video(source, checkpoint, tmp_path / "out", [Point(1, 1)], overwrite=True)
        assert len(contents(tmp_path)) == LENGTH

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_failure_on_the_way_changes_nothing(
        self, tmp_path: Path, checkpoint: Path, mp4: Path, picture: Path,
        monkeypatch: pytest.MonkeyPatch, overwrite: bool,
    ) -> None:  # fmt: skip
        if overwrite:
            predict_video(mp4, checkpoint, tmp_path / "out", [Point(1, 1)])
            predict_image(picture, checkpoint, tmp_path / "out.png", [Point(1, 1)])
        before = contents(tmp_path)
        saved = []

        def save(self: Image.Image, *_: Any, **__: Any) -> None:
            saved.append(self.size)
            if len(saved) > 1:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", save)
        for command, source, out in (("video", mp4, "out"), ("image", picture, "out.png")):
            saved.clear()
            result = run(
                "predict", command, source, "--checkpoint", checkpoint, "--point", "1,2",
                "-o", tmp_path / out, *(["--overwrite"] if overwrite else []),
            )  # fmt: skip
            assert (result.exit_code, len(saved)) == (3, 2)
            assert "No space left on device" in result.stderr
            assert contents(tmp_path) == before
