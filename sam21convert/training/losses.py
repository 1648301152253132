"""The losses of the official training.

Follows ``MultiStepMultiMasksAndIous`` of ``training/loss_fns.py`` with the settings of the official
fine-tuning: the IoU of every candidate is learned, and the masks of the best one only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ..model.layers import compute
from .follow import Step


@dataclass(frozen=True)
class LossSettings:
    """Weights and shapes of the losses; the defaults are the official ones.

    Attributes:
        focal: Weight of the focal loss (arXiv 1708.02002) of the masks.
        dice: Weight of the dice loss (arXiv 1606.04797) of the masks.
        iou: Weight of the error of the expected IoU.
        object_score: Weight of the cross entropy of whether the object is there.
        alpha: Weight of the object in the focal loss; the background has ``1 - alpha``.
        gamma: Exponent of the focal loss.
    """

    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    object_score: float = 1.0
    alpha: float = 0.25
    gamma: float = 2.0


class Losses(NamedTuple):
    """Sums over frames, steps and objects, divided by the number of objects; each has no axes.

    Attributes:
        total: The weighted sum of the others, which training minimises.
        focal: Focal loss of the masks.
        dice: Dice loss of the masks.
        iou: Distance between the expected and the real IoU.
        object_score: Cross entropy of whether the object is there.
    """

    total: Tensor
    focal: Tensor
    dice: Tensor
    iou: Tensor
    object_score: Tensor


def losses(
    frames: Sequence[Sequence[Step]],
    masks: Tensor,
    settings: LossSettings | None = None,
    objects: float | None = None,
) -> Losses:
    """Compare what the model answered with the true masks.

    Args:
        frames: For each of ``T`` frames, the steps, as :func:`follow` returns them.
        masks: The true masks, ``T x O x S x S``, bool.
        settings: Weights and shapes.
        objects: What to divide by; the number of objects ``O`` by default. On several devices, the
            mean of theirs.

    Returns:
        The losses.
    """
    settings = settings or LossSettings()
    count = float(objects or masks.shape[1])
    of_frames = []
    for steps, true in zip(frames, masks, strict=True):
        target = true[:, None].float()  # O, 1, S, S
        # What is cheap to compute and large to keep is computed once more for the gradients.
        of_steps = [compute(True, _of_step, step, target, settings, count) for step in steps]
        of_frames.append(_weighted(of_steps, settings))
    return Losses(*_added(of_frames))


def _added(rows: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Sums of columns, from the first row to the last: rounding depends on the order."""
    first, *rest = rows
    return reduce(lambda sums, row: [a + b for a, b in zip(sums, row, strict=True)], rest, [*first])


def _weighted(steps: Sequence[Sequence[Tensor]], settings: LossSettings) -> list[Tensor]:
    """The sums over the steps of a frame, after their weighted sum."""
    focal, dice, iou, score = sums = _added(steps)
    total = focal * settings.focal + dice * settings.dice + iou * settings.iou
    return [total + score * settings.object_score, *sums]


def _of_step(step: Step, target: Tensor, settings: LossSettings, count: float) -> list[Tensor]:
    """Focal, dice, IoU and score loss of one step; ``target`` is ``O x 1 x S x S``, 0 or 1."""
    there = (target > 0).flatten(1).any(dim=1, keepdim=True).float()  # O, 1
    target = target.expand_as(step.masks)  # O, M, S, S
    focal = _focal(step.masks, target, settings) / count  # O, M
    dice = _dice(step.masks, target) / count  # O, M
    score = F.binary_cross_entropy_with_logits(step.object_score, there, reduction="sum") / count
    iou = F.l1_loss(step.iou, _iou(step.masks, target), reduction="none") / count  # O, M
    best = (focal * settings.focal + dice * settings.dice).argmin(dim=1, keepdim=True)  # O, 1
    of_masks = (focal.gather(1, best), dice.gather(1, best), iou.mean(dim=1, keepdim=True))
    return [*((loss * there).sum() for loss in of_masks), score]


def _focal(logits: Tensor, target: Tensor, settings: LossSettings) -> Tensor:
    """``O x M``."""
    share = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = share * target + (1 - share) * (1 - target)
    weight = settings.alpha * target + (1 - settings.alpha) * (1 - target)
    return (weight * (entropy * (1 - right) ** settings.gamma)).flatten(2).mean(-1)


def _dice(logits: Tensor, target: Tensor) -> Tensor:
    """``O x M``."""
    share, target = logits.sigmoid().flatten(2), target.flatten(2)
    common = 2 * (share * target).sum(-1)
    return 1 - (common + 1) / (share.sum(-1) + target.sum(-1) + 1)


def _iou(logits: Tensor, target: Tensor) -> Tensor:
    """``O x M``."""
    predicted, true = (logits > 0).flatten(2), (target > 0).flatten(2)
    common, either = ((both.sum(-1).float()) for both in (predicted & true, predicted | true))
    return common / either.clamp(min=1.0)
