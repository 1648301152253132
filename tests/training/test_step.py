"""Steps of optimisation give the same weights as the official trainer's, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from training.model.sam2 import SAM2Train

from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2, ModelConfig
from sam21convert.prediction.backends.sam2_build import build_training
from sam21convert.training.batch import Batch
from sam21convert.training.follow import follow
from sam21convert.training.losses import LossSettings, losses
from sam21convert.training.optimiser import Rates, parameter_groups, schedule
from sam21convert.training.prompts import PromptSettings, SimulatedPrompts
from sam21convert.training.step import DivergedError, take_step

from ..support.official import DEBUG, PUBLISHED, on_meta
from ..support.training import (
    OfficialBatch,
    made_batch,
    official_losses,
    official_model,
    official_optim,
    official_optimiser,
    same_model,
)

STEPS = 3
SEED = 5
DROP_PATH = 0.4  # or nothing is dropped in so few steps of so few frames
PROMPTS = PromptSettings(corrections=2)


@cache
def batches(size: int) -> list[Batch]:
    return [made_batch(size, 3, 1, 2, seed) for seed in range(STEPS)]


def official_steps(config: ModelConfig, places: Sequence[float]) -> dict[str, Tensor]:
    """The weights after one step for each place in the training, from 0 to 1."""
    model = official_model(config, PROMPTS, SEED, drop_path=DROP_PATH)
    optimiser = official_optimiser(model)
    clip = instantiate(official_optim().gradient_clip)
    torch.manual_seed(SEED)
    for where, batch in zip(places, batches(config.image_size), strict=False):
        optimiser.zero_grad(set_to_none=True)
        with torch.enable_grad():
            outputs = model(OfficialBatch(batch))
            loss = official_losses(outputs, batch.masks, LossSettings())[0]
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step_schedulers(where, step=0)
        clip(model=model)
        optimiser.optimizer.step()
    return dict(model.state_dict())


def our_steps(
    config: ModelConfig, places: Sequence[float], rates: Rates | None = None, seed: int = SEED
) -> SAM2:
    model = start(config)
    model.regularise(drop_path=DROP_PATH)
    optimiser = torch.optim.AdamW(parameter_groups(model, rates))
    prompts = SimulatedPrompts(PROMPTS)
    torch.manual_seed(seed)
    for where, batch in zip(places, batches(config.image_size), strict=False):
        take_step(model, batch, prompts, optimiser, where, rates)
    return model


def start(config: ModelConfig) -> SAM2:
    return same_model(official_model(config, PROMPTS, SEED), config)


def differing(model: nn.Module, expected: dict[str, Tensor]) -> set[str]:
    found = model.state_dict()
    assert [*found] == [*expected]
    return {name for name, tensor in found.items() if not torch.equal(tensor, expected[name])}


@pytest.mark.parametrize("name", DEBUG)
def test_three_steps_give_the_same_weights(name: str) -> None:
    config, places = shipped_config(name), [number / STEPS for number in range(STEPS)]
    expected = official_steps(config, places)
    assert differing(our_steps(config, places), expected) == set()
    assert len(differing(start(config), expected)) > 350  # nearly all that can change


@pytest.fixture(scope="module")
def one_step() -> dict[str, Tensor]:
    return official_steps(shipped_config(DEBUG[0]), [0.5])


@pytest.mark.parametrize(
    "rates",
    [
        Rates(base=6e-6),
        Rates(encoder=4e-6),
        Rates(fall=9.0),
        Rates(layer_decay=0.8),
        Rates(weight_decay=0.2),
        Rates(clip=0.2),
    ],
    ids=["base", "encoder", "fall", "layer decay", "weight decay", "clip"],
)
def test_other_rates_are_seen(rates: Rates, one_step: dict[str, Tensor]) -> None:
    assert differing(our_steps(shipped_config(DEBUG[0]), [0.5], rates), one_step)


def test_another_seed_is_seen(one_step: dict[str, Tensor]) -> None:
    config = shipped_config(DEBUG[0])
    assert differing(our_steps(config, [0.5]), one_step) == set()
    assert differing(our_steps(config, [0.5], seed=6), one_step)


def on_meta_of(name: str) -> tuple[nn.Module, SAM2]:
    config = shipped_config(name)
    with on_meta():
        return build_training(SAM2Train, config), SAM2(config)


def learns(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    return {
        names[id(weight)]: (group["lr"], group["weight_decay"])
        for group in optimiser.param_groups
        for weight in group["params"]
    }


@pytest.mark.parametrize("name", [*PUBLISHED, *DEBUG])
def test_every_parameter_learns_as_fast_as_in_the_official_trainer(name: str) -> None:
    theirs, ours = on_meta_of(name)
    expected = official_optimiser(theirs)
    optimiser = torch.optim.AdamW(parameter_groups(ours))
    assert learns(optimiser, ours) == learns(expected.optimizer, theirs)
    for where in (0.0, 0.3, 0.99):
        expected.step_schedulers(where, step=0)
        schedule(optimiser, where)
        assert learns(optimiser, ours) == learns(expected.optimizer, theirs)


def test_what_is_frozen_stays() -> None:
    model = start(shipped_config(DEBUG[0]))
    model.image_encoder.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimiser = torch.optim.AdamW(parameter_groups(model))
    take_step(model, batches(model.image_size)[0], SimulatedPrompts(PROMPTS), optimiser, 0.0)
    changed = differing(model, before)
    assert changed
    assert not any(name.startswith("image_encoder.") for name in changed)


def test_nothing_to_learn() -> None:
    model = SAM2(shipped_config(DEBUG[0])).requires_grad_(False)
    with pytest.raises(ValueError, match="no weight of the model requires a gradient"):
        parameter_groups(model)


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    model = start(shipped_config(DEBUG[0]))
    batch = batches(model.image_size)[0]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimiser = torch.optim.AdamW(parameter_groups(model))
    infinite = replace(batch, frames=torch.full_like(batch.frames, math.inf))
    with pytest.raises(DivergedError, match="the loss is nan"):
        take_step(model, infinite, SimulatedPrompts(PROMPTS), optimiser, 0.0)
    assert differing(model, before) == set()


def test_gradients_are_averaged_before_they_are_clipped() -> None:
    model = start(shipped_config(DEBUG[0]))
    optimiser = torch.optim.AdamW(parameter_groups(model))
    norms: list[float] = []

    def note() -> None:
        weights = [weight.grad for weight in model.parameters() if weight.grad is not None]
        norms.append(float(nn.utils.get_total_norm(weights)))

    batch = batches(model.image_size)[0]
    prompts = SimulatedPrompts(PROMPTS)
    found = take_step(model, batch, prompts, optimiser, 0.0, average=note)
    note()
    assert norms[0] > 1
    assert norms[1] == pytest.approx(Rates().clip, rel=1e-4)
    assert not any(loss.requires_grad for loss in found)


def test_official_rates_are_scaled_together() -> None:
    assert Rates.of(5e-6) == Rates()
    assert Rates.of(1e-4).encoder == pytest.approx(6e-5)


class TestRecomputation:
    def losses(self, *, on: bool) -> tuple[list[Tensor], dict[str, Tensor | None]]:
        model = start(shipped_config(DEBUG[0]))
        model.regularise()
        model.recompute_activations(on=on)
        torch.manual_seed(SEED)
        batch = batches(model.image_size)[0]
        with torch.enable_grad():
            answers = follow(model, batch, SimulatedPrompts(PROMPTS))
            found = losses(answers, batch.masks)
            found.total.backward()  # type: ignore[no-untyped-call]
        return [*found], {name: weight.grad for name, weight in model.named_parameters()}

    def test_gives_the_same_gradients(self) -> None:
        (usual, gradients), (again, other) = self.losses(on=False), self.losses(on=True)
        assert all(map(torch.equal, usual, again))
        for name, gradient in gradients.items():
            one = other[name]
            assert (gradient is None) == (one is None)
            assert gradient is None or one is None or torch.equal(gradient, one), name

    def test_keeps_less(self) -> None:
        def kept(*, on: bool) -> int:
            sizes: list[int] = []

            def note(tensor: Tensor) -> Tensor:
                sizes.append(tensor.numel())
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                model = start(shipped_config(DEBUG[0]))
                model.recompute_activations(on=on)
                with torch.enable_grad():
                    batch = batches(model.image_size)[0]
                    follow(model, batch, SimulatedPrompts(PROMPTS))
            return sum(sizes)

        assert kept(on=True) < kept(on=False) / 2
