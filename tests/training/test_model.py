"""What training adds to the model, and that it adds no tensors, and nothing outside of training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2
from sam21convert.model.layers import drop_path
from sam21convert.training.follow import follow
from sam21convert.training.losses import Losses, LossSettings, losses
from sam21convert.training.prompts import PromptSettings, SimulatedPrompts

from ..support.official import DEBUG, randomise
from ..support.training import (
    OfficialBatch,
    made_batch,
    official_losses,
    official_model,
    same_model,
    without_dropout,
)

PROMPTS = PromptSettings(points=1, first_frames=1, corrected_frames=1, corrections=1)


def model_of(name: str, change: Callable[[SAM2], object] = lambda model: None) -> SAM2:
    model = SAM2(shipped_config(name))
    randomise(model, seed=0)
    change(model)
    return model


def followed(model: SAM2) -> Losses:
    torch.manual_seed(3)
    batch = made_batch(model.image_size, 4, 1, 2)
    return losses(follow(model, batch, SimulatedPrompts(PROMPTS)), batch.masks)


CHANGES: dict[str, Callable[[SAM2], object]] = {
    "dropout": lambda model: model.regularise(dropout=0.5, drop_path=0.5),
    "recomputation": lambda model: model.recompute_activations(),
}


@pytest.mark.parametrize("name", DEBUG)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_nothing_changes_outside_of_training(name: str, change: Callable[[SAM2], object]) -> None:
    usual, other = model_of(name).eval(), model_of(name, change).eval()
    assert [*usual.state_dict()] == [*other.state_dict()]
    assert [*dict(usual.named_parameters())] == [*dict(other.named_parameters())]
    assert all(map(torch.equal, followed(usual), followed(other)))


def test_dropout_draws_nothing_outside_of_training() -> None:
    model = model_of(DEBUG[0], CHANGES["dropout"])
    draws = []
    for training in (False, True):
        model.train(training)
        torch.manual_seed(0)
        frame = model.encode_frame(torch.zeros(1, 3, model.image_size, model.image_size))
        model.attend_to_memory(frame, [(0, frame.embedding[:, :64])], [], 1)
        draws.append(torch.rand(1).item())
    torch.manual_seed(0)
    assert draws[0] == torch.rand(1).item()
    assert draws[1] != draws[0]


@pytest.mark.parametrize(
    "rates", [{"dropout": 0.5, "drop_path": 0.0}, {"dropout": 0.0, "drop_path": 0.5}]
)
def test_each_kind_of_dropout_changes_training(rates: dict[str, float]) -> None:
    usual, other = model_of(DEBUG[0]), model_of(DEBUG[0], lambda model: model.regularise(**rates))
    assert not torch.equal(followed(usual.train()).total, followed(other.train()).total)
    other.regularise(dropout=0.0, drop_path=0.0)
    assert torch.equal(followed(usual).total, followed(other).total)


def test_whole_samples_are_left_out() -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 2, 3, 4)
    found = drop_path(x, 0.2)
    kept = found[:, 0, 0, 0] > 0
    assert torch.equal(found, torch.where(kept[:, None, None, None], x / 0.8, 0))
    assert 750 < kept.sum() < 850


@pytest.mark.parametrize("name", DEBUG)
@pytest.mark.parametrize("frames", [1, 2])
def test_in_bfloat16_the_same_is_learned(name: str, frames: int) -> None:
    """On images to the last bit; positions of memories are float32, and bfloat16 there."""
    config, batch = shipped_config(name), made_batch(128, frames, 1, 2)
    theirs = without_dropout(official_model(config, PROMPTS, seed=1))
    mine = same_model(theirs, config)

    def official() -> Tensor:
        return official_losses(theirs(OfficialBatch(batch)), batch.masks, LossSettings())[0]

    def ours() -> Tensor:
        return losses(follow(mine, batch, SimulatedPrompts(PROMPTS)), batch.masks).total

    expected, found = gradients(theirs, official), gradients(mine, ours)
    assert expected.keys() == found.keys()
    assert all(one.isfinite().all() for one in found.values())
    if frames == 1:
        assert all(torch.equal(one, expected[name]) for name, one in found.items())


def gradients(model: nn.Module, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    torch.manual_seed(3)
    with torch.enable_grad():
        with torch.autocast("cpu", torch.bfloat16):
            found = loss()
        found.backward()  # type: ignore[no-untyped-call]
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
