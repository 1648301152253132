"""The operator ``nms`` of torchvision, one pair of boxes at a time.

torchvision's own is compiled, and does not load beside every build of torch. This one says the same
in the plainest words, and takes the official code through where torchvision's cannot.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def overlap(one: Tensor, other: Tensor) -> float:
    """Intersection over union in float32; NaN for two boxes without area."""
    x0, y0 = (max(float(one[n]), float(other[n])) for n in (0, 1))
    x1, y1 = (min(float(one[n]), float(other[n])) for n in (2, 3))
    shared = np.float32(max(0, x1 - x0)) * np.float32(max(0, y1 - y0))
    areas = [np.float32(b[2] - b[0]) * np.float32(b[3] - b[1]) for b in (one, other)]
    with np.errstate(invalid="ignore"):
        return float(shared / (areas[0] + areas[1] - shared))


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The numbers of the boxes that overlap with no better one that is kept, best first."""
    kept: list[int] = []
    for number in sorted(range(len(boxes)), key=lambda n: (-float(scores[n]), n)):
        if not any(overlap(boxes[n], boxes[number]) > iou_threshold for n in kept):
            kept.append(number)
    return torch.tensor(kept, dtype=torch.long)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """The same with the arguments of ``batched_nms``, for boxes that are all of one class."""
    assert not idxs.any()
    return nms(boxes, scores, iou_threshold)
