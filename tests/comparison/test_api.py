"""``parity`` from the outside: verdicts, diagnoses, errors, and the user's own inputs."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import sam21convert
from sam21convert.checkpoint.open import Checkpoint, open_checkpoint
from sam21convert.commands.main import main
from sam21convert.comparison import sides
from sam21convert.comparison.backends import base as backend
from sam21convert.comparison.backends import sam2
from sam21convert.comparison.inputs import drawn_frame
from sam21convert.comparison.report import ParityReport
from sam21convert.comparison.scenarios import BY_NAME, QUICK
from sam21convert.conversion import write as writing
from sam21convert.prediction import load

from ..support.official import DEBUG, SAM2_IS_SLOW
from .test_tables import FILES

DEBUG_21 = "debug/sam2.1_debug"
MATRIX = "sam_mask_decoder.mask_tokens.weight"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model.pt`` of random weights, and ``hf``, the same for transformers."""
    home = tmp_path_factory.mktemp("parity")
    sam21convert.sample(home / "model.pt", DEBUG_21)
    sam21convert.convert(home / "model.pt", home / "hf")
    return home


def run(*args: Any) -> Result:
    return CliRunner().invoke(main, list(map(str, args)))


def answer(*args: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*args, "--json").stdout)
    return found


def changed(source: Path, target: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """The checkpoint with its tensors changed, as official safetensors."""
    sam21convert.convert(source, target)
    tensors = load_file(target)
    change(tensors)
    save_file(tensors, target, {"format": "pt"})
    return target


def with_json(home: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The transformers folder with another config.json."""
    target.mkdir()
    for file in (home / "hf").iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    config = json.loads((target / "config.json").read_text())
    change(config)
    (target / "config.json").write_text(json.dumps(config))
    return target


def forget(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make a package look as if it were not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


@cache
def all_scenarios(name: str, *, sensitivity: bool) -> ParityReport:
    """All scenarios with transformers, and the change of every tensor if asked for."""
    with TemporaryDirectory() as folder:
        pt, hf = Path(folder) / "model.pt", Path(folder) / "hf"
        sam21convert.sample(pt, name)
        sam21convert.convert(pt, hf)
        wanted = None if sensitivity else "full"  # all of them are the default with it
        right = f"transformers:{hf}"
        return sam21convert.parity(pt, right, scenarios=wanted, sensitivity=sensitivity)


@pytest.fixture(scope="module")
def full(home: Path) -> ParityReport:
    """All scenarios with a source that is the same after a conversion there and back."""
    sam21convert.convert(home / "hf", home / "back.safetensors")
    return sam21convert.parity(home / "model.pt", home / "back.safetensors", scenarios="full")


class TestVerdict:
    def test_a_conversion_is_in_parity_with_its_source(self, home: Path) -> None:
        found = sam21convert.parity(home / "model.pt", f"transformers:{home / 'hf'}")
        assert found.ok
        assert found.exit_code == 0
        assert {one.name for one in found.scenarios} == set(QUICK)
        assert {one.status for one in found.scenarios} == {"same", "known difference"}
        assert all(control.detected for control in found.negative_controls)
        assert len(found.negative_controls) == 2
        assert not found.exact
        assert found.noise_from == ("attention summed backwards", "float64")
        for activation in (activation for one in found.scenarios for activation in one.activations):
            assert 0 < activation.tolerance < 1e-4, activation.name

    @pytest.mark.parametrize("name", DEBUG)
    def test_every_scenario(self, name: str) -> None:
        found = all_scenarios(name, sensitivity=name == DEBUG_21)  # which runs them all as well
        assert found.ok, str(found)
        assert [one.name for one in found.scenarios] == list(BY_NAME)
        assert {one.status for one in found.scenarios} == {"same", "known difference"}

    @pytest.mark.parametrize("left", ["sam2", "truth"])
    def test_the_tolerance_is_0_where_the_arithmetic_is_the_same(
        self, home: Path, full: ParityReport, left: str
    ) -> None:
        found = full
        if left == "sam2":
            back = home / "back.safetensors"
            found = sam21convert.parity(f"sam2:{home / 'model.pt'}", back, scenarios="full")
        assert found.ok
        assert found.exact
        assert all(
            activation.relative == 0 for one in found.scenarios for activation in one.activations
        )

    def test_known_differences_may_be_on_the_left(self, home: Path) -> None:
        found = sam21convert.parity(f"transformers:{home / 'hf'}", f"sam2:{home / 'model.pt'}")
        assert found.ok
        assert found.reference == "right"
        assert [one.name for one in found.scenarios if one.status == "known difference"]

    def test_transformers_agrees_with_itself_to_the_last_bit(self, home: Path) -> None:
        found = sam21convert.parity(
            f"transformers:{home / 'hf'}", f"transformers:{home / 'model.pt'}", scenarios="full"
        )
        assert found.ok
        assert found.exact

    def test_timm_has_the_trunk(self, home: Path) -> None:
        found = sam21convert.parity(home / "model.pt", f"timm:{home / 'model.pt'}")
        assert found.ok
        ran = {one.name for one in found.scenarios if one.status != "not run"}
        assert ran == {"encoder"}
        assert all(one.why for one in found.scenarios if one.status == "not run")
        (control,) = found.negative_controls
        assert control.detected

    def test_an_image_model(self, home: Path, tmp_path: Path) -> None:
        sam21convert.convert(home / "model.pt", tmp_path / "image", to="hf-image")
        found = sam21convert.parity(home / "model.pt", f"transformers:{tmp_path / 'image'}")
        assert found.ok, str(found)
        skipped = [one.name for one in found.scenarios if one.status == "not run"]
        assert skipped == ["video-pixels", "video-point"]

    @pytest.mark.parametrize("left", ["image", "model.pt"])
    def test_an_image_model_lacks_the_memory_and_nothing_else(
        self, home: Path, tmp_path: Path, left: str
    ) -> None:
        """The zeros that it is loaded with in place of the memory are none of its tensors."""
        sam21convert.convert(home / "model.pt", tmp_path / "image", to="hf-image")
        sides = {"image": tmp_path / "image", "model.pt": home / "model.pt"}
        right = next(path for name, path in sides.items() if name != left)
        found = sam21convert.parity(sides[left], right)
        assert found.ok, str(found)
        assert {one.status for one in found.scenarios} == {"same", "not run"}

    def test_a_generation_that_was_lifted_computes_the_same(self, tmp_path: Path) -> None:
        sam21convert.sample(tmp_path / "old.pt", "debug/sam2_debug")
        sam21convert.convert(tmp_path / "old.pt", tmp_path / "new.pt", generation="2.1")
        assert sam21convert.parity(tmp_path / "old.pt", tmp_path / "new.pt", scenarios="full").ok


def test_each_side_is_opened_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def counted(source: Path, *given: Any) -> Checkpoint:
        opened.append(source)
        return open_checkpoint(source, *given)

    for module in (sides, backend, load):
        monkeypatch.setattr(module, "open_checkpoint", counted)
    pair = home / "model.pt", home / "hf"
    assert sam21convert.parity(pair[0], f"transformers:{pair[1]}", scenarios="point").ok
    assert opened == [*pair]


class TestFaults:
    def test_one_tensor(self, home: Path, tmp_path: Path) -> None:
        bad = changed(
            home / "model.pt",
            tmp_path / "bad.safetensors",
            lambda tensors: tensors[MATRIX].mul_(1.01),
        )
        result = run("parity", bad, f"transformers:{home / 'hf'}")
        assert result.exit_code == 1
        assert "not in parity" in result.stdout
        assert "point differs at decoder.tokens" in result.stdout
        assert re.search(f"a tensor differs by up to .*: {re.escape(MATRIX)}", result.stdout)

    def test_windows_that_are_not_those_of_the_model(self, home: Path, tmp_path: Path) -> None:
        def forget(config: dict[str, Any]) -> None:
            windows = config["vision_config"]["backbone_config"]["window_size_per_stage"]
            windows[2] = windows[1]

        folder = with_json(home, tmp_path / "hf", forget)
        found = sam21convert.parity(home / "model.pt", f"transformers:{folder}")
        assert found.exit_code == 1
        assert found.first_mismatch == ("encoder", "trunk.stage2")
        assert any(c.text.startswith("trunk.window_spec: ") for c in found.diagnosis)

    def test_weights_of_sam_2_1_under_a_config_of_sam_2(self, home: Path, tmp_path: Path) -> None:
        def lower(config: dict[str, Any]) -> None:
            config.update((name, False) for name in config if name.startswith("enable_"))

        folder = with_json(home, tmp_path / "hf", lower)
        found = sam21convert.parity(home / "model.pt", f"transformers:{folder}")
        assert found.exit_code == 1
        assert found.first_mismatch == (
            "video-point",
            "frame0.object1.memory",
        )  # the object is absent there, which only SAM 2.1 marks
        texts = [difference.text for difference in found.diagnosis]
        assert "generation: 2.1 on the left, 2.0 on the right" in texts
        assert any("no_obj_embed_spatial" in text for text in texts)

    def test_another_image_size(self, home: Path, tmp_path: Path) -> None:
        sam21convert.convert(home / "model.pt", tmp_path / "larger", image_size=256)
        result = run("parity", home / "model.pt", f"transformers:{tmp_path / 'larger'}")
        assert result.exit_code == 1
        assert "image-pixels differs at pixels" in result.stdout
        assert "image_size: 128 on the left, 256 on the right" in result.stdout
        assert "--image-size" in result.stdout
        assert (
            run(
                "parity",
                home / "model.pt",
                f"transformers:{tmp_path / 'larger'}",
                "--image-size",
                256,
            ).exit_code
            == 0
        )

    def test_prompts_placed_for_another_image_size(self, home: Path, tmp_path: Path) -> None:
        def half(config: dict[str, Any]) -> None:
            config["prompt_encoder_config"]["image_size"] *= 2

        folder = with_json(home, tmp_path / "hf", half)
        result = run("parity", home / "model.pt", f"transformers:{folder}")
        assert result.exit_code == 3
        assert "prompt_encoder_config.image_size: is 256" in result.stderr

    def test_a_file_as_transformers_4_57_saves_it(self, home: Path, tmp_path: Path) -> None:
        folder = with_json(home, tmp_path / "hf", lambda _: None)
        tensors = load_file(folder / "model.safetensors")
        del tensors["prompt_encoder.shared_embedding.positional_embedding"]
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        found = sam21convert.parity(home / "model.pt", f"transformers:{folder}")
        assert found.exit_code == 1
        assert found.first_mismatch == ("point", "prompt.sparse")
        assert "random" in found.diagnosis[0].text
        assert found.diagnosis[0].hint == "sam21convert convert writes both copies of it"

    def test_rounded_weights(self, home: Path, tmp_path: Path) -> None:
        sam21convert.convert(home / "model.pt", tmp_path / "half.pt", dtype="float16")
        found = sam21convert.parity(home / "model.pt", tmp_path / "half.pt")
        assert found.first_mismatch == ("encoder", "trunk.stage0")
        (difference,) = found.diagnosis
        assert difference.text == "359 tensors are rounded to float16"
        rounded = sam21convert.parity(home / "model.pt", tmp_path / "half.pt", rounded_to="float16")
        assert rounded.ok

    def test_a_tensor_that_nothing_uses(self, home: Path, tmp_path: Path) -> None:
        bad = changed(
            home / "model.pt",
            tmp_path / "bad.safetensors",
            lambda tensors: tensors["no_mem_pos_enc"].add_(1),
        )
        found = sam21convert.parity(home / "model.pt", bad)
        assert found.first_mismatch is None
        assert found.exit_code == 1
        assert re.fullmatch("a tensor differs by .*: no_mem_pos_enc", found.problems[0])

    def test_values_that_are_not_finite(self, home: Path, tmp_path: Path) -> None:
        bad = changed(
            home / "model.pt",
            tmp_path / "bad.safetensors",
            lambda tensors: tensors[MATRIX].fill_(float("nan")),
        )
        found = sam21convert.parity(home / "model.pt", bad)
        assert found.first_mismatch == ("point", "decoder.tokens")
        assert "not finite" in found.diagnosis[0].text


def test_masks_that_one_side_does_not_give(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only common activations are compared, but both sides must have the masks."""
    play = backend.play

    def forgetful(*given: Any) -> None:
        play(*given)
        del given[-1]["frame2.masks"]

    monkeypatch.setattr(sam2, "play", forgetful)
    found = sam21convert.parity(
        home / "model.pt", f"sam2:{home / 'model.pt'}", scenarios="video-point"
    )
    assert not found.ok
    assert found.scenarios[0].why == "only one of the two has frame2.masks"


class TestSensitivity:
    @pytest.mark.parametrize("name", SAM2_IS_SLOW)
    def test_every_change_is_detected_but_those_that_cannot_be(self, name: str) -> None:
        found = all_scenarios(name, sensitivity=True)
        assert found.ok, str(found)
        assert found.sensitivity is not None
        assert found.sensitivity.tensors == (359 if name == DEBUG_21 else 356)
        assert "no_mem_pos_enc" in found.sensitivity.undetected
        assert set(found.sensitivity.undetected) == set(found.sensitivity.expected)

    def test_scenarios_that_leave_changes_undetected_are_not_enough(self, home: Path) -> None:
        found = sam21convert.parity(
            home / "model.pt", home / "model.pt", scenarios="point", sensitivity=True
        )
        assert not found.ok
        assert found.sensitivity is not None
        assert "memory_encoder.out_proj.weight" in found.sensitivity.unexpected
        assert "a change of 120 of 359 tensors" in found.problems[0]


class TestOwnInputs:
    def test_pictures_and_a_video(self, home: Path, tmp_path: Path) -> None:
        pictures, video = tmp_path / "pictures", tmp_path / "video"
        pictures.mkdir()
        video.mkdir()
        for number in range(3):
            Image.fromarray(drawn_frame(number)).save(video / f"{number}.jpg")
        for name in ("a.png", "b.jpg"):
            Image.fromarray(drawn_frame(20)).save(pictures / name)
        found = sam21convert.parity(
            home / "model.pt",
            f"transformers:{home / 'hf'}",
            images=pictures,
            video=video,
        )
        assert found.ok, str(found)
        inputs = {(one.name, one.input) for one in found.scenarios}
        assert {("point", "a.png"), ("point", "b.jpg"), ("video-point", "video")} <= inputs

    def test_a_video_too_short_for_a_scenario(self, home: Path, tmp_path: Path) -> None:
        for number in range(3):
            Image.fromarray(drawn_frame(number)).save(tmp_path / f"{number}.jpg")
        found = sam21convert.parity(
            home / "model.pt", home / "hf", scenarios="video-point,video-box", video=tmp_path
        )
        assert [one.status for one in found.scenarios] == ["same", "not run"]
        assert found.scenarios[1].why == f"needs 4 frames; {tmp_path.name} has 3"

    @pytest.mark.parametrize("option", ["--images", "--video"])
    def test_a_path_that_does_not_exist(self, home: Path, option: str, tmp_path: Path) -> None:
        result = run("parity", home / "model.pt", home / "model.pt", option, tmp_path / "none")
        assert result.exit_code == 3
        assert str(tmp_path / "none") in result.stderr

    def test_a_folder_without_pictures(self, home: Path, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("no picture")
        result = run("parity", home / "model.pt", home / "model.pt", "--images", tmp_path)
        assert result.exit_code == 2
        assert "expected pictures" in result.stderr

    def test_a_file_that_is_not_a_video(self, home: Path, tmp_path: Path) -> None:
        (tmp_path / "video.mp4").write_text("no video")
        video = tmp_path / "video.mp4"
        result = run("parity", home / "model.pt", home / "model.pt", "--video", video)
        assert result.exit_code == 3
        said = f"error: {video}: cannot be decoded as a video: expected MP4, MOV, "
        assert result.stderr.startswith(said)
        assert "\nhint: give the video itself" in result.stderr


class TestCommandLineOfAReport:
    def test_it_runs_the_same_comparison(self, home: Path, tmp_path: Path) -> None:
        (tmp_path / "my pictures").mkdir()
        Image.fromarray(drawn_frame(0)).save(tmp_path / "my pictures" / "a.png")
        found = sam21convert.parity(
            home / "model.pt",
            f"truth:{home / 'hf'}",
            scenarios="point,box",
            image_size=256,
            images=tmp_path / "my pictures",
        )
        words = shlex.split(found.command)
        assert words[:2] == ["sam21convert", "parity"]
        again = json.loads(run(*words[1:], "--json").stdout)
        assert again["command"] == found.command
        assert [one["name"] for one in again["scenarios"]] == ["encoder", "point", "box"]

    @pytest.mark.parametrize("scenarios", ["quick", "full"])
    def test_a_set_is_given_by_its_name(
        self, home: Path, full: ParityReport, scenarios: str
    ) -> None:
        found = full
        if scenarios == "quick":
            found = sam21convert.parity(home / "model.pt", home / "hf", scenarios=scenarios)
        assert f"--scenarios {scenarios} " in found.command


class TestUsage:
    def test_a_package_that_is_not_installed(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forget(monkeypatch, "timm")
        result = run("parity", home / "model.pt", f"timm:{home / 'model.pt'}")
        assert result.exit_code == 2
        assert "[timm]" in result.stderr

    @pytest.mark.parametrize(
        ("args", "says"),
        [
            (["pytorch:model.pt", "model.pt"], "truth, sam2, transformers, timm"),
            (["model.pt", "model.pt", "--scenarios", "nonsense"], "video-long"),
            (["model.pt", "none.pt"], "none.pt"),
        ],
    )
    def test_wrong_arguments(
        self, home: Path, args: list[str], says: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(home)
        result = run("parity", *args)
        assert result.exit_code in (2, 3)
        assert says in result.stderr

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_device_that_does_not_exist(self, home: Path) -> None:
        result = run("parity", home / "model.pt", home / "model.pt", "--device", "cuda")
        assert result.exit_code == 2

    def test_json_has_every_activation_and_both_hashes(self, home: Path) -> None:
        found = answer("parity", home / "model.pt", f"transformers:{home / 'hf'}")
        assert found["ok"] is True
        assert set(found["versions"]) >= {"torch", "transformers", "sam21convert"}
        for side in ("left", "right"):
            hashes = found[side]["sha256"]
            assert hashes
            assert all(len(digest) == 64 for digest in hashes.values())
        activations = [
            activation for one in found["scenarios"] for activation in one["activations"]
        ]
        assert len(activations) > 80
        assert set(activations[0]) >= {
            "name",
            "max_abs",
            "relative",
            "cosine",
            "noise",
            "tolerance",
        }

    def test_an_existing_page_is_an_error_before_anything_runs(self, home: Path) -> None:
        result = run("parity", home / "none.pt", home / "model.pt", "--report", home)
        assert result.exit_code == 2
        assert f"{home}: exists" in result.stderr

    def test_json_keeps_the_names_of_version_0_1(self, home: Path) -> None:
        bad = home / "other.safetensors"
        if not bad.exists():
            changed(home / "model.pt", bad, lambda tensors: tensors[MATRIX].mul_(1.01))
        found = answer(
            "parity",
            bad,
            f"transformers:{home / 'hf'}",
            "--scenarios",
            "no-prompt",
            "--sensitivity",
        )
        for new, old in (
            ("first_mismatch", "first"),
            ("diagnosis", "causes"),
            ("negative_controls", "controls"),
            ("sensitivity", "proof"),
        ):
            assert found[new] == found[old]
        assert found["sensitivity"]["undetected"] == found["sensitivity"]["unseen"]
        for side in ("left", "right"):
            assert found[side]["backend"] == found[side]["runner"]
        assert found["diagnosis"]
        for difference in found["diagnosis"]:
            assert difference["activation"] == difference["tap"]
        assert found["negative_controls"]
        for control in found["negative_controls"]:
            assert control["activation"] == control["tap"]
            assert control["detected"] == control["noticed"]
        for scenario in found["scenarios"]:
            assert scenario["activations"] == scenario["taps"]
            assert scenario["first_mismatch"] == scenario["first"]
            status = scenario["status"]
            assert scenario["outcome"] == status.replace("known difference", "known deviation")

    def test_a_page_and_tables_are_written(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
        result = run("parity", home / "model.pt", home / "model.pt", "--report", tmp_path / "out")
        assert result.exit_code == 0
        written = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
        assert sorted(written) == [*FILES]
        assert all("2026-01-01T00:00:00Z" in text for text in written.values())

    def test_in_half_precision(self, home: Path) -> None:
        found = sam21convert.parity(
            home / "model.pt", f"transformers:{home / 'hf'}", dtype="bfloat16"
        )
        assert found.ok, str(found)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="happens on the CPU only")
    def test_a_package_that_fails_is_not_in_parity(self, home: Path) -> None:
        """transformers cannot concatenate memories in bfloat16 and float16 on a CPU."""
        hf = f"transformers:{home / 'hf'}"
        args = ("parity", home / "model.pt", hf, "--device", "cpu", "--dtype", "float16")
        result = run(*args, "--scenarios", "video-point")
        assert result.exit_code == 1
        assert "video-point: transformers" in result.stdout
        assert "stopped with RuntimeError" in result.stdout


class TestConvert:
    def test_the_output_is_compared_before_it_gets_its_name(
        self, home: Path, tmp_path: Path
    ) -> None:
        result = run("convert", home / "model.pt", tmp_path / "hf", "--parity")
        assert result.exit_code == 0, result.output
        assert "in parity" in result.stdout
        assert (tmp_path / "hf" / "model.safetensors").is_file()

    def test_the_report_has_the_name_of_the_output(self, home: Path, tmp_path: Path) -> None:
        out = tmp_path / "hf"
        found = answer("convert", home / "model.pt", out, "--parity")["parity"]
        assert found["right"]["source"] == str(out)
        assert {Path(path).parent for path in found["right"]["sha256"]} == {out}
        assert f"transformers:{out}" in found["command"]

    def test_a_package_that_is_not_installed(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forget(monkeypatch, "transformers")
        result = run("convert", home / "model.pt", tmp_path / "hf", "--parity")
        assert result.exit_code == 2
        assert "[transformers]" in result.stderr
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("target", ["out.pt", "out.safetensors", "image"])
    def test_all_kinds_of_output(self, home: Path, tmp_path: Path, target: str) -> None:
        more = ["--to", "hf-image"] if target == "image" else []
        found = answer("convert", home / "hf", tmp_path / target, "--parity", *more)
        assert found["parity"]["ok"] is True
        backends = [found["parity"][side]["backend"] for side in ("left", "right")]
        assert backends == ["transformers", "transformers" if target == "image" else "truth"]

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_casts_are_compared_with_weights_that_are_cast(
        self, home: Path, tmp_path: Path, dtype: str
    ) -> None:
        out = tmp_path / "hf"
        assert run("convert", home / "model.pt", out, "--dtype", dtype, "--parity").exit_code == 0

    @pytest.mark.parametrize("source", ["old.pt", "old"])
    def test_a_generation_that_is_lifted(self, tmp_path: Path, source: str) -> None:
        sam21convert.sample(tmp_path / "old.pt", "debug/sam2_debug")
        sam21convert.convert(tmp_path / "old.pt", tmp_path / "old")
        new = ("--generation", "2.1", "--parity")
        for target in ("new.pt", "new"):
            result = run("convert", tmp_path / source, tmp_path / target, *new)
            assert result.exit_code == 0, result.output

    def test_another_image_size(self, home: Path, tmp_path: Path) -> None:
        out = tmp_path / "hf"
        result = run("convert", home / "model.pt", out, "--image-size", "256", "--parity")
        assert result.exit_code == 0, result.output

    def test_a_wrong_conversion_leaves_nothing(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = writing.side_files_of

        def wrong(plan: Any) -> dict[str, str]:
            files = dict(right(plan))
            config = json.loads(files["config.json"])
            config["vision_config"]["backbone_config"]["window_size_per_stage"][2] = 4
            return files | {"config.json": json.dumps(config)}

        monkeypatch.setattr(writing, "side_files_of", wrong)
        assert run("convert", home / "model.pt", tmp_path / "unseen").exit_code == 0
        (tmp_path / "hf").mkdir()
        (tmp_path / "hf" / "mine.txt").write_text("kept")
        result = run("convert", home / "model.pt", tmp_path / "hf", "--parity", "--overwrite")
        assert result.exit_code == 1
        assert "differs at trunk.stage2" in result.stderr
        assert {path.name for path in tmp_path.iterdir()} == {"hf", "unseen"}
        assert [path.name for path in (tmp_path / "hf").iterdir()] == ["mine.txt"]


class TestValidate:
    def test_yes(self, home: Path) -> None:
        found = answer("validate", home / "model.pt", "--parity", f"transformers:{home / 'hf'}")
        assert found["parity"]["ok"] is True

    def test_no(self, home: Path, tmp_path: Path) -> None:
        bad = changed(
            home / "model.pt",
            tmp_path / "bad.safetensors",
            lambda tensors: tensors[MATRIX].mul_(1.01),
        )
        result = run("validate", bad, "--parity", home / "model.pt")
        assert result.exit_code == 1
        assert "decoder.tokens" in result.stdout
        assert run("validate", bad).exit_code == 0


def test_the_drawn_video_shows_a_disc_that_leaves_and_comes_back() -> None:
    reds = [float(np.mean(drawn_frame(number)[..., 0] == 255)) for number in range(18)]
    assert all(red > 0.02 for red in (*reds[:7], *reds[12:]))
    assert all(red < 0.01 for red in reds[7:12])
