"""The ground truth computes what the official code computes, to the last bit.

All of it on the CPU in float32, where the order of operations is fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from sam2.modeling.position_encoding import PositionEmbeddingSine, compute_axial_cis
from sam2.modeling.sam2_utils import get_1d_sine_pe
from torch import Tensor

from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2, ImageFeatures, MaskPrediction
from sam21convert.model.config import ModelConfig
from sam21convert.model.position_encoding import rotary_grid, sine_ages, sine_grid

from ..support import official
from ..support.official import DEBUG

Prompts = dict[str, Any]  # of tensors, by the names of predict_masks


class Pair:
    """Our model and the official one with the same weights, looking at the same picture."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.ours = SAM2(config).eval()
        self.weights = official.randomise(self.ours, seed=0)
        self.theirs = official.build_official(config)
        self.theirs.load_state_dict(self.weights)
        self.predictor = official.official_predictor(self.theirs)
        side = config.image_size
        picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        self.pixels: Tensor = self.predictor._transforms(picture)[None]
        self.predictor.set_image(picture)
        self.features = self.ours.encode_image(self.pixels)

    def their_features(self) -> ImageFeatures:
        """What the predictor keeps of its picture."""
        fine, middle = self.predictor._features["high_res_feats"]
        return ImageFeatures(self.predictor._features["image_embed"], (fine, middle))

    def their_masks(self, prompts: Prompts, *, multimask: bool) -> MaskPrediction:
        """What the decoder gives the predictor, before logits are clamped and resized."""
        seen: list[Any] = []
        decoder = self.theirs.sam_mask_decoder
        hook = decoder.register_forward_hook(lambda _module, _args, output: seen.append(output))
        _, iou, clamped = self.predictor._predict(
            prompts.get("points"),
            prompts.get("labels"),
            prompts.get("boxes"),
            prompts.get("mask_input"),
            multimask_output=multimask,
        )
        hook.remove()
        logits, _, tokens, score = seen[0]
        assert torch.equal(clamped, logits.clamp(-32, 32))
        return MaskPrediction(logits, iou, score, tokens)


@cache
def pair(name: str, image_size: int) -> Pair:
    return Pair(replace(shipped_config(name), image_size=image_size))


def prompts_of(kind: str, side: int, batch: int = 1) -> Prompts:
    """Random prompts: ``point``, ``three points``, ``box``, ``mask``, joined by ``+``."""
    generator = torch.Generator().manual_seed(len(kind))

    def random(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator)

    prompts: Prompts = {}
    if "point" in kind:
        count = 3 if "three" in kind else 1
        prompts["points"] = random(count, 2) * side
        prompts["labels"] = torch.tensor([[1, 0, 1]], dtype=torch.int)[:, :count].repeat(batch, 1)
    if "box" in kind:
        corners = random(2, 2) * side
        prompts["boxes"] = torch.cat((corners.amin(1), corners.amax(1)), dim=1)
    if "mask" in kind:
        prompts["mask_input"] = 20 * random(1, side // 4, side // 4) - 10
    return prompts


KINDS = ("nothing", "point", "three points", "box", "box+point", "mask", "point+mask")


def same(ours: MaskPrediction, theirs: MaskPrediction) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("image_size", [128, 256])
@pytest.mark.parametrize("name", DEBUG)
class TestSmallModels:
    def test_trunk_and_neck(self, name: str, image_size: int) -> None:
        both = pair(name, image_size)
        activations: dict[str, Tensor] = {}
        both.ours.encode_image(both.pixels, activations=activations)
        stages = both.theirs.image_encoder.trunk(both.pixels)
        levels, _ = both.theirs.image_encoder.neck(stages)
        expected = {f"trunk.stage{i}": stage for i, stage in enumerate(stages)}
        expected |= {f"neck.level{i}": level for i, level in enumerate(levels[:3])}
        assert list(activations) == list(expected)
        assert all(torch.equal(activations[key], value) for key, value in expected.items())

    def test_image_features(self, name: str, image_size: int) -> None:
        both = pair(name, image_size)
        theirs = both.their_features()
        assert torch.equal(both.features.embedding, theirs.embedding)
        assert torch.equal(both.features.high_res[0], theirs.high_res[0])
        assert torch.equal(both.features.high_res[1], theirs.high_res[1])

    @pytest.mark.parametrize("multimask", [True, False])
    @pytest.mark.parametrize("kind", KINDS)
    def test_masks(self, name: str, image_size: int, kind: str, multimask: bool) -> None:
        both = pair(name, image_size)
        prompts = prompts_of(kind, image_size)
        ours = both.ours.predict_masks(both.features, **prompts, multimask_output=multimask)
        assert ours.logits.shape[1] == (3 if multimask else 1)
        assert same(ours, both.their_masks(prompts, multimask=multimask))

    @pytest.mark.parametrize("multimask", [True, False])
    @pytest.mark.parametrize("kind", ["point", "three points", "box", "box+point", "point+mask"])
    def test_several_prompts(self, name: str, image_size: int, kind: str, multimask: bool) -> None:
        both = pair(name, image_size)
        prompts = prompts_of(kind, image_size, batch=5)
        ours = both.ours.predict_masks(both.features, **prompts, multimask_output=multimask)
        assert same(ours, both.their_masks(prompts, multimask=multimask))


def test_padding_points_and_any_integer_labels() -> None:
    both = pair(DEBUG[0], 128)
    prompts = prompts_of("three points", 128)
    prompts["labels"] = torch.tensor([[1, -1, 0]])
    theirs = both.their_masks(prompts, multimask=True)
    for dtype in (torch.int8, torch.int32, torch.int64):
        prompts["labels"] = prompts["labels"].to(dtype)
        assert same(both.ours.predict_masks(both.features, **prompts), theirs)


def test_several_images() -> None:
    both = pair(DEBUG[0], 128)
    pictures = np.random.default_rng(1).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    predictor = official.official_predictor(both.theirs)
    predictor.set_image_batch(list(pictures))
    pixels = torch.stack([predictor._transforms(picture) for picture in pictures])
    features = both.ours.encode_image(pixels)
    assert torch.equal(features.embedding, predictor._features["image_embed"])
    for ours, theirs in zip(features.high_res, predictor._features["high_res_feats"], strict=True):
        assert torch.equal(ours, theirs)


def test_a_prompt_for_each_of_several_images() -> None:
    """As the video code does it: as many images as prompts, none repeated."""
    both = pair(DEBUG[0], 128)
    features = both.ours.encode_image(torch.cat((both.pixels, both.pixels.flip(3))))
    prompts = prompts_of("point", 128, batch=2)
    encoder, decoder = both.theirs.sam_prompt_encoder, both.theirs.sam_mask_decoder
    sparse, dense = encoder((prompts["points"], prompts["labels"]), boxes=None, masks=None)
    logits, iou, tokens, score = decoder(
        image_embeddings=features.embedding,
        image_pe=encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
        repeat_image=False,
        high_res_features=list(features.high_res),
    )
    ours = both.ours.predict_masks(features, **prompts)
    assert same(ours, MaskPrediction(logits, iou, score, tokens))


class TestUnstableMasks:
    """A single mask may give way to the best of the three candidates."""

    def test_both_outcomes_occur_and_agree(self) -> None:
        """With a threshold between the stabilities of these masks, half of them give way."""
        usual = pair(DEBUG[0], 128)
        prompts = prompts_of("point", 128, batch=64)
        activations: dict[str, Tensor] = {}
        usual.ours.predict_masks(usual.features, **prompts, activations=activations)
        delta = usual.config.dynamic_multimask_stability_delta
        single = activations["decoder.logits"][:, 0].flatten(1)
        stability = (single > delta).sum(1) / (single > -delta).sum(1)
        threshold = float(stability.median())
        both = Pair(replace(usual.config, dynamic_multimask_stability_thresh=threshold))
        ours = both.ours.predict_masks(both.features, **prompts, multimask_output=False)
        kept = (ours.logits[:, 0].flatten(1) == single).all(dim=1)
        assert 0 < kept.sum() < 64
        assert same(ours, both.their_masks(prompts, multimask=False))

    def test_in_training_it_never_does(self) -> None:
        both = pair(DEBUG[0], 128)
        prompts = prompts_of("point", 128, batch=64)
        both.ours.train()
        both.theirs.train()
        ours = both.ours.predict_masks(both.features, **prompts, multimask_output=False)
        theirs = both.their_masks(prompts, multimask=False)
        both.ours.eval()
        both.theirs.eval()
        assert same(ours, theirs)
        evaluated = both.ours.predict_masks(both.features, **prompts, multimask_output=False)
        assert not same(evaluated, theirs)

    def test_a_config_can_turn_it_off(self) -> None:
        usual = pair(DEBUG[0], 128)
        both = Pair(replace(usual.config, dynamic_multimask_via_stability=False))
        prompts = prompts_of("point", 128, batch=64)
        ours = both.ours.predict_masks(both.features, **prompts, multimask_output=False)
        assert same(ours, both.their_masks(prompts, multimask=False))
        assert not same(ours, usual.their_masks(prompts, multimask=False))


class TestTheComparisonCanFail:
    """Deliberate mistakes are seen."""

    @pytest.mark.parametrize(
        "mistake",
        [
            lambda trunk: replace(trunk, window_spec=(8, 2, 6, 3)),
            lambda trunk: replace(trunk, window_spec=(8, 4, 8, 3)),
            lambda trunk: replace(trunk, global_att_blocks=(4,)),
        ],
    )
    def test_windows(self, mistake: Callable[[Any], Any]) -> None:
        both = pair(DEBUG[0], 256)
        ours = SAM2(replace(both.config, trunk=mistake(both.config.trunk))).eval()
        ours.load_state_dict(both.weights)
        embedding = ours.encode_image(both.pixels).embedding
        assert not torch.allclose(embedding, both.their_features().embedding, atol=1e-3)

    def test_levels_of_the_pyramid(self) -> None:
        both = pair(DEBUG[0], 128)
        ours = SAM2(replace(both.config, fpn_top_down_levels=(3,))).eval()
        ours.load_state_dict(both.weights)
        embedding = ours.encode_image(both.pixels).embedding
        assert not torch.allclose(embedding, both.their_features().embedding, atol=1e-3)

    @pytest.mark.parametrize(
        ("stem", "one", "other"),
        [
            ("image_encoder.trunk.blocks", "2.norm1.bias", "1.norm2.bias"),
            ("sam_prompt_encoder.point_embeddings", "0.weight", "1.weight"),
            ("sam_mask_decoder", "iou_token.weight", "obj_score_token.weight"),
            ("sam_mask_decoder.transformer.layers.0", "norm2.weight", "norm3.weight"),
            ("sam_mask_decoder.transformer.layers.1.self_attn", "q_proj.weight", "k_proj.weight"),
            ("sam_mask_decoder.output_hypernetworks_mlps.1.layers", "0.weight", "1.weight"),
        ],
    )
    def test_two_tensors_swapped(self, stem: str, one: str, other: str) -> None:
        both = pair(DEBUG[0], 128)
        ours = SAM2(both.config).eval()
        one, other = f"{stem}.{one}", f"{stem}.{other}"
        ours.load_state_dict({**both.weights, one: both.weights[other], other: both.weights[one]})
        prompts = prompts_of("three points", 128)
        masks = ours.predict_masks(ours.encode_image(both.pixels), **prompts)
        theirs = both.their_masks(prompts, multimask=True)
        assert not all(torch.allclose(*fields) for fields in zip(masks, theirs, strict=True))


def test_tiny_at_full_size() -> None:
    """SAM 2.1 tiny at 1024 pixels against the official image predictor."""
    both = Pair(shipped_config("sam2.1/sam2.1_hiera_t"))
    theirs = both.their_features()
    assert torch.equal(both.features.embedding, theirs.embedding)
    assert torch.equal(both.features.high_res[0], theirs.high_res[0])
    assert torch.equal(both.features.high_res[1], theirs.high_res[1])
    for kind in KINDS:
        prompts, multimask = prompts_of(kind, 1024), kind != "box"
        ours = both.ours.predict_masks(both.features, **prompts, multimask_output=multimask)
        assert same(ours, both.their_masks(prompts, multimask=multimask)), kind
    prompts = prompts_of("box+point", 1024, batch=3)
    ours = both.ours.predict_masks(both.features, **prompts, multimask_output=False)
    assert same(ours, both.their_masks(prompts, multimask=False))


class TestPositions:
    @pytest.mark.parametrize("size", [(64, 64), (16, 8), (3, 5)])
    def test_sine_grid(self, size: tuple[int, int]) -> None:
        expected = PositionEmbeddingSine(64)(torch.empty(1, 1, *size))
        assert torch.equal(sine_grid(64, *size, device="cpu"), expected)

    def test_sine_ages(self) -> None:
        ages = torch.arange(16) / 15
        assert torch.equal(sine_ages(ages, 256), get_1d_sine_pe(ages, dim=256))

    @pytest.mark.parametrize("side", [8, 64])
    @pytest.mark.parametrize("channels", [32, 256])
    def test_rotary_grid(self, side: int, channels: int) -> None:
        expected = compute_axial_cis(channels, end_x=side, end_y=side, theta=10000.0)
        assert torch.equal(rotary_grid(channels, side, side, 10000.0, "cpu"), expected)

    def test_rows_and_columns_are_not_confused(self) -> None:
        expected = compute_axial_cis(32, end_x=5, end_y=3)
        assert torch.equal(rotary_grid(32, 3, 5, 10000.0, "cpu"), expected)
