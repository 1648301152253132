"""From SAM 2 to SAM 2.1 and back: what is added, refused, lost, and that it tracks as before."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoProcessor, Sam2Model, Sam2VideoModel

from sam21convert import convert, inspect, validate
from sam21convert.checkpoint.detect import GENERATION_TENSORS
from sam21convert.checkpoint.identify import identify
from sam21convert.checkpoint.open import open_checkpoint
from sam21convert.checkpoint.remap import CanonicalTensors
from sam21convert.commands.main import main
from sam21convert.config.registry import shipped_config, shipped_tensors, tensors_of
from sam21convert.errors import MismatchError, UsageError
from sam21convert.io.data.checksums import ReadBack, same_bytes, sha256
from sam21convert.io.safetensors import read_safetensors, write_safetensors
from sam21convert.io.tensor import Constant, TensorRef, TensorSpec
from sam21convert.io.tensor import Tensor as ToWrite
from sam21convert.model.config import Generation
from sam21convert.prediction.draw import scene
from sam21convert.report import SILENT

from ..support.checkpoints import DEBUG, DEBUG_20, official_pt, random_bits, read_bytes, state_dict
from ..support.encoded import Known, encoding_once
from ..support.official import build_official, build_official_predictor, randomise

SPATIAL, WEIGHT, BIAS = GENERATION_TENSORS
DESTINATIONS = ("out.pt", "out.safetensors", "out")
GENERATIONS = {"2.1": DEBUG, "2.0": DEBUG_20}


def three(values: Mapping[str, float]) -> dict[str, Tensor]:
    """The tensors that SAM 2.1 adds: zeros, but for one element where a value is given."""
    found = {name: torch.zeros(shipped_tensors(DEBUG)[name].shape) for name in GENERATION_TENSORS}
    for name, value in values.items():
        found[name].view(-1)[-1] = value
    return found


def newer_with(path: Path, values: Mapping[str, float]) -> Path:
    """A SAM 2.1 checkpoint with nothing else in the three tensors."""
    return official_pt(path, state_dict(DEBUG_20) | three(values))


def three_in_transformers(folder: Path) -> dict[str, Tensor]:
    marks = ("occlusion_spatial_embedding_parameter", "temporal_positional_encoding_projection")
    held = load_file(folder / "model.safetensors").items()
    return {name: value for name, value in held if name.startswith(marks)}


def canonical(path: Path) -> Mapping[str, TensorRef]:
    return CanonicalTensors.from_checkpoint(identify(open_checkpoint(path))).parts


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def older(tmp_path: Path) -> Path:
    return official_pt(tmp_path / "older.pt", state_dict(DEBUG_20))


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """Random values in the three tensors as well."""
    return official_pt(tmp_path / "newer.pt", state_dict(DEBUG))


class TestUp:
    @pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64"])
    @pytest.mark.parametrize("name", DESTINATIONS)
    def test_the_three_are_zeros_of_the_same_type_and_no_other_bit_changes(
        self, tmp_path: Path, name: str, dtype: str
    ) -> None:
        inventory = {k: TensorSpec(dtype, v.shape) for k, v in shipped_tensors(DEBUG_20).items()}
        source = random_bits(tmp_path / "source.safetensors", inventory)
        done = convert(source, tmp_path / name, generation="2.1")
        assert (done.generation, done.config, done.verified) == ("2.1", DEBUG, True)
        before, after = canonical(source), canonical(tmp_path / name)
        assert after.keys() == shipped_tensors(DEBUG).keys() == {*before, *GENERATION_TENSORS}
        assert all(same_bytes(ref, after[k]) for k, ref in before.items())
        for k in GENERATION_TENSORS:
            assert after[k].spec == TensorSpec(dtype, shipped_tensors(DEBUG)[k].shape)
            assert read_bytes(after[k]) == bytes(after[k].spec.nbytes)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
    @pytest.mark.parametrize("name", DESTINATIONS)
    def test_a_cast_takes_the_zeros_along(
        self, tmp_path: Path, older: Path, name: str, dtype: Any
    ) -> None:
        done = convert(older, tmp_path / name, generation="2.1", dtype=dtype)
        assert len(done.dtypes) == 1
        [kind] = done.dtypes
        assert {ref.spec.dtype for ref in canonical(tmp_path / name).values()} == {kind}

    def test_of_several_types_the_most_common_is_taken(self, tmp_path: Path) -> None:
        tensors = {k: v.half() for k, v in state_dict(DEBUG_20).items()}
        tensors["maskmem_tpos_enc"] = tensors["maskmem_tpos_enc"].float()
        source = official_pt(tmp_path / "mixed.pt", tensors)
        done = convert(source, tmp_path / "out.pt", generation="2.1")
        assert done.dtypes == {"F16": len(tensors) + 2, "F32": 1}

    def test_the_report_says_what_was_added_and_that_it_comes_from_nowhere(
        self, tmp_path: Path, older: Path
    ) -> None:
        done = convert(older, tmp_path / "out.pt", generation="2.1")
        assert done.notes == (f"added as zeros, which change nothing: {SPATIAL}, {WEIGHT}, {BIAS}",)
        assert {t["name"] for t in done.tensors if not t["from"]} == set(GENERATION_TENSORS)
        assert done.lost == {}

    def test_a_dry_run_says_the_same_and_writes_nothing(self, tmp_path: Path, older: Path) -> None:
        planned = convert(older, tmp_path / "out", generation="2.1", dry_run=True)
        assert os.listdir(tmp_path) == ["older.pt"]
        done = convert(older, tmp_path / "out", generation="2.1")
        assert (planned.tensors, planned.notes) == (done.tensors, done.notes)

    def test_a_size_that_was_never_published(self, tmp_path: Path) -> None:
        config = replace(shipped_config(DEBUG_20), num_maskmem=5)
        inventory = tensors_of(config)
        source = random_bits(tmp_path / "source.safetensors", inventory)
        convert(source, tmp_path / "out", config=config, generation="2.1", image_size=256)
        assert canonical(tmp_path / "out").keys() == {*inventory, *GENERATION_TENSORS}
        found = open_checkpoint(tmp_path / "out").config
        assert found == replace(config, generation="2.1", image_size=256)
        convert(tmp_path / "out", tmp_path / "back.safetensors", generation="2.0")
        assert sha256(tmp_path / "back.safetensors") == sha256(source)


class TestStrictLoading:
    """Of a lifted checkpoint, under the config of SAM 2.1, in the code that users have."""

    @pytest.mark.parametrize("name", DESTINATIONS[:2])
    def test_the_official_code(self, tmp_path: Path, older: Path, name: str) -> None:
        convert(older, tmp_path / name, generation="2.1")
        lifted = (
            torch.load(tmp_path / name)["model"] if name == "out.pt" else load_file(tmp_path / name)
        )
        build_official(shipped_config(DEBUG)).load_state_dict(lifted, strict=True)
        with pytest.raises(RuntimeError, match="Unexpected key"):
            build_official(shipped_config(DEBUG_20)).load_state_dict(lifted, strict=True)
        with pytest.raises(RuntimeError, match="Missing key"):
            build_official(shipped_config(DEBUG)).load_state_dict(state_dict(DEBUG_20))

    def test_transformers(self, tmp_path: Path, older: Path) -> None:
        convert(older, tmp_path / "out", generation="2.1")
        model, info = Sam2VideoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
        assert not {name: found for name, found in info.items() if found}
        assert model.config.enable_occlusion_spatial_embedding
        assert model.config.enable_temporal_pos_encoding_for_object_pointers
        assert not model.occlusion_spatial_embedding_parameter.any()
        config = (tmp_path / "out" / "config.json").read_text()
        convert(older, tmp_path / "plain")
        (tmp_path / "plain" / "config.json").write_text(config)
        _, info = Sam2VideoModel.from_pretrained(tmp_path / "plain", output_loading_info=True)
        assert info["missing_keys"] == set(three_in_transformers(tmp_path / "out"))

    @pytest.mark.parametrize("name", DESTINATIONS)
    def test_this_tool(self, tmp_path: Path, older: Path, name: str) -> None:
        convert(older, tmp_path / name, generation="2.1")
        assert inspect(tmp_path / name).generation == "2.1"
        assert validate(tmp_path / name, DEBUG).ok
        assert not validate(tmp_path / name, DEBUG_20).ok


class TestDown:
    @pytest.mark.parametrize("name", DESTINATIONS)
    def test_where_the_three_are_zero_nothing_is_lost(self, tmp_path: Path, name: str) -> None:
        source = newer_with(tmp_path / "newer.pt", {BIAS: -0.0})
        done = convert(source, tmp_path / name, generation="2.0")
        assert (done.generation, done.config, done.lost) == ("2.0", DEBUG_20, {})
        assert done.notes[0] == (
            f"left out, and nothing lost, as all of it is zero: {SPATIAL}, {WEIGHT}, {BIAS}"
        )
        before, after = canonical(source), canonical(tmp_path / name)
        assert after.keys() == shipped_tensors(DEBUG_20).keys()
        assert all(same_bytes(ref, before[k]) for k, ref in after.items())

    @pytest.mark.parametrize("value", [1e-45, -2.5, inf, nan])
    @pytest.mark.parametrize("name", GENERATION_TENSORS)
    def test_a_single_element_that_is_not_zero_is_refused(
        self, tmp_path: Path, name: str, value: float
    ) -> None:
        source = newer_with(tmp_path / "newer.pt", {name: value})
        with pytest.raises(
            MismatchError, match="SAM 2 has no place for these tensors, which are not zero"
        ) as caught:
            convert(source, tmp_path / "out.pt", generation="2.0")
        assert os.listdir(tmp_path) == ["newer.pt"]
        assert caught.value.message.splitlines()[1:] == [
            f"  {name}: up to {torch.tensor(value).abs().item():.6g}"
        ]
        assert "`allow_lossy=True`" in str(caught.value.hint)

    def test_a_cast_that_would_make_it_zero_is_refused_as_well(self, tmp_path: Path) -> None:
        source = newer_with(tmp_path / "newer.pt", {BIAS: 1e-30})
        with pytest.raises(MismatchError, match=BIAS):
            convert(source, tmp_path / "out.pt", generation="2.0", dtype="float16")

    @pytest.mark.parametrize("name", DESTINATIONS)
    def test_when_asked_it_is_dropped_and_the_report_says_how_large_it_was(
        self, tmp_path: Path, name: str
    ) -> None:
        source = newer_with(tmp_path / "newer.pt", {WEIGHT: -2.5, BIAS: inf})
        done = convert(source, tmp_path / name, generation="2.0", allow_lossy=True)
        assert done.lost == {WEIGHT: 2.5, BIAS: None}
        assert f"lost, as SAM 2 has no place for it: {WEIGHT} (up to 2.5), {BIAS} (up to inf)" in (
            str(done)
        )
        assert canonical(tmp_path / name).keys() == shipped_tensors(DEBUG_20).keys()

    def test_a_folder_is_answered_in_its_own_names(self, tmp_path: Path, newer: Path) -> None:
        convert(newer, tmp_path / "hf")
        name = "occlusion_spatial_embedding_parameter"
        with pytest.raises(MismatchError, match=f"  {name}: up to [0-9.]+\n"):
            convert(tmp_path / "hf", tmp_path / "out", generation="2.0")
        done = convert(tmp_path / "hf", tmp_path / "out", generation="2.0", allow_lossy=True)
        assert done.lost[name] == state_dict()[SPATIAL].abs().max().item()
        assert open_checkpoint(tmp_path / "out").generation == "2.0"

    def test_on_the_command_line(self, tmp_path: Path, newer: Path) -> None:
        down = ("convert", newer, tmp_path / "out.pt", "--generation", "2.0")
        for refused in (run(*down), run(*down, "--dry-run")):
            assert refused.exit_code == 1
            assert all(name in refused.stderr for name in GENERATION_TENSORS)
        assert not (tmp_path / "out.pt").exists()
        report = json.loads(run(*down, "--allow-lossy", "--json").output)
        assert report["lost"] == {
            name: state_dict()[name].abs().max().item() for name in GENERATION_TENSORS
        }


class TestThereAndBack:
    @pytest.mark.parametrize("name", DESTINATIONS)
    def test_up_and_down_gives_the_same_bytes(self, tmp_path: Path, older: Path, name: str) -> None:
        end = Path(name).suffix
        convert(older, tmp_path / f"plain{end}")
        convert(older, tmp_path / f"up{end}", generation="2.1")
        convert(tmp_path / f"up{end}", tmp_path / f"down{end}", generation="2.0")
        assert files(tmp_path / f"down{end}") == files(tmp_path / f"plain{end}")
        assert files(tmp_path / f"up{end}") != files(tmp_path / f"plain{end}")

    @pytest.mark.parametrize("generation", GENERATIONS)
    @pytest.mark.parametrize("name", DESTINATIONS)
    def test_the_generation_it_has_is_an_ordinary_conversion(
        self, tmp_path: Path, name: str, generation: Generation
    ) -> None:
        source = official_pt(tmp_path / "source.pt", state_dict(GENERATIONS[generation]))
        plain = convert(source, tmp_path / f"plain{Path(name).suffix}")
        done = convert(source, tmp_path / name, generation=generation)
        assert (done.notes, done.lost) == (plain.notes, {})
        assert files(tmp_path / name) == files(plain.destination)


def files(path: Path) -> list[str]:
    """The SHA-256 of an output, file by file."""
    return [sha256(file) for file in (sorted(path.iterdir()) if path.is_dir() else [path])]


class TestImageModels:
    """They hold none of the three: a config.json tells the generation, or nothing does."""

    @pytest.fixture
    def untold(self, tmp_path: Path, older: Path) -> Path:
        convert(older, tmp_path / "untold.safetensors", to="hf-image")
        (tmp_path / "untold.yaml").unlink()  # which tells it
        return tmp_path / "untold.safetensors"

    @pytest.mark.parametrize("generation", GENERATIONS)
    @pytest.mark.parametrize("source", ["older", "newer"])
    def test_a_folder_records_what_was_asked_for_and_nothing_is_lost(
        self, tmp_path: Path, source: str, generation: Generation, request: pytest.FixtureRequest
    ) -> None:
        path = request.getfixturevalue(source)
        done = convert(path, tmp_path / "out", to="hf-image", generation=generation)
        assert (done.generation, done.lost) == (generation, {})
        count = {"older": 105, "newer": 108}[source]
        assert f"{count} tensors of the memory are left out" in done.notes[0]
        assert open_checkpoint(tmp_path / "out").config == shipped_config(GENERATIONS[generation])
        _, info = Sam2Model.from_pretrained(tmp_path / "out", output_loading_info=True)
        assert not {name: found for name, found in info.items() if found}

    @pytest.mark.parametrize("generation", GENERATIONS)
    def test_one_of_unknown_generation_is_what_it_is_said_to_be(
        self, tmp_path: Path, untold: Path, generation: Generation
    ) -> None:
        assert convert(untold, tmp_path / "plain", to="hf-image").generation is None
        done = convert(untold, tmp_path / "out", to="hf-image", generation=generation)
        assert (done.generation, done.config) == (generation, GENERATIONS[generation])
        assert open_checkpoint(tmp_path / "out").generation == generation
        assert not any("left out" in note for note in done.notes)

    @pytest.mark.parametrize("generation", GENERATIONS)
    def test_the_yaml_beside_a_file_records_it(
        self, tmp_path: Path, newer: Path, generation: Generation
    ) -> None:
        out = tmp_path / "out.safetensors"
        assert convert(newer, out, to="hf-image", generation=generation).files[1] == "out.yaml"
        assert open_checkpoint(out).generation == generation
        (tmp_path / "out.yaml").unlink()
        assert open_checkpoint(out).generation is None

    def test_so_does_that_of_an_unknown_one(self, tmp_path: Path, untold: Path) -> None:
        out = tmp_path / "out.safetensors"
        assert convert(untold, out, to="hf-image").files == ("out.safetensors",)
        convert(untold, out, to="hf-image", image_size=256, overwrite=True)
        found = open_checkpoint(out)
        assert (found.generation, found.config and found.config.image_size) == (None, 256)

    def test_a_base_must_be_of_the_generation_that_was_stated(
        self, tmp_path: Path, untold: Path, older: Path
    ) -> None:
        with pytest.raises(MismatchError, match=r"older.pt: is a SAM 2.0, but .* is a SAM 2.1"):
            convert(untold, tmp_path / "out.pt", base=older, generation="2.1")
        convert(untold, tmp_path / "out.pt", base=older, generation="2.0")
        assert torch.load(tmp_path / "out.pt")["model"].keys() == state_dict(DEBUG_20).keys()

    @pytest.mark.parametrize("name", DESTINATIONS)
    def test_with_a_base_it_is_made_whole_and_lifted(
        self, tmp_path: Path, older: Path, name: str
    ) -> None:
        convert(older, tmp_path / "image", to="hf-image", image_size=256)
        done = convert(tmp_path / "image", tmp_path / name, base=older, generation="2.1")
        direct = tmp_path / f"direct{Path(name).suffix}"
        size = {"image_size": 256} if name == "out" else {}
        convert(older, direct, generation="2.1", **size)  # type: ignore[arg-type]
        assert (done.generation, done.image_size) == ("2.1", 256)
        assert files(tmp_path / name) == files(direct)

    def test_with_a_base_the_way_down_asks_the_base(self, tmp_path: Path, newer: Path) -> None:
        convert(newer, tmp_path / "image", to="hf-image")
        out = tmp_path / "out.pt"
        with pytest.raises(
            MismatchError, match=f"newer.pt: SAM 2 has no place(.|\n)*{SPATIAL}: up to"
        ):
            convert(tmp_path / "image", out, base=newer, generation="2.0")
        zero = newer_with(tmp_path / "zero.pt", {})
        assert not convert(tmp_path / "image", out, base=zero, generation="2.0").lost


class TestRequests:
    def test_a_generation_that_is_none(self, tmp_path: Path, older: Path) -> None:
        with pytest.raises(UsageError, match="no generation is called '3'"):
            convert(older, tmp_path / "out.pt", generation="3")  # type: ignore[arg-type]
        assert run("convert", older, tmp_path / "out.pt", "--generation", "3").exit_code == 2

    @pytest.mark.parametrize("generation", [None, "2.1"])
    def test_leave_to_lose_where_nothing_can_be_lost(
        self, tmp_path: Path, older: Path, generation: Generation | None
    ) -> None:
        with pytest.raises(UsageError, match="`allow_lossy`: there is nothing to lose"):
            convert(older, tmp_path / "out.pt", generation=generation, allow_lossy=True)

    def test_the_config_is_that_of_the_source(self, tmp_path: Path, older: Path) -> None:
        done = convert(older, tmp_path / "out", config=DEBUG_20, generation="2.1")
        assert done.config == DEBUG
        with pytest.raises(MismatchError, match=f"does not fit .* config '{DEBUG}'"):
            convert(older, tmp_path / "other", config=DEBUG, generation="2.1")

    @pytest.mark.parametrize("generation", GENERATIONS)
    def test_image_size_and_generation_are_both_recorded(
        self, tmp_path: Path, older: Path, generation: Generation
    ) -> None:
        convert(older, tmp_path / "out", generation=generation, image_size=256)
        expected = replace(shipped_config(GENERATIONS[generation]), image_size=256)
        assert open_checkpoint(tmp_path / "out").config == expected


def test_a_zero_that_is_not_written_as_one_is_noticed(tmp_path: Path) -> None:
    """Control of the reading back of tensors that stand in no file."""
    path, spec = tmp_path / "out", TensorSpec("F32", (3, 5))
    wanted = {"zeros": ToWrite(spec, (Constant(spec),))}
    write_safetensors(path, wanted, {}, SILENT)

    def check() -> None:
        with ReadBack(path, [], SILENT) as readback:
            readback.finish(wanted, read_safetensors(path).root)

    check()
    good = path.read_bytes()
    for at in range(len(good) - spec.nbytes, len(good)):
        path.write_bytes(good[:at] + b"\x80" + good[at + 1 :])
        with pytest.raises(MismatchError, match="zeros, read back, is not what was written"):
            check()


Outputs = dict[str, Tensor]


def leaves(tree: Any, name: str = "") -> Outputs:
    """The tensors in nested dicts and lists, by their path."""
    if isinstance(tree, Tensor):
        return {name: tree}
    if not isinstance(tree, (Mapping, list)):
        return {}
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    return {k: v for step, item in items for k, v in leaves(item, f"{name}/{step}").items()}


def difference(one: Outputs, other: Outputs) -> float:
    """The largest anywhere; NaN where there is one."""
    assert one.keys() == other.keys()
    return float(torch.stack([(one[k] - other[k]).abs().max().float() for k in one]).max())


def scores(outputs: Outputs) -> list[float]:
    return [float(found) for name, found in outputs.items() if "object_score_logits" in name]


OFFICIALLY: Known = {}
IN_TRANSFORMERS: Known = {}
CLICKS = ((45.0, 80.0), (100.0, 25.0))  # one for each object, on the first of the frames


def clip() -> list[NDArray[np.uint8]]:
    """24 frames of a scene that moves sideways, and is dark and upside down for four of them."""
    moving = [np.roll(scene(128), 4 * number, axis=1) for number in range(24)]
    return [*moving[:8], *(frame[::-1] // 3 for frame in moving[8:12]), *moving[12:]]


def track_officially(frames: Path, config: str, weights: Mapping[str, Tensor]) -> Outputs:
    predictor = build_official_predictor(
        shipped_config(config), fill_hole_area=0, binarize_mask_from_pts_for_mem_enc=True
    )
    predictor.load_state_dict(weights, strict=True)
    with encoding_once(predictor, "forward_image", OFFICIALLY):
        state = predictor.init_state(str(frames))
        for number, point in enumerate(CLICKS):
            predictor.add_new_points_or_box(state, 0, number, points=[point], labels=[1])
        masks = {number: mask for number, _, mask in predictor.propagate_in_video(state)}
    assert len(masks) == 24
    return leaves({"masks": masks, "objects": state["output_dict_per_obj"]})


def track_in_transformers(folder: Path, change: Mapping[str, Tensor]) -> Outputs:
    model = Sam2VideoModel.from_pretrained(folder).eval()
    # Weights are mapped from the file, and begin in memory where they lie in it; at another
    # alignment the kernels of a CPU round differently. So each weight gets a place of its own.
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict({**own, **change}, assign=True)
    processor = AutoProcessor.from_pretrained(folder)
    session = processor.init_video_session(video=clip(), inference_device="cpu")
    processor.add_inputs_to_inference_session(
        session,
        frame_idx=0,
        obj_ids=[1, 2],
        input_points=[[[list(point)] for point in CLICKS]],
        input_labels=[[[1], [1]]],
    )
    with encoding_once(model, "get_image_features", IN_TRANSFORMERS):
        model(inference_session=session, frame_idx=0)
        masks = [found.pred_masks for found in model.propagate_in_video_iterator(session)]
    assert len(masks) == 24
    return leaves({"masks": masks, "objects": session.output_dict_per_obj})


class TestTracking:
    """Two objects through 24 frames, by a model of SAM 2 and by its lifted weights in SAM 2.1."""

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        """For so small a model, several are slower."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        weights = randomise(build_official(shipped_config(DEBUG_20)), seed=1)
        return official_pt(tmp_path / "source.pt", weights)

    def test_in_the_official_code_no_output_differs(self, tmp_path: Path, source: Path) -> None:
        frames = tmp_path / "frames"
        frames.mkdir()
        for number, frame in enumerate(clip()):
            Image.fromarray(frame).save(frames / f"{number}.jpg", quality=95)
        convert(source, tmp_path / "lifted.pt", generation="2.1")
        older, lifted = (
            torch.load(tmp_path / f"{name}.pt")["model"] for name in ("source", "lifted")
        )
        before = track_officially(frames, DEBUG_20, older)
        assert len(scores(before)) == 48
        assert min(scores(before)) < -0.05
        assert max(scores(before)) > 0.05
        assert difference(before, track_officially(frames, DEBUG, lifted)) == 0.0
        for name in GENERATION_TENSORS:
            changed = {**lifted, name: torch.ones_like(lifted[name])}
            assert difference(before, track_officially(frames, DEBUG, changed)) > 0.01, name

    def test_nor_in_transformers(self, tmp_path: Path, source: Path) -> None:
        convert(source, tmp_path / "older")
        convert(source, tmp_path / "lifted", generation="2.1")
        before = track_in_transformers(tmp_path / "older", {})
        assert len(scores(before)) == 48
        assert min(scores(before)) < -0.05
        assert max(scores(before)) > 0.05
        assert difference(before, track_in_transformers(tmp_path / "lifted", {})) == 0.0
        for name, value in three_in_transformers(tmp_path / "lifted").items():
            change = {name: torch.ones_like(value)}
            after = track_in_transformers(tmp_path / "lifted", change)
            assert difference(before, after) > 0.01, name
