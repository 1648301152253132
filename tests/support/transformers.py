"""Parity with the video model of transformers, in the scenarios of ``videos``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy, deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import Sam2VideoModel, Sam2VideoProcessor

import sam21convert
from sam21convert.config.registry import shipped_config
from sam21convert.config.skeleton import skeleton
from sam21convert.model import SAM2
from sam21convert.model.config import TrackingOptions
from sam21convert.model.video_frames import Frames, load_frames
from sam21convert.model.video_predictor import SAM2VideoPredictor
from sam21convert.prediction.backends import transformers_video

from ..model.test_video_parity import weights_of
from . import videos
from .checkpoints import official_pt
from .encoded import Known, encoding_once
from .rounding import MULTIPLE, relative, variants
from .videos import BOX, POINT, Answer, Scenario, clicks

SCORE_BIAS = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"
# Added to the object scores. With the first they change sign, but none is so near 0 that rounding
# decides; with the second all are positive.
COMES_AND_GOES, ALWAYS_THERE = 0.01, 5.0
_OURS: Known = {}
_THEIRS: Known = {}


@cache
def weights(name: str, nudge: float = ALWAYS_THERE) -> dict[str, Tensor]:
    """Official weights in which every tensor is random.

    Args:
        name: Name of the shipped config.
        nudge: Added to the bias of the object score.

    Returns:
        The tensors by canonical name.
    """
    drawn = weights_of(shipped_config(name))
    return {**drawn, SCORE_BIAS: drawn[SCORE_BIAS] + nudge}


def hf_folder(home: Path, weights: Mapping[str, Tensor], **options: Any) -> Path:
    """A transformers folder with given weights.

    Args:
        home: A folder to write into.
        weights: Tensors by canonical name.
        **options: Options of ``convert``.

    Returns:
        Path of the folder.
    """
    sam21convert.convert(official_pt(home / "weights.pt", weights), home / "hf", **options)
    return home / "hf"


class TransformersPredictor(transformers_video.TransformersPredictor):
    """``Sam2VideoModel`` with official weights, which are converted first.

    Tests may replace methods of ``model``. Its parts, settings and weights belong to all predictors
    of the same weights.

    Args:
        weights: Tensors by canonical name, which nobody changes.
        attention: The attention implementation, ``"sdpa"`` or ``"eager"``.
        **options: Options of ``convert``.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], attention: str = "sdpa", **options: Any
    ) -> None:
        key = (id(weights), attention, *sorted(options.items()))
        if key not in _LOADED:
            with TemporaryDirectory() as home:
                folder = hf_folder(Path(home), weights, **options)
                mapped = Sam2VideoModel.from_pretrained(folder, attn_implementation=attention)
                # Mapped weights may lie at any address, and kernels round by alignment.
                model = deepcopy(mapped)
                _LOADED[key] = weights, model, Sam2VideoProcessor.from_pretrained(folder)
        _, model, processor = _LOADED[key]
        super().__init__(copy(model), processor)


# Loaded models with their processors; with the weights, so that no others get the same id.
_LOADED: dict[tuple[Any, ...], tuple[Mapping[str, Tensor], Any, Any]] = {}


def new_predictor(name: str, nudge: float = ALWAYS_THERE, **options: Any) -> SAM2VideoPredictor:
    """A video predictor of the ground truth, which a test may change.

    Args:
        name: Name of the shipped config.
        nudge: As for :func:`weights`.
        **options: Options of tracking; by default those that transformers has fixed.

    Returns:
        The predictor.
    """
    tracking = TrackingOptions(**{"binarize_mask_from_pts_for_mem_enc": True, **options})
    predictor = skeleton(lambda: SAM2VideoPredictor(shipped_config(name), tracking)).eval()
    own = {name: tensor.clone() for name, tensor in weights(name, nudge).items()}
    predictor.load_state_dict(own, assign=True)
    return predictor


@cache
def our_predictor(name: str, nudge: float = ALWAYS_THERE) -> SAM2VideoPredictor:
    """The video predictor of the ground truth, made once for all tests.

    Args:
        name: Name of the shipped config.
        nudge: As for :func:`weights`.

    Returns:
        The predictor, which tests must leave unchanged.
    """
    return new_predictor(name, nudge)


@contextmanager
def displaced(tensor: Tensor) -> Iterator[None]:
    """A context in which a tensor has its numbers in other places; one alone is another number.

    So the weights look as plausible as before.

    Args:
        tensor: The tensor, which is restored at the end.

    Yields:
        Nothing.
    """
    before = tensor.clone()
    tensor.copy_(before.flatten().roll(1).view_as(before) if before.numel() > 1 else before + 0.1)
    try:
        yield
    finally:
        tensor.copy_(before)


@cache
def their_predictor(
    name: str, nudge: float = ALWAYS_THERE, attention: str = "sdpa"
) -> TransformersPredictor:
    """The video predictor of transformers, loaded once for all tests.

    Args:
        name: Name of the shipped config.
        nudge: As for :func:`weights`.
        attention: The attention implementation.

    Returns:
        The predictor, which tests must leave unchanged.
    """
    return TransformersPredictor(weights(name, nudge), attention)


def opened(predictor: SAM2VideoPredictor) -> Any:
    """An inference state with the drawn video of ``videos``.

    Args:
        predictor: Our predictor.

    Returns:
        The state.
    """
    return predictor.init_state(_frames(predictor.image_size))


@cache
def _frames(image_size: int) -> Frames:
    drawn = [videos.frame(number) for number in range(videos.LENGTH)]
    return load_frames(drawn, image_size, "cpu")


def scores(session: Any) -> list[float]:
    """The object scores of everything in the memory of a session.

    Args:
        session: A session of transformers.

    Returns:
        The scores of all objects and frames.
    """
    return [
        float(outcome["object_score_logits"])
        for outputs in session.output_dict_per_obj.values()
        for outcomes in outputs.values()
        for outcome in outcomes.values()
    ]


class Difference(NamedTuple):
    """How far masks are apart.

    Attributes:
        relative: The largest difference of a logit, divided by the largest logit of its mask.
        flipped: Share of pixels on the other side of the threshold.
    """

    relative: float
    flipped: float


def difference(mine: Iterable[Answer], theirs: Iterable[Answer]) -> Difference:
    """How far the answers of two predictors to the same prompts are apart.

    Args:
        mine: Answers of one predictor.
        theirs: Answers of the other, for the same frames and objects.

    Returns:
        The difference of the masks.
    """
    furthest, flips = 0.0, []
    for (frame, ids, masks), (their_frame, their_ids, their_masks) in zip(
        mine, theirs, strict=True
    ):
        assert (frame, ids) == (their_frame, their_ids)
        for mask, their_mask in zip(masks, their_masks, strict=True):
            furthest = max(furthest, relative(mask, their_mask))
        flips.append(((masks > 0) != (their_masks > 0)).float().mean())
    return Difference(furthest, float(torch.stack(flips).mean()))


@contextmanager
def exact_memories(*, binary: bool = False) -> Iterator[None]:
    """A context in which nothing about a memory is decided by how a number was rounded.

    Usually memories are kept in bfloat16, where a number that rounds the other way is off by 0.4 %,
    and those of prompts are made of the sign of each logit, of which one in a million is as near to
    0 as rounding reaches. Where luck decides, the measured noise of a video varies a thousandfold
    from one variant to the next; here it varies by a factor of two. What both sides keep otherwise
    is compared bit by bit in ``test_transformers_video.test_memories``.

    Args:
        binary: Leave the signs, for what depends on them.

    Yields:
        Nothing.
    """
    ours, theirs = SAM2.encode_memory, Sam2VideoModel._encode_new_memory

    def own(*args: Any, **options: Any) -> Tensor:
        return ours(*args, **{**options, "binarize": False})

    def other(*args: Any, **options: Any) -> Any:
        return theirs(*args, **{**options, "is_mask_from_pts": False})

    with ExitStack() as stack:
        stack.enter_context(patch.object(torch, "bfloat16", torch.float32))
        if not binary:
            stack.enter_context(patch.object(SAM2, "encode_memory", own))
            stack.enter_context(patch.object(Sam2VideoModel, "_encode_new_memory", other))
        yield


def compared(
    ours: SAM2VideoPredictor,
    theirs: TransformersPredictor,
    scenario: Scenario,
    *,
    binary: bool = False,
) -> tuple[Difference, list[float]]:
    """Run a scenario on both predictors, with exact memories.

    Args:
        ours: Our predictor.
        theirs: The predictor of transformers.
        scenario: The scenario.
        binary: As for :func:`exact_memories`.

    Returns:
        How far the masks are apart, and the object scores of transformers.
    """
    with (
        encoding_once(ours, "encode_frame", _OURS),
        encoding_once(theirs.model, "get_image_features", _THEIRS),
        exact_memories(binary=binary),
    ):
        mine = opened(ours)
        session = theirs.init_state(mine)
        return difference(scenario(ours, mine), scenario(theirs, session)), scores(session)


def a_point(predictor: Any, state: Any) -> Iterator[Answer]:
    """One object through ten frames.

    Args:
        predictor: A predictor with the official methods.
        state: Its inference state.

    Yields:
        The answers.
    """
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=9)


def a_point_and_a_box(predictor: Any, state: Any) -> Iterator[Answer]:
    """Two objects through the whole video.

    Args:
        predictor: A predictor with the official methods.
        state: Its inference state.

    Yields:
        The answers.
    """
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield predictor.add_new_points_or_box(state, 0, 2, box=BOX)
    yield from predictor.propagate_in_video(state)


# Rounding does not grow from frame to frame while memories are exact, so that a few are enough.
BRIEF: tuple[Scenario, ...] = (videos.several_points, videos.box_and_point)


@cache
def noise(name: str, nudge: float = ALWAYS_THERE, scenarios: tuple[Scenario, ...] = BRIEF) -> float:
    """The largest difference of either side from itself when nothing but rounding differs.

    Args:
        name: Name of the shipped config.
        nudge: As for :func:`weights`.
        scenarios: The scenarios to run.

    Returns:
        The largest relative difference of a mask, of all scenarios and variants.
    """
    ours = our_predictor(name, nudge)
    frames = opened(ours)
    sdpa, eager = (their_predictor(name, nudge, attention) for attention in ("sdpa", "eager"))

    def own(predictor: SAM2VideoPredictor) -> list[list[Answer]]:
        with encoding_once(predictor, "encode_frame", {}):
            return [list(scenario(predictor, opened(predictor))) for scenario in scenarios]

    def other(predictor: TransformersPredictor) -> list[list[Answer]]:
        with encoding_once(predictor.model, "get_image_features", {}):
            return [
                list(scenario(predictor, predictor.init_state(frames))) for scenario in scenarios
            ]

    with exact_memories():
        pairs = list(zip(other(sdpa), other(eager), strict=True))
        usual = own(ours)
        for variant, context in variants(ours):
            with context:
                pairs += zip(usual, own(variant), strict=True)
    return max(difference(*both).relative for both in pairs)


def in_parity(found: Difference, noise: float) -> bool:
    """Whether masks are as near as rounding brings them.

    Then a pixel is on the other side of the threshold only if its logit is that near to it.

    Args:
        found: The difference.
        noise: The noise.

    Returns:
        True when they are.
    """
    return found.relative <= MULTIPLE * noise


def about(amount: float) -> Any:
    """A number to compare with, within a factor of 2: rounding differs between machines.

    Args:
        amount: The number.

    Returns:
        An object that equals every number from half of it to twice of it.
    """
    return _About(amount)


class _About:
    def __init__(self, amount: float) -> None:
        self.amount = amount

    def __eq__(self, found: object) -> bool:
        return isinstance(found, float) and self.amount / 2 < found < self.amount * 2

    def __repr__(self) -> str:
        return f"{self.amount / 2:.1e} .. {self.amount * 2:.1e}"
