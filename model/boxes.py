"""Boxes around masks, and which of them are duplicates.

Follows ``utils/amg.py`` of the official code and, for :func:`suppress_duplicates`, the operator
``nms`` of torchvision as it computes on a CPU.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_NEAR = 20.0  # pixels: a mask this close to the edge of a crop may be cut off by it
_BLOCK = 128  # boxes that are compared with all that follow at once


class Crop(NamedTuple):
    """A part of an image.

    Attributes:
        x0: The first column.
        y0: The first row.
        x1: The column after the last one.
        y1: The row after the last one.
        layer: The layer of crops that it belongs to; 0 is the whole image.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    layer: int

    @property
    def area(self) -> int:
        """The number of its pixels."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)


def crops_of(height: int, width: int, layers: int, overlap_ratio: float) -> list[Crop]:
    """Divide an image into overlapping crops.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        layers: Layers of crops beside the image itself; layer ``n`` has ``2**n`` crops a side.
        overlap_ratio: By how much the crops of the first layer overlap, as a share of the shorter
            side; those of the next ones overlap by half as much each.

    Returns:
        The whole image, then the crops of each layer, column by column.
    """
    crops = [Crop(0, 0, width, height, 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / count))
        wide, high = (math.ceil((overlap * (count - 1) + side) / count) for side in (width, height))
        for x0 in ((wide - overlap) * column for column in range(count)):
            for y0 in ((high - overlap) * row for row in range(count)):
                crops.append(Crop(x0, y0, min(x0 + wide, width), min(y0 + high, height), layer))
    return crops


def boxes_of(masks: Tensor) -> Tensor:
    """Find the box around each mask.

    Args:
        masks: Boolean, ``N x H x W``.

    Returns:
        The first and the last column and row with a pixel: x0, y0, x1, y1 as ``N x 4`` integers;
        zeros for a mask without pixels.
    """
    edges = []
    for axis in (-2, -1):  # over which columns, and then rows, are summed up
        inside = masks.any(dim=axis).int()  # N, W and then N, H
        # Of several equal values, argmax finds the first.
        last = inside.shape[-1] - 1 - inside.flip(-1).argmax(-1)
        edges.append((inside.argmax(-1), torch.where(inside.any(-1), last, 0)))
    (x0, x1), (y0, y1) = edges
    return torch.stack([x0, y0, x1, y1], dim=-1)


def cut_off(boxes: Tensor, crop: Crop, height: int, width: int) -> Tensor:
    """Find the boxes that end near the edge of a crop where the image goes on.

    Args:
        boxes: x0, y0, x1, y1 in pixels of the image, ``N x 4``.
        crop: The crop.
        height: Of the image.
        width: Of the image.

    Returns:
        ``N`` booleans.
    """
    edges, border = (boxes.new_tensor(ends) for ends in (crop[:4], (0, 0, width, height)))
    inner = ((boxes - edges).abs() <= _NEAR) & ((boxes - border).abs() > _NEAR)
    return inner.any(dim=-1)


def suppress_duplicates(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Drop each box that overlaps too much with a better one that is kept.

    Args:
        boxes: x0, y0, x1, y1, ``N x 4`` floats.
        scores: How good each is, ``N``. Of equal ones the first is better.
        iou_threshold: The intersection over union above which two boxes show the same.

    Returns:
        The numbers of those that are kept, the best first, on the device of ``boxes``.
    """
    order = scores.sort(descending=True, stable=True).indices.to(boxes.device)
    return order[_kept(boxes[order].cpu(), iou_threshold).to(order.device)]


def _kept(boxes: Tensor, iou_threshold: float) -> Tensor:
    """The places of the boxes that are kept, of boxes that are sorted, the best first."""
    dropped, kept = torch.zeros(len(boxes), dtype=torch.bool).numpy(), []
    for start in range(0, len(boxes), _BLOCK):
        rows = [n for n in range(start, min(start + _BLOCK, len(boxes))) if not dropped[n]]
        # In double precision, as the threshold has it. Two boxes without area overlap by NaN.
        same = (_overlaps(boxes[rows], boxes[start:]).double() > iou_threshold).numpy()
        for number, duplicates in zip(rows, same, strict=True):
            if not dropped[number]:
                kept.append(number)
                dropped[start:] |= duplicates
    return torch.tensor(kept, dtype=torch.long)


def _overlaps(ones: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of each of ``N`` boxes with each of ``M``: ``N x M``."""
    areas, other_areas = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (ones, others))
    wide, high = (
        (
            torch.minimum(ones[:, None, last], others[None, :, last])
            - torch.maximum(ones[:, None, first], others[None, :, first])
        ).clamp(min=0)
        for first, last in ((0, 2), (1, 3))
    )
    shared = wide * high
    return shared / (areas[:, None] + other_areas - shared)
