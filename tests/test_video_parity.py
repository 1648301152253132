"""Objects are followed through a video as by the official code, to the last bit.

Both predictors are driven by the same lines of code. On the CPU in float32, where the order of
operations is fixed; compared are all masks, and all that is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sam21convert.catalog import SHIPPED, shipped_config
from sam21convert.model.config import ModelConfig, TrackingOptions
from sam21convert.model.video_predictor import SAM2VideoPredictor

from . import videos
from .official import DEBUG, build_official_predictor, randomise
from .videos import SCENARIOS, Answer, Scenario

USUAL = {"binarize_mask_from_pts_for_mem_enc": True}  # as built with apply_postprocessing


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return videos.jpeg_folder(tmp_path_factory.mktemp("video"))


@cache
def weights_of(config: ModelConfig) -> dict[str, Tensor]:
    """Random values, with object scores so shifted that they change sign within the video."""
    pilot = SAM2VideoPredictor(config).eval()
    drawn = randomise(pilot, seed=1)
    state = pilot.init_state([videos.frame(number) for number in range(videos.LENGTH)])
    list(videos.point(pilot, state))
    found = state.objects[1].settled.tracked.values()
    middle = torch.cat([seen.object_score for seen in found]).median()
    bias = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"
    return {**drawn, bias: drawn[bias] - middle}


class Pair:
    """Our predictor and the official one, with the same weights and options."""

    def __init__(self, config: ModelConfig, **options: Any) -> None:
        self.ours = SAM2VideoPredictor(config, TrackingOptions(**options)).eval()
        self.theirs = build_official_predictor(config, **options)
        weights = weights_of(config)
        self.ours.load_state_dict(weights)
        self.theirs.load_state_dict(weights)

    def play(self, scenario: Scenario, folder: str, **opening: Any) -> tuple[Any, Any]:
        """Compare every mask of a scenario; return both states."""
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


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("name", DEBUG)
def test_every_mask_and_memory(name: str, scenario: Scenario, folder: str) -> None:
    ours, theirs = debug_pair(name).play(scenario, folder)
    assert same(remembered(ours), remembered_officially(theirs))


@pytest.mark.parametrize("scenario", [videos.point, videos.two_objects, videos.story])
@pytest.mark.parametrize("name", DEBUG)
def test_objects_come_and_go_in_these_videos(name: str, scenario: Scenario, folder: str) -> None:
    ours, _ = debug_pair(name).play(scenario, folder)
    found = scores(remembered(ours))
    assert min(found) < 0 < max(found)
    assert len(found) >= 20
