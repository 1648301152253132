"""Frames of a video are encoded once for all scenarios, but again after a weight has changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam21convert.comparison.activations import Activations
from sam21convert.comparison.backends.base import LoadOptions
from sam21convert.comparison.backends.truth import Truth
from sam21convert.comparison.inputs import Clip, clip
from sam21convert.comparison.perturb import perturb
from sam21convert.comparison.scenarios import BY_NAME, VideoScenario

from ..support.checkpoints import official_pt

SCENARIO = BY_NAME["video-point"]
WEIGHTS = [
    "image_encoder.trunk.pos_embed",
    "image_encoder.neck.convs.3.conv.bias",
    "sam_mask_decoder.conv_s0.weight",
    "no_mem_embed",
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_pt(tmp_path_factory.mktemp("truth") / "model.pt")


@pytest.fixture
def truth(checkpoint: Path) -> Truth:
    return Truth.load(checkpoint, LoadOptions())


@pytest.fixture
def encoded(truth: Truth, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """The pixels of all frames that are encoded."""
    frames: list[Tensor] = []
    encode = truth.model.encode_frame

    def noted(pixels: Tensor, activations: dict[str, Tensor] | None = None) -> object:
        frames.append(pixels)
        return encode(pixels, activations)

    with monkeypatch.context() as patched:
        patched.setattr(truth.model, "encode_frame", noted)
        yield frames


def drawn(truth: Truth) -> Clip:
    return clip(None, truth.config.image_size, 3)


def track(truth: Truth, video: Clip) -> Activations:
    assert isinstance(SCENARIO, VideoScenario)
    with torch.inference_mode():
        return truth.track(video, SCENARIO)


def same(left: Activations, right: Activations) -> bool:
    return [*left] == [*right] and all(torch.equal(left[name], right[name]) for name in left)


def test_a_second_scenario_encodes_nothing(truth: Truth, encoded: list[Tensor]) -> None:
    video = drawn(truth)
    first = track(truth, video)
    assert len(encoded) == 3
    assert same(track(truth, video), first)
    assert len(encoded) == 3


def test_other_frames_are_encoded(truth: Truth, encoded: list[Tensor]) -> None:
    track(truth, drawn(truth))
    track(truth, drawn(truth))
    assert len(encoded) == 6


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_changed_weight_is_noticed(truth: Truth, encoded: list[Tensor], name: str) -> None:
    """And so is that it changes back, although nobody asks for it again."""
    video = drawn(truth)
    first = track(truth, video)
    with perturb(truth.tensor(name), 0.3):
        changed = track(truth, video)
        assert same(changed, track(truth.twin(), video))
    assert not same(changed, first)
    assert same(track(truth, video), first)
    assert len(encoded) == 4 * 3


def test_other_weights_do_not_matter(truth: Truth, encoded: list[Tensor]) -> None:
    video = drawn(truth)
    first = track(truth, video)
    with perturb(truth.tensor("memory_encoder.out_proj.weight"), 0.3):
        assert not same(track(truth, video), first)
    assert len(encoded) == 3


def test_weights_of_any_layout_are_compared(truth: Truth) -> None:
    """Those of a checkpoint whose layers are transposed."""
    weight = truth.model.get_parameter("image_encoder.trunk.patch_embed.proj.weight")
    video = drawn(truth)
    first = track(truth, video)
    weight.data = weight.data.to(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert [*track(truth, video)] == [*first]


def test_the_model_is_observed_for_the_scenario_only(truth: Truth) -> None:
    track(truth, drawn(truth))
    assert truth.model.observer is None
    assert truth.model.feature_cache is None
