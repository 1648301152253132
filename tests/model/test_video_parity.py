"""Objects are followed through a video as by the official code, to the last bit.

Both predictors are driven by the same lines of code. On the CPU in float32, where the order of
operations is fixed; compared are all masks, and all that is remembered.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from sam21convert.config.registry import SHIPPED, shipped_config
from sam21convert.model.config import ModelConfig, TrackingOptions
from sam21convert.model.video_predictor import SAM2VideoPredictor

from ..support import videos
from ..support.encoded import Known, encoding_once
from ..support.official import DEBUG, build_official_predictor, randomise
from ..support.videos import SCENARIOS, Scenario

# As built with apply_postprocessing.
USUAL: dict[str, Any] = {"binarize_mask_from_pts_for_mem_enc": True}
OURS: Known = {}
THEIRS: Known = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return videos.jpeg_folder(tmp_path_factory.mktemp("video"))


@cache
def weights_of(config: ModelConfig) -> dict[str, Tensor]:
    """Random values, with object scores so shifted that they change sign within the video."""
    pilot = SAM2VideoPredictor(config).eval()
    drawn = randomise(pilot, seed=1)
    bias = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"
    with encoding_once(pilot, "encode_frame", OURS):
        found = scores_of(pilot, videos.point)
        pilot.binarize_mask_from_pts_for_mem_enc = True
        for _ in range(6):  # what is taken for absent changes what follows
            drawn[bias] -= found.median()
            pilot.load_state_dict(drawn)
            found = scores_of(pilot, videos.story)
            if found.min() < 0 < found.max():
                return drawn
    raise AssertionError("no shift of the object scores makes them change sign")


def scores_of(predictor: SAM2VideoPredictor, scenario: Scenario) -> Tensor:
    """Object scores of all frames that are tracked."""
    state = predictor.init_state([videos.frame(number) for number in range(videos.LENGTH)])
    list(scenario(predictor, state))
    seen = [one for found in state.objects.values() for one in found.settled.tracked.values()]
    return torch.cat([outcome.object_score for outcome in seen])


class Pair:
    """Our predictor and the official one, with the same weights and options."""

    def __init__(
        self, config: ModelConfig, weights: dict[str, Tensor] | None = None, **options: Any
    ) -> None:
        self.ours = SAM2VideoPredictor(config, TrackingOptions(**options)).eval()
        self.theirs = build_official_predictor(config, **options)
        weights = weights or weights_of(config)
        self.ours.load_state_dict(weights)
        self.theirs.load_state_dict(weights)

    def play(self, scenario: Scenario, folder: str, **opening: Any) -> tuple[Any, Any]:
        """Compare every mask of a scenario; return both states."""
        with (
            encoding_once(self.ours, "encode_frame", OURS),
            encoding_once(self.theirs, "forward_image", THEIRS),
        ):
            ours = self.ours.init_state(folder, **opening)
            theirs = self.theirs.init_state(folder, **opening)
            answers = zip(scenario(self.ours, ours), scenario(self.theirs, theirs), strict=True)
            for (frame, ids, masks), (their_frame, their_ids, their_masks) in answers:
                assert (frame, ids) == (their_frame, their_ids)
                assert masks.dtype == their_masks.dtype
                assert torch.equal(masks, their_masks), f"frame {frame}"
        return ours, theirs


Kept = dict[tuple[int, str, int], tuple[Tensor | None, ...]]


def remembered(state: Any) -> Kept:
    """All that is remembered, by object, kind and frame: masks, pointers, scores and memories."""
    return {
        (number, kind, frame): (seen.low_res, seen.pointer, seen.object_score, seen.memory)
        for number, found in enumerate(state.objects.values())
        for kind, outcomes in vars(found.settled).items()
        for frame, seen in outcomes.items()
    }


def remembered_officially(state: Any) -> Kept:
    kinds = {"cond_frame_outputs": "prompted", "non_cond_frame_outputs": "tracked"}
    fields = ("pred_masks", "obj_ptr", "object_score_logits", "maskmem_features")
    return {
        (number, kinds[kind], frame): tuple(seen[field] for field in fields)
        for number, outputs in state["output_dict_per_obj"].items()
        for kind, outcomes in outputs.items()
        for frame, seen in outcomes.items()
    }


def same(ours: Kept, theirs: Kept) -> bool:
    def equal(mine: Tensor | None, other: Tensor | None) -> bool:
        return mine is other is None or (
            mine is not None and other is not None and torch.equal(mine, other)
        )

    return set(ours) == set(theirs) and all(
        equal(mine, other)
        for key, outcome in ours.items()
        for mine, other in zip(outcome, theirs[key], strict=True)
    )


def scores(kept: Kept) -> list[float]:
    return [float(outcome[2]) for outcome in kept.values() if outcome[2] is not None]


@cache
def debug_pair(name: str) -> Pair:
    return Pair(shipped_config(name), **USUAL)


@cache
def debug_play(name: str, scenario: Scenario, folder: str) -> tuple[Kept, Kept]:
    """What is remembered after a scenario whose masks are all equal."""
    ours, theirs = debug_pair(name).play(scenario, folder)
    return remembered(ours), remembered_officially(theirs)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("name", DEBUG)
def test_every_mask_and_memory(name: str, scenario: Scenario, folder: str) -> None:
    assert same(*debug_play(name, scenario, folder))


@pytest.mark.parametrize("scenario", [videos.point, videos.two_objects, videos.story])
@pytest.mark.parametrize("name", DEBUG)
def test_objects_come_and_go_in_these_videos(name: str, scenario: Scenario, folder: str) -> None:
    found = scores(debug_play(name, scenario, folder)[0])
    assert min(found) < 0 < max(found)
    assert len(found) >= 20


def test_with_several_threads(folder: str) -> None:
    """How work is divided changes the order of operations, and so the rounding, of both alike."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ours, theirs = debug_pair(DEBUG[0]).play(videos.story, folder)
    finally:
        torch.set_num_threads(threads)
    assert same(remembered(ours), remembered_officially(theirs))


CHANGES: dict[str, tuple[dict[str, Any], Scenario]] = {
    "masks do not overlap": ({"non_overlap_masks": True}, videos.two_objects),
    "corrected frames count as prompted": (
        {"add_all_frames_to_correct_as_cond": True},
        videos.correction,
    ),
    "prompted masks are remembered as logits": (
        {"binarize_mask_from_pts_for_mem_enc": False},
        videos.point,
    ),
    "every second frame": ({"memory_temporal_stride_for_eval": 2}, videos.many_prompts),
    "every third frame": ({"memory_temporal_stride_for_eval": 3}, videos.reverse),
    "two prompted frames": ({"max_cond_frames_in_attn": 2}, videos.many_prompts),
    "three prompted frames": ({"max_cond_frames_in_attn": 3}, videos.many_prompts),
}


@pytest.mark.parametrize("change", CHANGES)
def test_options(change: str, folder: str) -> None:
    options, scenario = CHANGES[change]
    ours, theirs = Pair(shipped_config(DEBUG[0]), **{**USUAL, **options}).play(scenario, folder)
    assert same(remembered(ours), remembered_officially(theirs))
    usual, _ = debug_play(DEBUG[0], scenario, folder)
    if change != "masks do not overlap":  # which concerns answers, not memories
        assert not same(usual, remembered(ours))


@pytest.mark.parametrize(
    "change",
    [
        {"num_maskmem": 1},
        {"num_maskmem": 3},
        {"max_obj_ptrs_in_encoder": 4},
        {"image_size": 64},
        {"multimask_output_for_tracking": False},
        {"multimask_max_pt_num": 2},
        {"multimask_output_in_sam": False},
        {"sigmoid_scale_for_mem_enc": 1.0, "sigmoid_bias_for_mem_enc": 0.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_configs(change: dict[str, Any], folder: str) -> None:
    usual = shipped_config(DEBUG[0])
    config = replace(usual, **change)
    drawn = dict(weights_of(usual))
    drawn["maskmem_tpos_enc"] = drawn["maskmem_tpos_enc"][: config.num_maskmem]
    ours, theirs = Pair(config, drawn, **USUAL).play(videos.story, folder)
    assert same(remembered(ours), remembered_officially(theirs))
    found = scores(remembered(ours))
    assert min(found) < 0 < max(found)


def test_memories_as_wide_as_features(folder: str) -> None:
    config = shipped_config(DEBUG[0])
    config = replace(config, memory_encoder=replace(config.memory_encoder, out_dim=128))
    ours, theirs = Pair(config, **USUAL).play(videos.story, folder)
    assert same(remembered(ours), remembered_officially(theirs))


@pytest.mark.parametrize(
    "opening",
    [{"offload_video_to_cpu": True, "offload_state_to_cpu": True}, {"async_loading_frames": True}],
)
def test_ways_to_open_a_video(opening: dict[str, bool], folder: str) -> None:
    ours, theirs = debug_pair(DEBUG[0]).play(videos.point, folder, **opening)
    assert same(remembered(ours), remembered_officially(theirs))


def test_holes_are_filled(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official code needs a compiled extension to find them; here it gets another eye."""
    monkeypatch.setattr("sam2.utils.misc.get_connected_components", flood)
    both = Pair(shipped_config(DEBUG[0]), **USUAL, fill_hole_area=8)
    ours, theirs = both.play(videos.story, folder)
    assert same(remembered(ours), remembered_officially(theirs))
    usual, _ = debug_play(DEBUG[0], videos.story, folder)
    assert not same(usual, remembered(ours))


def flood(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and areas of the connected components of N x 1 x H x W masks, pixel by pixel."""
    labels, areas = torch.zeros(mask.shape, dtype=torch.int), torch.zeros(mask.shape)
    for plane, (number, area) in zip(mask, zip(labels, areas, strict=True), strict=True):
        left = {(int(y), int(x)) for y, x in plane[0].nonzero()}
        while left:
            component, edge = set(), [left.pop()]
            while edge:
                y, x = edge.pop()
                component.add((y, x))
                around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
                left -= around
                edge += around
            ys, xs = map(list, zip(*component, strict=True))
            number[0, ys, xs], area[0, ys, xs] = 1 + int(number.max()), len(component)
    return labels, areas


def test_memories_near_a_new_prompt_are_forgotten(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official code calls a method that it does not have; with that added, they agree."""
    both = Pair(shipped_config(DEBUG[0]), **USUAL, clear_non_cond_mem_around_input=True)
    with pytest.raises(AttributeError, match="_clear_obj_non_cond_mem_around_input"):
        both.play(videos.correction, folder)

    def clear(state: Any, frame: int, number: int) -> None:
        tracked = state["output_dict_per_obj"][number]["non_cond_frame_outputs"]
        for near in range(frame - 7, frame + 8):
            tracked.pop(near, None)

    both.theirs._clear_obj_non_cond_mem_around_input = clear
    ours, theirs = both.play(videos.correction, folder)
    assert same(remembered(ours), remembered_officially(theirs))


class TestTheComparisonCanFail:
    """Deliberate mistakes are seen."""

    @pytest.mark.parametrize(
        "tensor",
        [
            "image_encoder.trunk.patch_embed.proj.bias",
            "maskmem_tpos_enc",
            "no_obj_ptr",
            "no_obj_embed_spatial",
            "obj_ptr_tpos_proj.bias",
            "memory_attention.layers.1.cross_attn_image.k_proj.bias",
            "memory_encoder.fuser.layers.0.gamma",
            "mask_downsample.bias",
        ],
    )
    def test_a_tensor_that_is_a_little_off(self, tensor: str, folder: str) -> None:
        both = Pair(shipped_config(DEBUG[0]), **USUAL)
        with torch.no_grad():
            both.ours.get_parameter(tensor).mul_(1.001)
        with pytest.raises(AssertionError, match="frame"):
            both.play(videos.two_objects, folder)

    def test_the_other_generation(self, folder: str) -> None:
        new, old = (Pair(shipped_config(name), **USUAL) for name in DEBUG)
        old.ours.load_state_dict(
            {k: v for k, v in weights_of(new.ours.config).items() if k in old.ours.state_dict()}
        )
        old.theirs = new.theirs
        with pytest.raises(AssertionError, match="frame"):
            old.play(videos.point, folder)


@pytest.mark.parametrize(
    "name", ["sam2.1/sam2.1_hiera_t", pytest.param("sam2/sam2_hiera_t", marks=pytest.mark.slow)]
)
def test_tiny(name: str, folder: str) -> None:
    tell_story(name, folder, 128)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [shipped.name for shipped in SHIPPED if shipped.size in ("small", "base_plus", "large")]
)
def test_larger_sizes(name: str, folder: str) -> None:
    tell_story(name, folder, 256)


def tell_story(name: str, folder: str, image_size: int) -> None:
    """All frames: two objects that come and go, corrections, backwards."""
    config = replace(shipped_config(name), image_size=image_size)
    ours, theirs = Pair(config, **USUAL).play(videos.story, folder)
    assert same(remembered(ours), remembered_officially(theirs))
    found = scores(remembered(ours))
    assert min(found) < 0 < max(found)
    assert len(found) >= 20
