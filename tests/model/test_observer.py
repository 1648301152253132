"""A tracker tells an observer what it computes, and takes features from a cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2VideoPredictor
from sam21convert.model.inference_state import Session

from ..support.official import DEBUG, randomise

VIDEO = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
OF_A_FRAME = [*(f"trunk.stage{i}" for i in range(4)), *(f"neck.level{i}" for i in range(3))]
OF_A_MASK = [
    "prompt.sparse",
    "prompt.dense",
    "decoder.tokens",
    "decoder.logits",
    "decoder.iou",
    "decoder.object_score",
    "pointer",
]
OF_MEMORIES = [f"memory_attention.{name}" for name in ("memory", "position", "output")]


class Listener:
    """Notes what it is told; ``replace`` says what is stored as a memory, ``turn`` from what."""

    def __init__(
        self,
        replace: Callable[[Tensor], Tensor] = lambda memory: memory,
        turn: Callable[[Tensor], Tensor] = lambda mask: mask,
    ) -> None:
        self.replace, self.turn = replace, turn
        self.told: list[tuple[str, str]] = []
        self.memories: dict[str, Tensor] = {}
        self.masks: dict[str, Tensor] = {}

    def activation(self, place: str, name: str, tensor: Tensor) -> None:
        assert isinstance(tensor, Tensor)
        self.told.append((place, name))

    def mask(self, place: str, mask: Tensor) -> Tensor:
        self.masks[place] = mask
        return self.turn(mask)

    def memory(self, place: str, memory: Tensor) -> Tensor:
        assert memory.dtype == torch.bfloat16
        self.memories[place] = memory
        return self.replace(memory)


@pytest.fixture(scope="module")
def shared() -> SAM2VideoPredictor:
    predictor = SAM2VideoPredictor(shipped_config(DEBUG[0])).eval()
    randomise(predictor, seed=3)
    return predictor


@pytest.fixture
def predictor(shared: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch) -> SAM2VideoPredictor:
    monkeypatch.setattr(shared, "observer", None)
    return shared


def follow(predictor: SAM2VideoPredictor) -> tuple[Session, Tensor]:
    """A click on the first frame; the masks of all frames."""
    state = predictor.init_state(VIDEO)
    predictor.add_new_points_or_box(state, 0, 7, points=[[20, 30]], labels=[1])
    return state, torch.stack([masks for _, _, masks in predictor.propagate_in_video(state)])


def test_activations_are_told_in_the_order_of_the_data(predictor: SAM2VideoPredictor) -> None:
    predictor.observer = listener = Listener()
    follow(predictor)
    memory = ["memory_encoder.output"]
    expected = [("frame0", name) for name in OF_A_FRAME]
    expected += [("frame0.object7", name) for name in [*OF_A_MASK, *memory]]
    for frame in ("frame1", "frame2"):
        expected += [(frame, name) for name in OF_A_FRAME]
        names = [*OF_MEMORIES, *OF_A_MASK, *memory]
        expected += [(f"{frame}.object7", name) for name in names]
    # Before a prompt is remembered, the tracker returns to its frame, which is encoded again
    # only if another was looked at meanwhile.
    assert listener.told == expected
    assert [*listener.memories] == [f"frame{number}.object7" for number in range(3)]


def test_an_observer_changes_nothing(predictor: SAM2VideoPredictor) -> None:
    _, unobserved = follow(predictor)
    predictor.observer = listener = Listener()
    state, observed = follow(predictor)
    assert torch.equal(unobserved, observed)
    settled = state.objects[7].settled
    for number in range(3):
        outcome = settled.find(number)
        assert outcome is not None
        assert outcome.memory is listener.memories[f"frame{number}.object7"]


def test_what_the_observer_returns_is_stored(predictor: SAM2VideoPredictor) -> None:
    _, usual = follow(predictor)
    predictor.observer = Listener(torch.zeros_like)
    state, changed = follow(predictor)
    settled = state.objects[7].settled
    for number in range(3):
        outcome = settled.find(number)
        assert outcome is not None
        assert outcome.memory is not None
        assert not outcome.memory.any()
    assert torch.equal(usual[0], changed[0])
    assert not torch.equal(usual[1:], changed[1:])


def test_masks_are_told_where_only_their_signs_are_remembered(
    predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor.observer = listener = Listener()
    follow(predictor)
    assert not listener.masks
    monkeypatch.setattr(predictor, "binarize_mask_from_pts_for_mem_enc", True)
    predictor.observer = listener = Listener()
    follow(predictor)
    assert [*listener.masks] == ["frame0.object7"]  # the others have no prompt
    assert listener.masks["frame0.object7"].shape == (1, 1, *[predictor.image_size] * 2)


@pytest.mark.parametrize(
    ("turn", "same"), [(lambda mask: mask * 2, True), (lambda mask: -mask, False)]
)
def test_the_memory_is_made_of_the_mask_that_the_observer_returns(
    predictor: SAM2VideoPredictor,
    monkeypatch: pytest.MonkeyPatch,
    turn: Callable[[Tensor], Tensor],
    same: bool,
) -> None:
    monkeypatch.setattr(predictor, "binarize_mask_from_pts_for_mem_enc", True)
    predictor.observer = usual = Listener()
    follow(predictor)
    predictor.observer = turned = Listener(turn=turn)
    follow(predictor)
    first = "frame0.object7"
    assert torch.equal(usual.memories[first], turned.memories[first]) == same
