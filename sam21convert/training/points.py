"""Points and boxes drawn at random from true masks, as a user would give them.

Follows ``sample_box_points`` and ``sample_random_points_from_errors`` of
``modeling/sam2_utils.py``: the same numbers are drawn from torch's generator in the same order, so
that the same seed gives the same prompts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_NEGATIVE, _POSITIVE, _FIRST_CORNER, _LAST_CORNER = range(4)  # labels of points
_JITTER = 0.1  # of the sides of a box, by which its corners are moved at most
_MOST = 20  # pixels


class Points(NamedTuple):
    """Points on each of ``O`` objects.

    Attributes:
        points: (x, y) in pixels of the model's input, ``O x N x 2``.
        labels: ``O x N``: 1 on the object, 0 off it, 2 and 3 the corners of a box.
    """

    points: Tensor
    labels: Tensor

    def and_then(self, more: Points) -> Points:
        """Append points of the same objects.

        Args:
            more: The points.

        Returns:
            These and those.
        """
        return Points(*(torch.cat(both, dim=1) for both in zip(self, more, strict=True)))


def draw_boxes(masks: Tensor) -> Points:
    """Draw boxes around masks, each corner of which is off by up to a tenth of the box.

    Args:
        masks: ``O x S x S``, bool.

    Returns:
        Two corners for each object.
    """
    size, device = masks.shape[-1], masks.device
    places = torch.arange(size, device=device, dtype=torch.int32)
    columns, rows = masks.any(dim=1), masks.any(dim=2)  # O, S
    ends = [
        torch.where(there, places, outside).aminmax(dim=1)[which]
        for which, outside in ((0, size), (1, -1))
        for there in (columns, rows)
    ]
    corners = torch.stack(ends, dim=-1)[:, None]  # O, 1, 4: x0, y0, x1, y1
    most = torch.tensor(_MOST, device=device)
    width = torch.min((corners[..., 2] - corners[..., 0]) * _JITTER, most)
    height = torch.min((corners[..., 3] - corners[..., 1]) * _JITTER, most)
    noise = 2 * torch.rand(len(masks), 1, 4, device=device) - 1
    moved = corners + noise * torch.stack((width, height, width, height), dim=-1)
    labels = torch.tensor([_FIRST_CORNER, _LAST_CORNER], dtype=torch.int32, device=device)
    return Points(moved.clamp(0, size - 1).reshape(-1, 2, 2), labels.repeat(len(masks), 1))


def draw_points(masks: Tensor, predicted: Tensor | None = None) -> Points:
    """Draw one point for each mask, from where a prediction is wrong.

    Where it is right everywhere, the point is on the background.

    Args:
        masks: The true masks, ``O x S x S``, bool.
        predicted: The predicted ones, bool; None for empty ones, so that points are on the object.

    Returns:
        One point for each object.
    """
    if predicted is None:
        predicted = torch.zeros_like(masks)
    size = masks.shape[-1]
    right = (masks == predicted).flatten(1).all(dim=1)[:, None, None]  # O, 1, 1
    chance = torch.rand(len(masks), 1, size, size, 2, device=masks.device)[:, 0]  # O, S, S, 2
    chance[..., _NEGATIVE] *= (predicted & ~masks) | (right & ~masks)
    chance[..., _POSITIVE] *= masks & ~predicted
    place = chance.flatten(1).argmax(dim=1, keepdim=True)  # O, 1
    labels, place = (place % 2).to(torch.int32), place // 2
    points = torch.stack((place % size, place // size), dim=2).float()  # O, 1, 2
    return Points(points, labels)
