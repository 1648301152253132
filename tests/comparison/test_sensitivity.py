"""Every tensor of the state dict matters: change one, and some result of the model changes.

So that a comparison of two models by what they compute can see every tensor. What no result can see
is listed here, with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2VideoPredictor

from ..support.official import DEBUG, SAM2_IS_SLOW, randomise

# Never read where directly_add_no_mem_embed is on, as it is in every published config.
DEAD = {"no_mem_pos_enc"}
# Adds the same to a query's products with all keys, and softmax does not see what all have in
# common: only the rounding changes. With rotary positions it is not the same for all.
KEY_BIASES = {
    "sam_mask_decoder.transformer.final_attn_token_to_image.k_proj.bias",
    *(
        f"sam_mask_decoder.transformer.layers.{layer}.{attention}.k_proj.bias"
        for layer in (0, 1)
        for attention in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
    ),
}
SEEN = 1e-4  # of the scale of a result; rounding comes to 2e-5 by the last of them


class Exact(SAM2VideoPredictor):
    """Remembers the last memory before it is rounded to be stored."""

    def encode_memory(self, *args: Any, **kwargs: Any) -> Tensor:
        self.unrounded = super().encode_memory(*args, **kwargs)
        return self.unrounded


class Enough(Exception):  # noqa: N818  # not an error: nothing more has to be computed
    """A result has changed."""


class Seen:
    """Every result in the order of computation, with its kind; memories are stored unrounded.

    In bfloat16, a rounding now and then becomes a difference.

    Args:
        usual: The results to compare with; None keeps them instead.
    """

    def __init__(self, predictor: Exact, usual: Seen | None = None) -> None:
        self.predictor = predictor
        self.usual = usual
        self.results: list[Tensor] = []
        self.scales: dict[str, float] = defaultdict(float)
        self.count, self.largest = 0, 0.0

    def activation(self, place: str, name: str, tensor: Tensor) -> None:
        self.result(name, tensor)

    def mask(self, place: str, mask: Tensor) -> Tensor:
        return mask

    def memory(self, place: str, memory: Tensor) -> Tensor:
        assert torch.equal(memory, self.predictor.unrounded.to(torch.bfloat16))
        self.result("memory", self.predictor.unrounded)
        return self.predictor.unrounded

    def result(self, kind: str, tensor: Tensor) -> None:
        """Keep a result, or compare it: the largest change is in units of the scale of its kind."""
        self.count += 1
        if self.usual is None:
            self.results.append(tensor.clone())
            self.scales[kind] = max(self.scales[kind], float(tensor.abs().max()))
            return
        apart = (tensor - self.usual.results[self.count - 1]).abs().max()
        self.largest = max(self.largest, float(apart) / self.usual.scales[kind])
        if self.largest >= SEEN:
            raise Enough


class Subject:
    """A predictor, and everything that it computes on three frames with three objects."""

    def __init__(self, name: str) -> None:
        self.predictor = Exact(shipped_config(name)).eval()
        randomise(self.predictor, seed=3)
        self.video = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
        self.usual = Seen(self.predictor)
        self.run(self.usual)

    def run(self, seen: Seen) -> None:
        predictor = self.predictor
        predictor.observer = seen
        state = predictor.init_state(self.video)
        given: dict[str, Any] = {"points": [[20, 30], [50, 10]], "labels": [1, 0]}
        predictor.add_new_points_or_box(state, 0, 1, **given, box=[10, 12, 40, 50])
        predictor.add_new_points_or_box(state, 0, 1, **given, clear_old_points=False)
        predictor.add_new_mask(state, 0, 2, np.eye(64) > 0)
        predictor.add_new_mask(state, 0, 3, np.zeros((64, 64)))
        for _, _, masks in predictor.propagate_in_video(state):
            seen.result("masks", masks)

    def change(self, name: str) -> float:
        """The largest change up to the first that is seen, for a tensor 10 to 30 % off."""
        tensor = self.predictor.state_dict()[name]
        kept = tensor.clone()
        tensor.copy_(1.2 * kept + 0.1 * kept.abs().mean())
        seen = Seen(self.predictor, self.usual)
        with suppress(Enough):
            self.run(seen)
            assert seen.count == self.usual.count
        tensor.copy_(kept)
        return seen.largest


@pytest.mark.parametrize("name", SAM2_IS_SLOW)
def test_every_tensor_but_the_dead_one_changes_a_result(name: str) -> None:
    subject = Subject(name)
    changes = {tensor: subject.change(tensor) for tensor in subject.predictor.state_dict()}
    assert {tensor for tensor, change in changes.items() if change == 0} == DEAD
    assert {tensor for tensor, change in changes.items() if change < SEEN} == DEAD | KEY_BIASES


def test_every_row_of_the_ages_of_memories_matters() -> None:
    """Seven frames back, each row of maskmem_tpos_enc is used by itself."""
    predictor = SAM2VideoPredictor(shipped_config(DEBUG[0])).eval()
    randomise(predictor, seed=3)
    video = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)

    def last() -> Tensor:
        state = predictor.init_state(video)
        predictor.add_new_points_or_box(state, 0, 1, points=[[20, 30]], labels=[1])
        *_, _ = predictor.propagate_in_video(state)
        return state.objects[1].settled.tracked[8].object_score

    usual = last()
    for row in predictor.maskmem_tpos_enc:
        kept = row.clone()
        row.add_(0.1)
        assert not torch.equal(last(), usual)
        row.copy_(kept)
    assert torch.equal(last(), usual)
