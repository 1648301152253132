"""What is no batch, and what are no settings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sam21convert.training.prompts import PromptSettings, RecordedPrompts, SimulatedPrompts

from ..support.training import made_batch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": torch.zeros(4, 3, 32, 32)}, "frames: .*found 4 x 3 x 32 x 32"),
        ({"frames": torch.zeros(4, 1, 3, 32, 16)}, "frames: .*found 4 x 1 x 3 x 32 x 16"),
        ({"masks": torch.zeros(4, 2, 32, 32)}, "masks: expected bool of .*found torch.float32"),
        (
            {"masks": torch.zeros(3, 2, 32, 32).bool()},
            "masks: .*4 x 2 x 32 x 32 .*3 x 2 x 32 x 32",
        ),
        ({"clip": torch.tensor([0, 2])}, "clip: expected numbers of 2 clips, found 0 to 2"),
        ({"clip": torch.zeros(0).long(), "masks": torch.zeros(4, 0, 32, 32).bool()}, "least one"),
    ],
)
def test_what_does_not_fit_together_is_named(change: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(made_batch(32, frames=4, clips=2, objects=2), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 1.5}, "points: expected a chance"),
        ({"box": -0.1}, "box: expected a chance"),
        ({"from_truth": 2.0}, "from_truth: expected a chance"),
        ({"first_frames": 0}, "first_frames: expected 1 or more"),
        ({"first_frames": 3}, "no more than corrected_frames"),
        ({"corrections": -1}, "corrections: expected 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_named(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromptSettings(**change)  # type: ignore[arg-type]


def test_no_more_frames_are_prompted_than_there_are() -> None:
    masks = made_batch(32, frames=2, clips=1, objects=1).masks
    prompts = SimulatedPrompts(PromptSettings(points=1, first_frames=4, corrected_frames=4))
    found = [prompts.plan(masks) for _ in range(20)]
    assert {len(plan.first) for plan in found} == {1, 2}
    assert {len(plan.corrected) for plan in found} == {1, 2}


def test_nothing_recorded() -> None:
    with pytest.raises(ValueError, match="follow a batch first"):
        RecordedPrompts(SimulatedPrompts()).fixed()


def test_a_batch_moves_whole() -> None:
    batch = made_batch(32, frames=1, clips=1, objects=1)
    moved = batch.to("cpu")
    assert all(
        torch.equal(*both) for both in zip(vars(batch).values(), vars(moved).values(), strict=True)
    )
