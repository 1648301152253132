"""The known differences of transformers explain all that differs, and hide nothing else.

Every activation of every scenario is compared, for models whose tensors are all random.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import Sam2VideoModel

from sam21convert.checkpoint.open import open_checkpoint
from sam21convert.comparison.activations import Activations
from sam21convert.comparison.backends.base import Backend, LoadOptions
from sam21convert.comparison.backends.transformers import Transformers
from sam21convert.comparison.backends.truth import Truth
from sam21convert.comparison.explain.known_differences import (
    KNOWN_DIFFERENCES,
    KnownDifference,
    emulating,
    file_faults,
    known,
)
from sam21convert.comparison.inputs import Clip, Picture, clip, pictures
from sam21convert.comparison.metrics import least_unit, relative
from sam21convert.comparison.scenarios import BY_NAME, ImageScenario, PixelScenario, VideoScenario
from sam21convert.config.registry import shipped_config
from sam21convert.prediction.backends.replaced import replaced

from ..support.checkpoints import DEBUG, DEBUG_20, official_pt
from ..support.rounding import EPSILON, MULTIPLE, variants
from ..support.transformers import displaced, hf_folder, new_predictor, weights

INSTALLED: str = transformers.__version__
PIXELS = MULTIPLE * EPSILON  # of a sum, a product and a quotient, in units of the scale


def here(scenario: str) -> tuple[KnownDifference, ...]:
    """Known differences of the installed transformers."""
    return known("transformers", INSTALLED, scenario)


BOTH = pytest.mark.parametrize("name", [DEBUG, DEBUG_20])


def each(pairs: Iterable[tuple[KnownDifference, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("known_difference", "scenario"),
        list(pairs),
        ids=lambda value: getattr(value, "name", value),
    )


@cache
def picture() -> Picture:
    (drawn,) = pictures(None, shipped_config(DEBUG).image_size)
    return drawn


@cache
def video(frames: int) -> Clip:
    return clip(None, shipped_config(DEBUG).image_size, frames)


def new_truth(name: str) -> Truth:
    return Truth(Path("weights"), new_predictor(name), images_only=False)


truth = cache(new_truth)


@cache
def theirs(name: str) -> Transformers:
    with TemporaryDirectory() as home:
        return Transformers.load(official_pt(Path(home) / "w.pt", weights(name)), LoadOptions(name))


def asked(backend: Backend, scenario: str) -> Activations:
    """All activations of a scenario, or the pixels that the package makes.

    Memories stay in float32, because one bit of bfloat16 is larger than all other rounding.
    """
    case = BY_NAME[scenario]
    if isinstance(case, PixelScenario):
        made = backend.clip_pixels(video(4)) if case.video else backend.picture_pixels(picture())
        return {"pixels": made}
    if isinstance(case, VideoScenario):
        with patch.object(torch, "bfloat16", torch.float32):
            return backend.track(video(case.frames), case)
    activations = backend.encode(picture().tensor)
    return (
        {**activations, **backend.segment(picture(), case)}
        if isinstance(case, ImageScenario)
        else activations
    )


@cache
def their_answer(name: str, scenario: str) -> Activations:
    return asked(theirs(name), scenario)


def furthest(mine: Activations, other: Activations) -> float:
    """The largest difference of a common activation, relative to its scale."""
    return max(
        relative(mine[activation], other[activation], least_unit(activation))
        for activation in mine
        if activation in other
    )


@cache
def tolerance(name: str) -> float:
    """How far apart activations may be: a multiple of how far rounding alone moves them."""
    noise = EPSILON
    for scenario in ("box-point", "video-box"):
        usual = asked(truth(name), scenario)
        for model, context in variants(truth(name).model):
            with context:
                found = asked(Truth(Path("weights"), model, images_only=False), scenario)
            noise = max(noise, furthest(usual, found))
    return MULTIPLE * noise


def bound(name: str, scenario: str) -> float:
    return PIXELS if isinstance(BY_NAME[scenario], PixelScenario) else tolerance(name)


def our_answer(
    name: str, scenario: str, emulated: Iterable[KnownDifference], fault: str = ""
) -> Activations:
    """Activations of the ground truth with an emulation; ``fault`` is a tensor to displace."""
    ours = truth(name)
    faulty = displaced(ours.tensor(fault)) if fault else nullcontext()
    with faulty, emulating(ours, tuple(emulated)):
        return asked(ours, scenario)


@BOTH
@pytest.mark.parametrize("scenario", BY_NAME)
def test_with_all_emulations_the_two_agree(name: str, scenario: str) -> None:
    mine, other = our_answer(name, scenario, here(scenario)), their_answer(name, scenario)
    assert set(mine) == set(other)
    assert furthest(mine, other) < bound(name, scenario)


@BOTH
@each((known_difference, scenario) for scenario in BY_NAME for known_difference in here(scenario))
def test_without_one_emulation_they_do_not(
    name: str, known_difference: KnownDifference, scenario: str
) -> None:
    others = [other for other in here(scenario) if other is not known_difference]
    mine = our_answer(name, scenario, others)
    assert furthest(mine, their_answer(name, scenario)) > 20 * bound(name, scenario)


# Tensors that the emulated code uses, for each scenario.
FAULTS = [
    ("no-prompt", "sam_prompt_encoder.not_a_point_embed.weight"),
    ("no-prompt", "sam_mask_decoder.iou_token.weight"),
    ("video-mask", "mask_downsample.weight"),
    ("video-mask", "sam_mask_decoder.mask_tokens.weight"),
    ("video-mask", "obj_ptr_proj.layers.2.bias"),
    ("video-mask", "memory_encoder.mask_downsampler.encoder.0.weight"),
    ("video-correction", "sam_prompt_encoder.point_embeddings.0.weight"),
    ("video-correction", "sam_prompt_encoder.no_mask_embed.weight"),
    ("video-correction", "memory_attention.norm.bias"),
    ("video-holes", "sam_mask_decoder.output_upscaling.3.bias"),
    ("video-holes", "memory_encoder.out_proj.bias"),
]


@BOTH
@pytest.mark.parametrize(("scenario", "tensor"), FAULTS)
def test_no_fault_hides_behind_a_known_difference(name: str, scenario: str, tensor: str) -> None:
    mine = our_answer(name, scenario, here(scenario), tensor)
    assert furthest(mine, their_answer(name, scenario)) > 20 * bound(name, scenario)


@pytest.mark.parametrize("scenario", ["image-pixels", "video-pixels"])
def test_no_other_pixels_hide_behind_a_known_difference(scenario: str) -> None:
    ours, other = truth(DEBUG), their_answer(DEBUG, scenario)["pixels"]
    with emulating(ours, here(scenario)):
        right = asked(ours, scenario)["pixels"]
    assert relative(right.roll(1, dims=-1), other) > 100 * PIXELS
    assert relative(right.flip(-3), other) > 100 * PIXELS


@pytest.mark.parametrize("scenario", ["image-pixels", "video-pixels"])
def test_pixels_agree_whatever_torchvision_resizes_in(
    scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bytes on the processors that it lists, else in floats, which are rounded at the end."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    made = []
    for processor in ("AVX2", "DEFAULT"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda it=processor: it)
        made.append(asked(theirs(DEBUG), scenario)["pixels"])
        with emulating(ours := truth(DEBUG), here(scenario)):
            assert relative(asked(ours, scenario)["pixels"], made[-1]) < PIXELS
    in_bytes, in_floats = made
    assert relative(in_bytes, in_floats) > 100 * PIXELS


@BOTH
@pytest.mark.parametrize("scenario", ["box", "box-point"])
def test_boxes_without_padding(name: str, scenario: str) -> None:
    """As in transformers 4.56, where a box gave two corners and no padding point."""
    ours, encoder = truth(name), theirs(name).image.prompt_encoder
    corners = encoder._embed_boxes
    with replaced(encoder, _embed_boxes=lambda boxes: corners(boxes)[:, :, :2]):
        other = asked(theirs(name), scenario)
    assert furthest(asked(ours, scenario), other) > 20 * tolerance(name)
    with emulating(ours, known("transformers", "4.56.2", scenario)):
        assert furthest(asked(ours, scenario), other) < tolerance(name)


EVERY = [
    (known_difference, scenario)
    for known_difference in KNOWN_DIFFERENCES
    for scenario in known_difference.scenarios
]


class TestEmulation:
    @each(EVERY)
    def test_everything_is_restored_afterwards(
        self, known_difference: KnownDifference, scenario: str
    ) -> None:
        ours, bystander = new_truth(DEBUG), new_truth(DEBUG)
        expected = asked(ours, scenario)
        before = methods(ours)
        with pytest.raises(ZeroDivisionError), emulating(ours, [known_difference]):
            assert methods(ours) != before
            assert_same(asked(bystander, scenario), expected)
            raise ZeroDivisionError
        assert methods(ours) == before
        assert_same(asked(ours, scenario), expected)

    def test_an_outer_replacement_is_restored(self) -> None:
        ours = truth(DEBUG)
        with replaced(ours, encode=list):
            with replaced(ours, encode=dict, segment=set):
                assert vars(ours)["encode"] is dict
                assert vars(ours)["segment"] is set
            assert vars(ours)["encode"] is list
            assert "segment" not in vars(ours)
        assert "encode" not in vars(ours)


def methods(truth: Truth) -> list[dict[str, Any]]:
    """The attributes of the instance and of all submodules of its model."""
    return [dict(vars(part)) for part in (truth, *truth.model.modules())]


def assert_same(found: Activations, expected: Activations) -> None:
    assert list(found) == list(expected)
    assert all(torch.equal(found[activation], expected[activation]) for activation in expected)


class TestTable:
    def test_names_are_unique_and_scenarios_exist(self) -> None:
        names = [known_difference.name for known_difference in KNOWN_DIFFERENCES]
        assert len(set(names)) == len(names)
        assert {scenario for _, scenario in EVERY} <= set(BY_NAME)

    @pytest.mark.parametrize("version", ["4.56.0", "4.57.6", "5.23.0", "5.23.0.dev0", "6.0rc1"])
    @each(EVERY)
    def test_versions(self, known_difference: KnownDifference, scenario: str, version: str) -> None:
        fixed = known_difference.name == "box-padding" and version != "4.56.0"
        assert (known_difference in known("transformers", version, scenario)) != fixed

    @pytest.mark.parametrize(
        ("backend", "version"),
        [("transformers", "4.55.4"), ("sam2", "4.56.0"), ("truth", "4.56.0")],
    )
    @pytest.mark.parametrize("scenario", BY_NAME)
    def test_where_nothing_is_known(self, scenario: str, backend: str, version: str) -> None:
        assert known(backend, version, scenario) == ()


OF_PROMPTS = "prompt_encoder.shared_embedding.positional_embedding"
OF_THE_IMAGE = "shared_image_embedding.positional_embedding"


def without(missing: str, home: Path) -> Path:
    """A folder without one of the tensors."""
    folder = hf_folder(home, weights(DEBUG))
    tensors = load_file(folder / "model.safetensors")
    del tensors[missing]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


class TestFileFaults:
    """A file with only one copy of the positional embedding."""

    @pytest.mark.parametrize("missing", [OF_PROMPTS, OF_THE_IMAGE])
    def test_transformers_fills_the_missing_copy_with_random_values(
        self, missing: str, tmp_path: Path
    ) -> None:
        folder = without(missing, tmp_path)
        model, info = Sam2VideoModel.from_pretrained(folder, output_loading_info=True)
        assert set(info["missing_keys"]) == {missing}
        right = weights(DEBUG)["sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
        assert relative(model.state_dict()[missing], right) > 0.1
        (found,) = file_faults("transformers", INSTALLED, open_checkpoint(folder))
        assert f"{folder}: {missing} is missing" in found.text
        assert INSTALLED in found.text
        assert found.hint is not None

    @pytest.mark.parametrize(
        ("missing", "backend", "version", "activations"),
        [
            (OF_PROMPTS, "transformers", "5.0.0.dev0", ["prompt.sparse"]),
            (OF_THE_IMAGE, "transformers", "5.0.0.dev0", ["decoder.tokens"]),
            (OF_PROMPTS, "transformers", "4.57.6", []),
            (OF_THE_IMAGE, "transformers", "4.57.6", ["prompt.sparse"]),
            (OF_PROMPTS, "truth", "5.23.0", []),
        ],
    )
    def test_the_first_activation_that_changes(
        self, missing: str, backend: str, version: str, activations: list[str], tmp_path: Path
    ) -> None:
        checkpoint = open_checkpoint(without(missing, tmp_path))
        found = file_faults(backend, version, checkpoint)
        assert [fault.activation for fault in found] == activations

    def test_a_complete_file(self, tmp_path: Path) -> None:
        folder = hf_folder(tmp_path, weights(DEBUG))
        assert file_faults("transformers", INSTALLED, open_checkpoint(folder)) == ()
