"""One step of optimisation, as in the official training.

Follows ``train_epoch`` and ``_run_step`` of ``training/trainer.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from ..model.sam2 import SAM2
from .batch import Batch
from .follow import follow
from .losses import Losses, LossSettings, losses
from .optimiser import Rates, schedule
from .prompts import Prompter


class DivergedError(ArithmeticError):
    """The loss is not a finite number. The weights are as they were before the step.

    Args:
        loss: The loss.
    """

    def __init__(self, loss: float) -> None:
        super().__init__(f"the loss is {loss}")
        self.loss = loss


def take_step(
    model: SAM2,
    batch: Batch,
    prompter: Prompter,
    optimiser: torch.optim.Optimizer,
    where: float,
    rates: Rates | None = None,
    settings: LossSettings | None = None,
    *,
    objects: float | None = None,
    autocast: AbstractContextManager[object] | None = None,
    average: Callable[[], None] | None = None,
) -> Losses:
    """Change the weights so that the losses of a batch become less.

    Args:
        model: The model, in training mode.
        batch: The clips, on its device.
        prompter: Where prompts come from.
        optimiser: Has groups from :func:`parameter_groups`.
        where: How much of the training is done, from 0 to 1.
        rates: Those of the groups; the norm of the gradients is limited to their ``clip``.
        settings: Weights and shapes of the losses.
        objects: What losses are divided by, as for :func:`losses`.
        autocast: In which types to compute; the model's own by default.
        average: Is called between gradients and change: averages gradients over processes.

    Returns:
        The losses before the change.

    Raises:
        DivergedError: If the loss is not a finite number.
    """
    schedule(optimiser, where)
    optimiser.zero_grad()
    with torch.enable_grad():
        with autocast or nullcontext():
            found = losses(follow(model, batch, prompter), batch.masks, settings, objects)
        loss = found.total.item()
        if not math.isfinite(loss):
            raise DivergedError(loss)
        found.total.backward()  # type: ignore[no-untyped-call]
    if average is not None:
        average()
    nn.utils.clip_grad_norm_(model.parameters(), (rates or Rates()).clip)
    optimiser.step()
    return Losses(*(one.detach() for one in found))
