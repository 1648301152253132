from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam21convert import convert, load_model
from sam21convert.config.registry import shipped_config
from sam21convert.errors import MismatchError, RefusedError, UsageError
from sam21convert.prediction.resample import (
    AGES,
    BACKGROUND,
    resample_ages,
    resample_background,
)

from ..support.checkpoints import DEBUG, DEBUG_20, official_pt, state_dict

CONFIG = shipped_config(DEBUG)
WINDOW = "image_encoder.trunk.pos_embed_window"

pytestmark = pytest.mark.usefixtures("small_pieces")


@pytest.mark.parametrize("config", [DEBUG, DEBUG_20])
@pytest.mark.parametrize("form", ["m.pt", "x.safetensors", "hf"])
def test_every_form_loads_the_same_weights(tmp_path: Path, config: str, form: str) -> None:
    tensors = state_dict(config)
    official_pt(tmp_path / "m.pt", tensors)
    if form != "m.pt":
        convert(tmp_path / "m.pt", tmp_path / form)
    model, report = load_model(tmp_path / form)
    loaded = model.state_dict()
    assert list(loaded) == list(tensors)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert not model.training
    assert report.tensors == len(tensors)


def test_a_strided_tensor_loads(tmp_path: Path) -> None:
    tensors = state_dict()
    name = "memory_attention.layers.0.linear1.weight"
    expected = tensors[name]
    tensors[name] = expected.t().contiguous().t()
    model, _ = load_model(official_pt(tmp_path / "m.pt", tensors))
    assert torch.equal(model.state_dict()[name], expected)


def test_the_type_is_that_of_the_weights_unless_given(tmp_path: Path) -> None:
    official_pt(tmp_path / "m.pt")
    convert(tmp_path / "m.pt", tmp_path / "half.safetensors", dtype="bfloat16")
    assert load_model(tmp_path / "half.safetensors")[0].no_obj_ptr.dtype == torch.bfloat16
    model, _ = load_model(tmp_path / "half.safetensors", dtype=torch.float32)
    assert model.no_obj_ptr.dtype == torch.float32


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    pt = official_pt(tmp_path / "m.pt")
    with pytest.raises(MismatchError, match="does not fit"):
        load_model(pt, DEBUG_20)
    convert(pt, tmp_path / "image", to="hf-image")
    with pytest.raises(RefusedError, match="is an image model"):
        load_model(tmp_path / "image")


class TestReport:
    def test_it_says_what_was_loaded_as_what(self, tmp_path: Path) -> None:
        pt = official_pt(tmp_path / "m.pt")
        model, report = load_model(pt, DEBUG, 256, dtype=torch.float16)
        assert (report.path, report.dialect, report.container) == (pt, "official", "torch zip")
        assert (report.generation, report.image_size, report.config) == ("2.1", 256, model.config)
        assert (report.dtype, report.device) == ("float16", "cpu")
        assert (report.resampled, report.notes) == ((), ())
        assert str(report).splitlines() == [
            f"loaded {report.tensors} tensors of {pt} (official, torch zip)",
            "  as SAM 2.1 for 256 pixels, float16, cpu",
        ]

    def test_it_is_json_with_the_config_and_each_resampling_named(self, tmp_path: Path) -> None:
        pt = official_pt(tmp_path / "m.pt", with_memories(5))
        _, report = load_model(pt, DEBUG, resample_positions=True)
        content = json.loads(report.to_json())
        assert content["config"]["trunk"]["window_spec"] == [8, 4, 6, 3]
        assert content["resampled"][0]["tensor"] == AGES
        assert content["resampled"][0]["stored"] == [5, 1, 1, 64]
        assert "  resampled maskmem_tpos_enc from 5x1x1x64 to 7x1x1x64: " in str(report)

    def test_it_notes_what_was_left_out_guessed_and_brought_together(self, tmp_path: Path) -> None:
        tensors = {name: tensor.bfloat16() for name, tensor in state_dict().items()}
        tensors[AGES] = tensors[AGES].half()
        torch.save({"model": tensors, "epoch": 3}, tmp_path / "m.pt")
        model, report = load_model(tmp_path / "m.pt")
        assert model.no_obj_ptr.dtype == torch.float32, "neither half type holds the other"
        assert list(report.notes) == [
            "not loaded, not part of the model: epoch",
            "the file mixes bfloat16, float16; the model has one type",
            "image size, windows and heads are those of the published model: no tensor tells them; "
            "`config=FILE` gives others",
        ]


class TestImageSize:
    def test_another_one_takes_the_place_of_the_configs(self, tmp_path: Path) -> None:
        model, _ = load_model(official_pt(tmp_path / "m.pt"), image_size=256)
        assert model.config == replace(CONFIG, image_size=256)
        assert model.encode_image(torch.zeros(1, 3, 256, 256)).embedding.shape[-1] == 16

    def test_an_impossible_one_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="image_size: 500 is not a multiple of 32"):
            load_model(official_pt(tmp_path / "m.pt"), image_size=500)


def with_memories(count: int) -> dict[str, Tensor]:
    """The debug checkpoint, trained with another number of memories."""
    tensors = state_dict()
    tensors[AGES] = torch.randn(count, 1, 1, 64)
    return tensors


class TestResampling:
    @pytest.fixture
    def tensors(self) -> dict[str, Tensor]:
        """A checkpoint of another number of memories and another stored grid than the config's."""
        tensors = with_memories(5)
        tensors[BACKGROUND] = torch.randn(1, 8, 14, 14)
        return tensors

    @pytest.fixture(params=["m.pt", "x.safetensors", "hf"])
    def source(
        self, request: pytest.FixtureRequest, tmp_path: Path, tensors: dict[str, Tensor]
    ) -> Path:
        pt = official_pt(tmp_path / "m.pt", tensors)
        if request.param != "m.pt":
            trunk = replace(CONFIG.trunk, window_pos_embed_bkg_spatial_size=(14, 14))
            config = replace(CONFIG, num_maskmem=5, trunk=trunk)
            convert(pt, tmp_path / str(request.param), config=config)
        return tmp_path / str(request.param)

    def test_it_is_not_done_unasked(self, source: Path) -> None:
        with pytest.raises(MismatchError, match="mismatched     2 ") as caught:
            load_model(source, DEBUG)
        assert "resample_positions=True) interpolates" in str(caught.value.hint)
        assert AGES in str(caught.value.hint)
        assert BACKGROUND in str(caught.value.hint)

    def test_asked_for_it_changes_two_tensors_and_says_so(
        self, source: Path, tensors: dict[str, Tensor]
    ) -> None:
        model, report = load_model(source, DEBUG, resample_positions=True)
        assert model.config == report.config == CONFIG
        expected = {
            **tensors,
            AGES: resample_ages(tensors[AGES], 7),
            BACKGROUND: resample_background(tensors[BACKGROUND], (7, 7)),
        }
        loaded = model.state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
        assert [(r.tensor, r.stored, r.shape) for r in report.resampled] == [
            (AGES, (5, 1, 1, 64), (7, 1, 1, 64)),
            (BACKGROUND, (1, 8, 14, 14), (1, 8, 7, 7)),
        ]

    def test_a_checkpoint_that_fits_is_not_touched(self, tmp_path: Path) -> None:
        pt = official_pt(tmp_path / "m.pt")
        model, report = load_model(pt, resample_positions=True)
        assert report.resampled == ()
        assert all(torch.equal(model.state_dict()[n], t) for n, t in state_dict().items())

    @pytest.mark.parametrize(
        "changes",
        [
            {WINDOW: torch.ones(1, 8, 4, 4)},
            {AGES: torch.ones(7, 1, 1, 32)},
            {AGES: torch.ones(1, 1, 1, 64)},
            {AGES: torch.ones(5, 1, 1, 64), "no_obj_ptr": torch.ones(1, 3)},
            {AGES: torch.ones(5, 1, 1, 64), "more": torch.ones(1)},
            {AGES: torch.ones(5, 1, 1, 64).int()},
        ],
        ids=["window", "width", "no ages", "another misfit", "unexpected", "wrong type"],
    )
    def test_whatever_else_does_not_fit_is_refused_all_the_same(
        self, tmp_path: Path, changes: dict[str, Tensor]
    ) -> None:
        pt = official_pt(tmp_path / "m.pt", {**state_dict(), **changes})
        with pytest.raises(MismatchError, match="does not fit") as caught:
            load_model(pt, resample_positions=True)
        assert "resample" not in str(caught.value)

    def test_an_absurd_grid_is_refused_by_name(self, tmp_path: Path) -> None:
        tensors = {**state_dict(), BACKGROUND: torch.zeros(1, 8, 70000, 1)}
        with pytest.raises(RefusedError, match=r"m\.pt: trunk\.window_pos_embed_bkg_spatial_size"):
            load_model(official_pt(tmp_path / "m.pt", tensors), resample_positions=True)
