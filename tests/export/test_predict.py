"""Predictions by onnxruntime are those of torch, and need none of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sam21convert
from sam21convert import Box, Point, RefusedError, UnreadableError, UsageError
from sam21convert.config.hydra_writer import to_hydra
from sam21convert.packages import onnxruntime
from sam21convert.prediction.draw import scene
from sam21convert.prediction.image import ImagePrediction, predict_image
from sam21convert.prediction.predictors import LoadedExport
from sam21convert.prediction.prompts import Prompt
from sam21convert.prediction.video import VideoPrediction, predict_video

from ..commands.test_commands import run
from ..model.test_video_frames import encode
from ..support import installs, videos
from ..support.answers import conforms
from ..support.exports import Exported
from .test_export import keep_elsewhere, tiny_model

LEAST = 0.999  # of the IoU of masks whose logits differ by rounding


@pytest.fixture(autouse=True)
def _without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    Image.fromarray(scene(96)[:80]).save(path)
    return path


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    (tmp_path / "shots").mkdir()
    for number in range(4):
        Image.fromarray(videos.frame(number)).save(tmp_path / "shots" / f"{number}.jpg")
    return tmp_path / "shots"


def iou(one: Any, other: Any) -> float:
    """Of two masks, both of which may be empty."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def read(path: Path) -> Any:
    return np.asarray(Image.open(path)) > 0


PROMPTS: list[tuple[list[Prompt], dict[str, Any]]] = [
    ([Point(33, 60)], {}),
    ([Box(20, 40, 50, 75), Point(5.5, 70, 0)], {}),
    ([Point(33, 60, obj_id="a"), Box(20, 40, 50, 75, obj_id="b")], {}),
    ([Point(33, 60)], {"mask": "mask.png", "multimask": True}),
    ([], {"mask": "mask.png"}),
]


class TestPicture:
    @pytest.mark.parametrize(("prompts", "options"), PROMPTS)
    def test_masks_are_those_of_torch(
        self,
        both: Exported,
        picture: Path,
        tmp_path: Path,
        prompts: list[Prompt],
        options: dict[str, Any],
    ) -> None:
        if "mask" in options:
            Image.fromarray(np.pad(np.full((30, 20), 255, np.uint8), ((30, 20), (9, 67)))).save(
                tmp_path / "mask.png"
            )
            options = {**options, "mask": tmp_path / "mask.png"}
        found: dict[str, ImagePrediction] = {}
        for runtime in ("torch", "onnx"):
            (tmp_path / runtime).mkdir()
            out = tmp_path / runtime / "out.png"
            found[runtime] = predict_image(
                picture,
                both.weights if runtime == "torch" else both.folder,
                out,
                prompts,
                config=both.model.config,
                **options,
            )
            for told, mask in zip(found[runtime].details, found[runtime].arrays, strict=True):
                assert told.path is not None
                assert np.array_equal(read(told.path), mask)
        one, other = found["torch"], found["onnx"]
        assert (one.model.device, other.model.device) == ("cpu", "cpu")
        assert tree(tmp_path / "torch") == tree(tmp_path / "onnx")
        assert (one.size, one.width, one.height) == (other.size, other.width, other.height)
        assert len(one.masks) == len(other.masks)
        assert any(0 < mask.mean() < 1 for mask in one.masks)
        for mine, theirs in zip(one.masks, other.masks, strict=True):
            assert iou(mine, theirs) >= LEAST
        for known, told in zip(one.details, other.details, strict=True):
            assert told.iou == pytest.approx(known.iou, abs=1e-5)

    def test_a_folder_that_holds_an_export_alone_will_do(
        self, newer: Exported, picture: Path, tmp_path: Path
    ) -> None:
        above = tmp_path / "above"
        above.mkdir()
        (above / "it").symlink_to(newer.folder)
        folders = (newer.folder, above)
        one, other = (predict_image(picture, each, prompts=[Point(33, 60)]) for each in folders)
        assert isinstance(other.model, LoadedExport)
        assert np.array_equal(one.masks, other.masks)
        assert sam21convert.parity(newer.weights, f"onnx:{above}", scenarios="point").ok

    def test_another_prompt_gives_other_masks(self, newer: Exported, picture: Path) -> None:
        """So that the bound above can fail."""
        one, other = (
            predict_image(picture, folder, prompts=[Point(x, 60)], config=newer.model.config)
            for folder, x in ((newer.weights, 33), (newer.folder, 80))
        )
        least = min(iou(*pair) for pair in zip(one.masks, other.masks, strict=True))
        assert least < LEAST

    def test_the_command_says_what_ran(self, newer: Exported, picture: Path) -> None:
        done = run(
            *("predict", "image", picture, "--checkpoint", newer.folder, "--variant", "q8"),
            *("--point", "33,60", "-o", picture.with_name("out.png"), "--json"),
        )
        assert done.exit_code == 0, done.output
        told = conforms(done.stdout)["model"]
        assert (told["variant"], told["device"], told["image_size"]) == ("q8", "cpu", 128)
        assert told["runtime"] == f"onnxruntime {onnxruntime().__version__}"
        assert told["notes"][0].startswith("exported from weights.pt, SHA-256 ")
        assert str(predict_image(picture, newer.folder, prompts=[Point(9, 9)])).count("fp32, by")

    def test_the_weights_of_an_export_can_be_run_by_torch(
        self, newer: Exported, picture: Path
    ) -> None:
        found = predict_image(picture, newer.folder, prompts=[Point(33, 60)], runtime="torch")
        exact = predict_image(
            picture, newer.weights, prompts=[Point(33, 60)], config=newer.model.config
        )
        assert np.array_equal(found.masks, exact.masks)


class TestVideo:
    PROMPTS = (
        Point(33, 60, frame_idx=1, obj_id="disc"),
        Box(14, 30, 48, 62, frame_idx=2, obj_id="box"),
    )

    def followed(self, export: Exported, source: Path, out: Path) -> dict[str, VideoPrediction]:
        found = {}
        for runtime, given in (("torch", export.weights), ("onnx", export.folder)):
            found[runtime] = predict_video(
                source, given, out / runtime, self.PROMPTS, config=export.model.config
            )
        return found

    def test_masks_of_a_folder_are_those_of_torch(
        self, both: Exported, frames: Path, tmp_path: Path
    ) -> None:
        found = self.followed(both, frames, tmp_path)
        assert tree(tmp_path / "torch") == tree(tmp_path / "onnx")
        masks = sorted((tmp_path / "torch" / "masks").rglob("*.png"))
        assert len(masks) == 2 * 4
        for path in masks:
            theirs = tmp_path / "onnx" / path.relative_to(tmp_path / "torch")
            assert iou(read(path), read(theirs)) >= LEAST
        assert any(0 < area < 90 * 120 for one in found["torch"].objects for area in one.areas)
        assert conforms(found["onnx"].to_json())["model"]["variant"] == "fp32"

    def test_offloaded_masks_are_the_same(
        self, newer: Exported, frames: Path, tmp_path: Path
    ) -> None:
        for name, offload in (("usual", False), ("offloaded", True)):
            predict_video(frames, newer.folder, tmp_path / name, self.PROMPTS, offload=offload)
        for path in (tmp_path / "usual" / "masks").rglob("*.png"):
            same = tmp_path / "offloaded" / path.relative_to(tmp_path / "usual")
            assert path.read_bytes() == same.read_bytes()

    def test_a_video_file_gives_a_video_file(self, newer: Exported, tmp_path: Path) -> None:
        clip = np.stack([videos.frame(number) for number in range(3)])
        path = encode(tmp_path / "clip.mp4", "mpeg4", "yuv420p", clip)
        found = self.followed(newer, path, tmp_path)
        assert found["onnx"].video == tmp_path / "onnx" / "video.mp4"
        for one, other in zip(found["torch"].objects, found["onnx"].objects, strict=True):
            assert np.allclose(one.areas, other.areas, rtol=1 - LEAST)


def test_where_there_is_no_torch_it_runs(newer: Exported, picture: Path, frames: Path) -> None:
    """In an installation that has what the extra ``onnx`` brings, and no more."""
    home = picture.parent
    python = installs.install(home / "env", "onnx")

    def predicted(*words: str, source: Path) -> subprocess.CompletedProcess[str]:
        given = ("--checkpoint", str(source), "--point", "33,60", "--json")
        return subprocess.run(
            [python, "-m", "sam21convert", "predict", *words, *given],
            cwd=home,
            env=installs.environment(),
            capture_output=True,
            text=True,
        )

    for words in (("image", "scene.png", "-o", "out.png"), ("video", "shots", "-o", "out")):
        done = predicted(*words, source=newer.folder)
        assert done.returncode == 0, done.stderr
        assert conforms(done.stdout)["model"]["variant"] == "fp32"
    done = predicted("image", "scene.png", "-o", "more.png", source=newer.weights)
    assert json.loads(done.stdout)["error"] == (
        "predict image: needs torch, which is not installed"
    )


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"device": "cuda"}, "`device=cuda`: onnxruntime runs an export on the processor"),
            ({"image_size": 256}, "was exported for 128 pixels, not for 256"),
            ({"config": "sam2.1/sam2.1_hiera_t"}, "was exported for 128 pixels, not for 1024"),
            ({"config": "debug/sam2_debug", "image_size": 128}, "is not that of this export"),
            ({"runtime": "onyx"}, "`runtime=onyx`: no such runtime"),
            ({"runtime": "torch", "variant": "q8"}, "`variant=q8`: .* is run by torch"),
            ({"variant": "q4"}, "variant: expected fp32, fp16, q8, found 'q4'"),
        ],
    )
    def test_what_contradicts_an_export(
        self, newer: Exported, picture: Path, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            predict_image(picture, newer.folder, prompts=[Point(33, 60)], **options)

    def test_its_own_config_and_size_do_not(
        self, newer: Exported, picture: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "own.yaml").write_text(to_hydra(newer.model.config))
        config = tmp_path / "own.yaml"
        for options in ({"config": config}, {"image_size": 128}, {"device": "auto"}):
            found = predict_image(picture, newer.folder, prompts=[Point(33, 60)], **options)
            assert found.model.image_size == 128

    def test_what_is_no_export(self, newer: Exported, picture: Path, tmp_path: Path) -> None:
        point = [Point(33, 60)]
        for source in (newer.weights, "hf://org/model"):
            with pytest.raises(UsageError, match="runs the folder of an export") as raised:
                predict_image(picture, source, prompts=point, runtime="onnx")
            assert f"`convert({source}, OUT, to=onnx)`" in str(raised.value.hint)
        for source in (tmp_path / "gone", tmp_path):
            with pytest.raises(UnreadableError, match="No such file"):
                predict_image(picture, source, prompts=point, runtime="onnx")

    def test_everything_is_for_torch(self, newer: Exported, picture: Path) -> None:
        words = ("predict", "image", picture, "--checkpoint", newer.folder, "--everything")
        for more in (("--runtime", "onnx"), ("--variant", "q8")):
            done = run(*words, *more, "-o", picture.with_name("out.png"))
            assert done.exit_code == 2
            assert "--everything: is computed by torch alone" in done.output
        done = run(*words, "--points-per-side", "1", "-o", picture.with_name("out.png"))
        assert done.exit_code == 0, done.output

    def test_an_export_for_pictures_tells_what_it_lacks(
        self, newer: Exported, picture: Path, frames: Path, tmp_path: Path
    ) -> None:
        plain = ("vision_encoder", "prompt_encoder_mask_decoder", "config", "model")
        (tmp_path / "plain" / "onnx").mkdir(parents=True)
        for path in (newer.folder / "onnx").iterdir():
            if path.stem in plain:
                shutil.copy(path, tmp_path / "plain" / "onnx")
        folder = tmp_path / "plain"
        assert len(predict_image(picture, folder, prompts=[Point(33, 60)]).masks) == 3
        with pytest.raises(UsageError, match="one mask instead of three") as raised:
            predict_image(picture, folder, prompts=[Box(20, 40, 50, 75)])
        assert "`multimask=True`" in str(raised.value.hint)
        assert len(
            predict_image(picture, folder, prompts=[Box(20, 40, 50, 75)], multimask=True).masks
        )
        with pytest.raises(UsageError, match="a video needs frame_decoder"):
            predict_video(frames, folder, tmp_path / "out", [Point(33, 60)])
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("harm", ["cut", "foreign", "operators", "outside", "absent", "gone"])
    def test_a_damaged_export_is_named_and_nothing_is_written(
        self, newer: Exported, picture: Path, tmp_path: Path, harm: str
    ) -> None:
        others = shutil.ignore_patterns("*_fp16.onnx", "*_quantized.onnx", "frame*", "memory*")
        folder = shutil.copytree(newer.folder, tmp_path / "copy", ignore=others)
        path = folder / "onnx" / "prompt_encoder_mask_decoder.onnx"
        domain = {"domain": "com.example"} if harm == "operators" else {}
        model = tiny_model(["input_points"], ["pred_masks"], **domain)
        if harm in ("outside", "absent"):
            name = "../weights" if harm == "outside" else "weights.onnx_data"
            keep_elsewhere(model.graph.initializer[0], name)
        content = {
            "cut": path.read_bytes()[:-1000],
            "foreign": (folder / "onnx" / "vision_encoder.onnx").read_bytes(),
        }.get(harm, model.SerializeToString())
        path.unlink() if harm == "gone" else path.write_bytes(content)
        before = sorted(os.listdir(tmp_path))
        refused = harm in ("foreign", "operators", "outside")
        kind = RefusedError if refused else UnreadableError
        with pytest.raises(kind, match=r"prompt_encoder_mask_decoder\.onnx: "):
            predict_image(picture, folder, tmp_path / "out.png", [Point(33, 60)])
        done = run(
            *("predict", "image", picture, "--checkpoint", folder, "--point", "33,60"),
            *("-o", tmp_path / "out.png", "--json"),
        )
        assert json.loads(done.stdout)["exit_code"] == 3
        assert sorted(os.listdir(tmp_path)) == before
