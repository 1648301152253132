"""Parity with transformers' video model, in the scenarios of ``videos``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Sam2VideoModel, Sam2VideoProcessor

import sam21convert
from sam21convert.comparison.backends import transformers_video
from sam21convert.config.registry import shipped_config
from sam21convert.model.config import TrackingOptions
from sam21convert.model.video_predictor import SAM2VideoPredictor

from ..model.test_video_parity import weights_of
from . import videos
from .checkpoints import official_pt
from .rounding import MULTIPLE, relative, variants
from .videos import BOX, POINT, Answer, Scenario, clicks

MILLIONTH = 1e-6
SCORE_BIAS = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"
# Added to the object scores: they change sign, but are never so near 0 that rounding decides.
COMES_AND_GOES, ALWAYS_THERE = 0.01, 5.0


@cache
def weights(name: str, nudge: float = ALWAYS_THERE) -> dict[str, Tensor]:
    """Official weights, every tensor random."""
    drawn = weights_of(shipped_config(name))
    return {**drawn, SCORE_BIAS: drawn[SCORE_BIAS] + nudge}


def hf_folder(home: Path, weights: Mapping[str, Tensor], **options: Any) -> Path:
    """A transformers folder of official weights; ``options`` are those of ``convert``."""
    sam21convert.convert(official_pt(home / "weights.pt", weights), home / "hf", **options)
    return home / "hf"


class TransformersPredictor(transformers_video.TransformersPredictor):
    """``Sam2VideoModel`` with official weights, converted."""

    def __init__(
        self, weights: Mapping[str, Tensor], attention: str = "sdpa", **options: Any
    ) -> None:
        with TemporaryDirectory() as home:
            folder = hf_folder(Path(home), weights, **options)
            mapped = Sam2VideoModel.from_pretrained(folder, attn_implementation=attention)
            # Mapped weights lie at any address of the file, where kernels round differently.
            super().__init__(deepcopy(mapped), Sam2VideoProcessor.from_pretrained(folder))


def our_predictor(name: str, nudge: float = ALWAYS_THERE, **options: Any) -> SAM2VideoPredictor:
    """Ours; ``options`` are those of tracking, by default what transformers does."""
    tracking = TrackingOptions(**{"binarize_mask_from_pts_for_mem_enc": True, **options})
    predictor = SAM2VideoPredictor(shipped_config(name), tracking).eval()
    predictor.load_state_dict(weights(name, nudge))
    return predictor


@cache
def their_predictor(
    name: str, nudge: float = ALWAYS_THERE, attention: str = "sdpa"
) -> TransformersPredictor:
    return TransformersPredictor(weights(name, nudge), attention)


def opened(predictor: SAM2VideoPredictor) -> Any:
    return predictor.init_state([videos.frame(number) for number in range(videos.LENGTH)])


def scores(session: Any) -> list[float]:
    """The object scores of all that a session of transformers remembers."""
    return [
        float(outcome["object_score_logits"])
        for outputs in session.output_dict_per_obj.values()
        for outcomes in outputs.values()
        for outcome in outcomes.values()
    ]


class Difference(NamedTuple):
    """How far masks are apart."""

    relative: float  # the largest difference of a logit, in units of the largest of its mask
    flipped: float  # share of pixels on the other side of the threshold


def difference(mine: Iterable[Answer], theirs: Iterable[Answer]) -> Difference:
    """Of the answers of two predictors to the same prompts."""
    furthest, flips = 0.0, []
    for (frame, ids, masks), (their_frame, their_ids, their_masks) in zip(
        mine, theirs, strict=True
    ):
        assert (frame, ids) == (their_frame, their_ids)
        for mask, their_mask in zip(masks, their_masks, strict=True):
            furthest = max(furthest, relative(mask, their_mask))
        flips.append(((masks > 0) != (their_masks > 0)).float().mean())
    return Difference(furthest, float(torch.stack(flips).mean()))


def compared(
    ours: SAM2VideoPredictor, theirs: TransformersPredictor, scenario: Scenario
) -> tuple[Difference, list[float]]:
    """How far the masks are apart, and the object scores."""
    mine = opened(ours)
    session = theirs.init_state(mine)
    return difference(scenario(ours, mine), scenario(theirs, session)), scores(session)


def a_point(predictor: Any, state: Any) -> Iterator[Answer]:
    """One object through ten frames."""
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=9)


def a_point_and_a_box(predictor: Any, state: Any) -> Iterator[Answer]:
    """Two objects through the whole video."""
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield predictor.add_new_points_or_box(state, 0, 2, box=BOX)
    yield from predictor.propagate_in_video(state)


@cache
def noise(
    name: str, nudge: float = ALWAYS_THERE, scenario: Scenario = a_point_and_a_box
) -> Difference:
    """The furthest that either side comes out from itself when nothing but rounding differs.

    Memories are kept in bfloat16, so that one number that rounds the other way is carried on as a
    difference of 0.4 %. Whether that happens is a matter of luck, hence several tries.
    """
    ours = our_predictor(name, nudge)
    frames = opened(ours)
    sdpa, eager = (their_predictor(name, nudge, attention) for attention in ("sdpa", "eager"))
    tries = [
        difference(*(scenario(one, one.init_state(frames)) for one in (sdpa, eager))),
    ]
    usual = list(scenario(ours, opened(ours)))
    for variant, circumstances in variants(ours):
        with circumstances:
            tries.append(difference(usual, scenario(variant, opened(variant))))
    return Difference(*map(max, zip(*tries, strict=True)))


def in_parity(found: Difference, noise: Difference) -> bool:
    """Rounding grows from frame to frame, in some scenarios faster than where it was measured."""
    return found.relative <= min(MULTIPLE * noise.relative, 1e-3) and found.flipped <= 1e-4


def about(amount: float) -> Any:
    """Of that order: weights are drawn, and rounding differs between machines."""
    return _About(amount)


class _About:
    def __init__(self, amount: float) -> None:
        self.amount = amount

    def __eq__(self, found: object) -> bool:
        return isinstance(found, float) and self.amount / 2 < found < self.amount * 2

    def __repr__(self) -> str:
        return f"{self.amount / 2:.1e} .. {self.amount * 2:.1e}"
