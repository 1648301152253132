"""Tracking gives the same masks as transformers, within the noise of each.

Both have the same random weights and the same frames. Known differences are in
``test_transformers_differences``; everything else is tested here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor

from sam21convert.model import ImageFeatures
from sam21convert.model.video_predictor import SAM2VideoPredictor

from ..support import videos
from ..support.official import DEBUG
from ..support.rounding import EPSILON, MULTIPLE, SEEDS, beyond_rounding, relative, rounding
from ..support.transformers import (
    ALWAYS_THERE,
    COMES_AND_GOES,
    Difference,
    a_point,
    a_point_and_a_box,
    compared,
    displaced,
    in_parity,
    noise,
    opened,
    our_predictor,
    their_predictor,
)
from ..support.videos import BOX, POINT, Answer, Scenario, clicks

LAST = videos.LENGTH - 1


def backwards(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_points_or_box(state, LAST, 1, **clicks([[90.0, 50.0]], [1]))
    yield from predictor.propagate_in_video(state, start_frame_idx=LAST, reverse=True)


def prompts_to_come(predictor: Any, state: Any) -> Iterator[Answer]:
    """At first the only memory is of a later frame, and there is no object pointer."""
    yield predictor.add_new_points_or_box(state, 2, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state, start_frame_idx=0)


def several_prompted_frames(predictor: Any, state: Any) -> Iterator[Answer]:
    for frame in (0, 7, 14):
        yield predictor.add_new_points_or_box(state, frame, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state, start_frame_idx=0)


SCENARIOS: tuple[Scenario, ...] = (
    a_point_and_a_box,
    videos.several_points,
    videos.box_and_point,
    videos.late_object,
    backwards,
    prompts_to_come,
    several_prompted_frames,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("name", DEBUG)
def test_masks_of_objects_that_come_and_go(name: str, scenario: Scenario) -> None:
    ours, theirs = our_predictor(name, COMES_AND_GOES), their_predictor(name, COMES_AND_GOES)
    found, seen = compared(ours, theirs, scenario)
    assert in_parity(found, noise(name, COMES_AND_GOES)), found
    assert min(seen) < 0 < max(seen)
    # None is so near 0 that rounding decides.
    assert min(map(abs, seen)) > MULTIPLE * noise(name, COMES_AND_GOES) * max(map(abs, seen))


@pytest.mark.parametrize("scenario", [a_point_and_a_box, backwards])
@pytest.mark.parametrize("name", DEBUG)
def test_masks_of_objects_that_are_always_there(name: str, scenario: Scenario) -> None:
    ours, theirs = our_predictor(name, ALWAYS_THERE), their_predictor(name, ALWAYS_THERE)
    found, seen = compared(ours, theirs, scenario)
    assert in_parity(found, noise(name, ALWAYS_THERE)), found
    assert min(seen) > 0
    assert len(seen) >= videos.LENGTH


@pytest.mark.parametrize("name", DEBUG)
def test_image_features(name: str) -> None:
    ours, theirs = our_predictor(name), their_predictor(name).model
    names = ("fine", "middle", "embedding")

    def features(frame: int) -> Callable[[SAM2VideoPredictor], dict[str, Tensor]]:
        def of(model: SAM2VideoPredictor) -> dict[str, Tensor]:
            found = model.encode_frame(images[frame : frame + 1])
            levels = zip(names, (*found.high_res, found.embedding), strict=True)
            return {name: level.flatten(2).permute(2, 0, 1) for name, level in levels}

        return of

    images, frames = opened(ours).images, (0, 10)
    noise = rounding(ours, *(features(frame) for frame in frames))
    for frame in frames:
        others = theirs.get_image_features(images[frame : frame + 1]).fpn_hidden_states
        assert not beyond_rounding(
            noise, features(frame)(ours), dict(zip(names, others, strict=True))
        )


def one_point(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))


def two_points(predictor: Any, state: Any) -> Iterator[Answer]:
    given = clicks([*POINT, [90.0, 20.0]], [1, 0])
    yield predictor.add_new_points_or_box(state, 0, 1, **given)


def one_box(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_points_or_box(state, 0, 1, box=BOX)


def box_and_point(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]), box=BOX)


PROMPTS: tuple[Scenario, ...] = (one_point, two_points, one_box, box_and_point)


@pytest.mark.parametrize("scenario", PROMPTS)
@pytest.mark.parametrize("name", DEBUG)
def test_masks_of_a_prompted_frame(name: str, scenario: Scenario) -> None:
    ours, theirs = our_predictor(name), their_predictor(name)
    right, _ = compared(ours, theirs, scenario)
    with displaced(ours.get_parameter("sam_mask_decoder.transformer.layers.0.norm2.bias")):
        wrong, _ = compared(ours, theirs, scenario)
    assert in_parity(right, noise(name, scenarios=PROMPTS))
    assert not in_parity(wrong, 100 * noise(name, scenarios=PROMPTS))


@cache
def right_answer(name: str, nudge: float) -> Difference:
    return compared(our_predictor(name, nudge), their_predictor(name, nudge), a_point)[0]


@pytest.mark.parametrize(
    ("tensor", "nudge"),
    [
        ("maskmem_tpos_enc", ALWAYS_THERE),
        ("no_obj_ptr", COMES_AND_GOES),
        ("no_obj_embed_spatial", COMES_AND_GOES),
        ("obj_ptr_tpos_proj.bias", ALWAYS_THERE),
        ("obj_ptr_proj.layers.2.bias", ALWAYS_THERE),
        ("memory_attention.layers.0.linear1.bias", ALWAYS_THERE),
        ("memory_attention.layers.1.cross_attn_image.k_proj.weight", ALWAYS_THERE),
        ("memory_encoder.out_proj.bias", ALWAYS_THERE),
    ],
)
def test_one_displaced_tensor_of_the_memory_path_is_detected(tensor: str, nudge: float) -> None:
    name = "debug/sam2.1_debug"
    ours, theirs = our_predictor(name, nudge), their_predictor(name, nudge)
    right = right_answer(name, nudge)
    with displaced(ours.get_parameter(tensor)):
        wrong, _ = compared(ours, theirs, a_point)
    assert in_parity(right, noise(name, nudge))
    assert not in_parity(wrong, noise(name, nudge))
    assert wrong.relative > 100 * right.relative


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def steps(ours: SAM2VideoPredictor, theirs: Any, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Results of both for the same input, in every step of the memory path, before any cast."""
    grid, width = ours.config.embedding_size, ours.config.hidden_dim
    image = random(1, width, grid, grid, seed=seed)
    masks = random(1, 1, 16 * grid, 16 * grid, seed=seed)
    tokens = random(3, width, seed=seed)
    remembered, place = theirs.memory_encoder(image, masks)
    return {
        "memory encoder": (ours.memory_encoder(image, masks), remembered),
        "object pointer": (ours.obj_ptr_proj(tokens), theirs.object_pointer_proj(tokens)),
        "mask as a prompt": (ours.mask_downsample(masks), theirs.mask_downsample(masks)),
        "dense position": (
            ours.sam_prompt_encoder.dense_position(),
            theirs.get_image_wide_positional_embeddings(),
        ),
        **attention(ours, theirs, image, tokens, place),
    }


def attention(
    ours: SAM2VideoPredictor, theirs: Any, image: Tensor, tokens: Tensor, place: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """A frame that attends to three memories and three object pointers."""
    rows, distances = (6, 2, 0), (4, 1, 13)
    memories = [random(*place.shape, seed=row) for row in rows]
    activations: dict[str, Tensor] = {}
    ours.attend_to_memory(
        ImageFeatures(image, (image, image)),
        list(zip(rows, memories, strict=True)),
        list(zip(distances, tokens[:, None], strict=True)),
        15,
        activations,
    )
    parts, positions = theirs._build_memory_attention_inputs(
        [
            (
                (row + 1) % 7,
                {
                    "maskmem_features": memory.flatten(2).permute(2, 0, 1),
                    "maskmem_pos_enc": place.flatten(2).permute(2, 0, 1),
                },
            )
            for row, memory in zip(rows, memories, strict=True)
        ],
        image.device,
    )
    pointers, ages = theirs._process_object_pointers(
        list(distances), list(tokens[:, None]), 16, 1, tokens.shape[1], image.device
    )
    memory, position = torch.cat([*parts, pointers]), torch.cat([*positions, ages])
    own = theirs.vision_encoder.neck.position_encoding(image.shape, image.device, image.dtype)
    conditioned = theirs.memory_attention(
        current_vision_features=image.flatten(2).permute(2, 0, 1),
        current_vision_position_embeddings=own.flatten(2).permute(2, 0, 1),
        memory=memory,
        memory_posision_embeddings=position,
        num_object_pointer_tokens=len(pointers),
    )
    output = activations["memory_attention.output"].flatten(2).transpose(1, 2)
    return {
        "memories": (activations["memory_attention.memory"], memory.transpose(0, 1)),
        "their positions": (activations["memory_attention.position"], position.transpose(0, 1)),
        "memory attention": (output, conditioned[:, 0]),
    }


@pytest.mark.parametrize("name", DEBUG)
def test_every_step_of_the_memory_path(name: str) -> None:
    ours, theirs = our_predictor(name, COMES_AND_GOES), their_predictor(name, COMES_AND_GOES).model

    def own_steps(seed: int) -> Callable[[SAM2VideoPredictor], dict[str, Tensor]]:
        return lambda model: {step: mine for step, (mine, _) in steps(model, theirs, seed).items()}

    noise = rounding(ours, *(own_steps(seed) for seed in SEEDS))
    for seed in SEEDS:
        found = steps(ours, theirs, seed)
        assert all(mine.shape == other.shape for mine, other in found.values())
        others = {step: other for step, (_, other) in found.items()}
        assert not beyond_rounding(noise, own_steps(seed)(ours), others)


MEMORY_PATH = (
    "maskmem_tpos_enc",
    "obj_ptr_tpos_proj.",
    "obj_ptr_proj.",
    "mask_downsample.",
    "memory_attention.",
    "memory_encoder.",
)


@pytest.mark.parametrize("name", DEBUG)
def test_every_tensor_of_the_memory_path_counts_in_its_steps(name: str) -> None:
    ours, theirs = our_predictor(name, COMES_AND_GOES), their_predictor(name, COMES_AND_GOES).model
    right = {step: relative(*both) for step, both in steps(ours, theirs).items()}
    for tensor, values in ours.named_parameters():
        if tensor.startswith(MEMORY_PATH):
            with displaced(values):
                wrong = {step: relative(*both) for step, both in steps(ours, theirs).items()}
            assert any(wrong[step] > 100 * max(right[step], EPSILON) for step in right), tensor


class Memory:
    """A memory of the same frame and mask on both sides: ours, and theirs in bfloat16."""

    def __init__(self, name: str) -> None:
        self.ours = our_predictor(name, COMES_AND_GOES)
        self.theirs = their_predictor(name, COMES_AND_GOES).model
        side, grid = self.ours.image_size, self.ours.config.embedding_size
        self.image = random(1, self.ours.config.hidden_dim, grid, grid)
        self.masks = random(1, 1, side, side)
        kinds = [(score, binarize) for score in (1.0, -1.0) for binarize in (True, False)]
        self.noise = rounding(self.ours, *(partial(self._named, kind) for kind in kinds))["memory"]

    def _named(self, kind: tuple[float, bool], model: SAM2VideoPredictor) -> dict[str, Tensor]:
        return {"memory": self.of(model, *kind)}

    def of(self, model: SAM2VideoPredictor, score: float, binarize: bool) -> Tensor:
        frame = ImageFeatures(self.image, (self.image, self.image))
        seen = torch.tensor([[score]])
        return model.encode_memory(frame, self.masks, seen, binarize=binarize)

    def mine(self, score: float, binarize: bool) -> Tensor:
        return self.of(self.ours, score, binarize)

    def other(self, score: float, binarize: bool) -> Tensor:
        places = self.image.flatten(2).permute(2, 0, 1)
        kept, _ = self.theirs._encode_new_memory(
            places, self.masks, torch.tensor([[score]]), is_mask_from_pts=binarize
        )
        assert kept.dtype == torch.bfloat16
        return kept.permute(1, 2, 0).float().view_as(self.mine(score, binarize))  # type: ignore[no-any-return]


memories = cache(Memory)


def same_but_for_the_last_bit(memory: Memory, mine: Tensor, other: Tensor) -> bool:
    """Whether the two differ only by rounding; ``other`` is in bfloat16, which has 8 bits."""
    rounded = MULTIPLE * memory.noise * float(mine.abs().max())
    return torch.allclose(mine, other, rtol=2**-8, atol=rounded)


@pytest.mark.parametrize("binarize", [True, False], ids=["binary", "sigmoid"])
@pytest.mark.parametrize("score", [1.0, -1.0], ids=["there", "absent"])
@pytest.mark.parametrize("name", DEBUG)
def test_memories(name: str, score: float, binarize: bool) -> None:
    memory = memories(name)
    other = memory.other(score, binarize)
    assert same_but_for_the_last_bit(memory, memory.mine(score, binarize), other)
    assert not same_but_for_the_last_bit(memory, memory.mine(score, not binarize), other)
    absence_is_marked = name == "debug/sam2.1_debug"
    assert (
        same_but_for_the_last_bit(memory, memory.mine(-score, binarize), other) != absence_is_marked
    )
