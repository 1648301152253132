"""What both sides learn from: the drawn video, true masks of two objects, and fixed prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...training.batch import Batch
from ...training.points import Points
from ...training.prompts import FixedPrompts, Plan
from ..inputs import clip, disc
from .scenarios import Box, Click, TrainingScenario

_SQUARE = (0.6, 0.15, 0.85, 0.4)  # the second object on the first frame: x0, y0, x1, y1
_DRIFT = 0.02  # by which it goes down from frame to frame
_CORNERS = (2, 3)  # labels of the points that are a box


@dataclass(frozen=True)
class Example:
    """What one step of training is about.

    Attributes:
        batch: One clip with two objects.
        prompts: What is asked about it.
    """

    batch: Batch
    prompts: FixedPrompts


def example(scenario: TrainingScenario, image_size: int, device: str) -> Example:
    """Draw the clip of a scenario, and place its prompts.

    Args:
        scenario: The scenario.
        image_size: Side of the model's input in pixels.
        device: Device of the tensors.

    Returns:
        The clip, its true masks and the prompts.
    """
    frames = clip(None, image_size, scenario.frames).tensor[:, None]  # T, 1, 3, S, S
    masks = torch.stack([_masks(scenario, t, image_size) for t in range(scenario.frames)])
    batch = Batch(frames.float(), masks, torch.zeros(masks.shape[1], dtype=torch.int64))

    def points(rows: Sequence[Sequence[Click]]) -> Points:
        places = torch.tensor([[click[:2] for click in row] for row in rows]) * image_size
        labels = torch.tensor([[click[2] for click in row] for row in rows], dtype=torch.int32)
        return Points(places.to(device), labels.to(device))  # O, N, 2 and O, N

    started = {
        **{
            frame: points([[click] for click in clicks])
            for frame, clicks in scenario.clicks.items()
        },
        **{frame: points([*map(_corners, boxes)]) for frame, boxes in scenario.boxes.items()},
    }
    corrections = {
        frame: [points([[click] for click in clicks]) for clicks in rounds]
        for frame, rounds in scenario.corrections.items()
    }
    count = max(map(len, corrections.values()), default=0)
    plan = Plan(scenario.first, started, tuple(corrections), count)
    return Example(batch.to(device), FixedPrompts(plan, corrections))


def _corners(box: Box) -> list[Click]:
    return [(box[0], box[1], _CORNERS[0]), (box[2], box[3], _CORNERS[1])]


def _masks(scenario: TrainingScenario, frame: int, size: int) -> Tensor:
    """The true masks on a frame: 2 x S x S, bool."""
    found = np.stack([disc(frame, size, size), _square(frame, size)])
    for number in range(len(found)):
        if (frame, number) in scenario.absent:
            found[number] = False
    return torch.from_numpy(found)


def _square(frame: int, size: int) -> NDArray[np.bool_]:
    places = np.arange(size) / size
    x0, y0, x1, y1 = _SQUARE
    across = (places >= x0) & (places < x1)
    down = (places >= y0 + _DRIFT * frame) & (places < y1 + _DRIFT * frame)
    inside: NDArray[np.bool_] = down[:, None] & across
    return inside
