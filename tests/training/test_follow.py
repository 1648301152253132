"""The same prompts, answers, losses and gradients as in the official training code, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2
from sam21convert.training.batch import Batch
from sam21convert.training.follow import Step, follow
from sam21convert.training.losses import Losses, LossSettings, losses
from sam21convert.training.prompts import PromptSettings, RecordedPrompts, SimulatedPrompts

from ..support.official import DEBUG
from ..support.training import (
    OfficialBatch,
    made_batch,
    official_losses,
    official_model,
    same_model,
    without_dropout,
)


@dataclass(frozen=True)
class Case:
    """A batch, and how its objects are prompted."""

    frames: int
    clips: int
    objects: int
    prompts: PromptSettings
    seed: int = 0

    def batch(self, size: int) -> Batch:
        return made_batch(size, self.frames, self.clips, self.objects, self.seed)


# Parts that learn from an image, and from a video, whatever the prompts.
IMAGE = {"image_encoder", "sam_prompt_encoder", "sam_mask_decoder"}
VIDEO = IMAGE | {
    "maskmem_tpos_enc",
    "no_obj_ptr",
    "memory_attention",
    "memory_encoder",
    "obj_ptr_proj",
}

MASKS = PromptSettings(points=0)
POINTS = PromptSettings(points=1, box=0)
BOXES = PromptSettings(points=1, box=1)
CASES = {
    "image, points": Case(1, 1, 1, POINTS),
    "images, boxes": Case(1, 2, 3, replace(BOXES, corrections=2)),
    "video, masks": Case(4, 1, 2, MASKS),
    "video, points": Case(4, 1, 1, replace(POINTS, corrections=2)),
    "videos, boxes": Case(4, 2, 3, replace(BOXES, corrections=2)),
    "video, as published": Case(4, 1, 2, PromptSettings()),
}


@dataclass
class Side:
    """What one of the two sides computed."""

    answers: list[list[Step]]
    losses: list[Tensor]
    gradients: dict[str, Tensor | None]


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor | None]:
    """By parameter, in the order of their names; None where the loss does not depend on it."""
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: weight.grad for name, weight in sorted(model.named_parameters())}


def official(model: nn.Module, case: Case, batch: Batch) -> Side:
    torch.manual_seed(case.seed)
    outputs = model(OfficialBatch(batch))
    kinds = ("multimasks_high_res", "ious")
    answers = [
        [
            Step(*one)
            for one in zip(
                *(frame[f"multistep_pred_{kind}"] for kind in kinds),
                frame["multistep_object_score_logits"],
                strict=True,
            )
        ]
        for frame in outputs
    ]
    found = official_losses(outputs, batch.masks, LossSettings())
    return Side(answers, found, gradients(model, found[0]))


def ours(model: SAM2, case: Case, batch: Batch, settings: LossSettings | None = None) -> Side:
    torch.manual_seed(case.seed)
    answers = follow(model, batch, SimulatedPrompts(case.prompts))
    found = losses(answers, batch.masks, settings)
    return Side(answers, [*found], gradients(model, found.total))


def differing(mine: Side, theirs: Side) -> list[str]:
    """What is not the same: answers by frame and step, losses and gradients by name."""
    found = [
        f"{name} {number}.{step}"
        for number, both in enumerate(zip(mine.answers, theirs.answers, strict=True))
        for step, answers in enumerate(zip(*both, strict=True))
        for name, *pair in zip(Step._fields, *answers, strict=True)
        if not torch.equal(*pair)
    ]
    losses = zip(Losses._fields, mine.losses, theirs.losses, strict=True)
    found += [name for name, *pair in losses if not torch.equal(*pair)]
    assert [*mine.gradients] == [*theirs.gradients]
    pairs = zip(mine.gradients, mine.gradients.values(), theirs.gradients.values(), strict=True)
    return found + [name for name, *pair in pairs if not same(*pair)]


def same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)


@pytest.mark.parametrize("name", DEBUG)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_all_is_as_in_the_official_code(name: str, case: Case) -> None:
    config = shipped_config(name)
    theirs = without_dropout(official_model(config, case.prompts, seed=1))
    mine, batch = same_model(theirs, config), case.batch(config.image_size)
    expected = official(theirs, case, batch)
    assert differing(ours(mine, case, batch), expected) == []
    reached = {name.split(".")[0] for name, one in expected.gradients.items() if one is not None}
    assert reached >= (VIDEO if case.frames > 1 else IMAGE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam2/sam2_hiera_t", "sam2.1/sam2.1_hiera_t"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_tiny(name: str, case: Case) -> None:
    config = replace(shipped_config(name), image_size=256)
    theirs = without_dropout(official_model(config, case.prompts, seed=1))
    mine, batch = same_model(theirs, config), case.batch(config.image_size)
    assert differing(ours(mine, case, batch), official(theirs, case, batch)) == []


def test_prompts_as_data_give_the_same() -> None:
    config, case = shipped_config(DEBUG[0]), CASES["videos, boxes"]
    model = same_model(official_model(config, case.prompts, seed=1), config)
    batch = case.batch(config.image_size)
    recorded = RecordedPrompts(SimulatedPrompts(case.prompts))
    first = follow(model, batch, recorded)
    again = follow(model, batch, recorded.fixed())
    sides = [Side(answers, [*losses(answers, batch.masks)], {}) for answers in (first, again)]
    assert differing(*sides) == []


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"focal": 21.0}, {"total"}),
        ({"alpha": 0.3}, {"total", "focal"}),
        ({"gamma": 1.0}, {"total", "focal"}),
        ({"dice": 1.5}, {"total"}),
    ],
)
def test_another_loss_is_seen(change: dict[str, float], seen: set[str]) -> None:
    config, case = shipped_config(DEBUG[0]), CASES["video, masks"]
    theirs = without_dropout(official_model(config, case.prompts, seed=1))
    mine, batch = same_model(theirs, config), case.batch(config.image_size)
    found = differing(
        ours(mine, case, batch, LossSettings(**change)), official(theirs, case, batch)
    )
    assert {name for name in found if name in Losses._fields} == seen
    assert "sam_mask_decoder.mask_tokens.weight" in found


@pytest.mark.parametrize("part", ["memory_encoder.out_proj.bias", "maskmem_tpos_enc"])
def test_another_weight_is_seen(part: str) -> None:
    config, case = shipped_config(DEBUG[0]), CASES["video, masks"]
    theirs = without_dropout(official_model(config, case.prompts, seed=1))
    mine, batch = same_model(theirs, config), case.batch(config.image_size)
    with torch.no_grad():
        mine.get_parameter(part).view(-1)[-1] += 0.5
    found = differing(ours(mine, case, batch), official(theirs, case, batch))
    assert "total" in found
    assert "masks 1.0" in found


def test_losses_are_divided_by_what_is_asked() -> None:
    config, case = shipped_config(DEBUG[0]), CASES["image, points"]
    model, batch = SAM2(config), case.batch(config.image_size)
    answers = follow(model, batch, SimulatedPrompts(case.prompts))
    halved = losses(answers, batch.masks, objects=2 * len(batch.clip))
    torch.testing.assert_close([2 * one for one in halved], [*losses(answers, batch.masks)])


def _detach(model: SAM2, part: str) -> None:
    """Cut the gradient of what a part of a model returns."""

    def cut(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return output.detach()

    model.get_submodule(part).register_forward_hook(cut)


@pytest.mark.parametrize(
    "part", ["obj_ptr_proj", "memory_encoder", "memory_attention", "mask_downsample"]
)
def test_a_branch_that_is_cut_off_is_seen(part: str) -> None:
    config, case = shipped_config(DEBUG[0]), CASES["video, masks"]
    theirs = without_dropout(official_model(config, case.prompts, seed=1))
    mine, batch = same_model(theirs, config), case.batch(config.image_size)
    _detach(mine, part)
    found = differing(ours(mine, case, batch), official(theirs, case, batch))
    assert found
    assert not {*found} & {*Losses._fields}
    assert any(name.startswith(part) for name in found)
