"""Learning rates and weight decay of the official fine-tuning, for ``torch.optim``.

Follows ``training/optimizer.py`` and ``sam2.1_hiera_b+_MOSE_finetune.yaml``. The image encoder
learns more slowly, and the early blocks of its trunk most slowly; all rates fall along a cosine.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_TRUNK = "image_encoder.trunk."


@dataclass(frozen=True)
class Rates:
    """How fast what is learned; the defaults are the official ones.

    Attributes:
        base: Learning rate at the start, of all but the image encoder.
        encoder: Learning rate at the start, of the image encoder.
        fall: By what both are divided until the end.
        layer_decay: Factor of the learning rate from each block of the trunk to the one before it.
        weight_decay: Of all weights but biases and those of layer normalisation.
        clip: Norm of all gradients together, at most.
    """

    base: float = 5e-6
    encoder: float = 3e-6
    fall: float = 10.0
    layer_decay: float = 0.9
    weight_decay: float = 0.1
    clip: float = 0.1

    @classmethod
    def of(cls, base: float) -> Rates:
        """Scale the official learning rates.

        Args:
            base: Learning rate at the start, of all but the image encoder.

        Returns:
            The same ratio of both, and all else as by default.
        """
        return cls(base=base, encoder=base * (cls.encoder / cls.base))


def parameter_groups(model: nn.Module, rates: Rates | None = None) -> list[dict[str, Any]]:
    """Group the weights that learn alike.

    Args:
        model: The model; what does not require a gradient is left out.
        rates: How fast what is learned.

    Returns:
        Groups for an optimiser of ``torch.optim``. Besides ``params`` and ``weight_decay`` each has
        ``start``, ``fall`` and ``share``, from which :func:`schedule` computes ``lr``.

    Raises:
        ValueError: If nothing is left to learn.
    """
    rates = rates or Rates()
    normalised = {
        id(weight)
        for module in model.modules()
        if isinstance(module, nn.LayerNorm)
        for weight in module.parameters()
    }
    blocks = 1 + max(
        (int(found[1]) for name, _ in model.named_parameters() if (found := _block(name))),
        default=-1,
    )
    groups: dict[tuple[float, float, float], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            base = rates.encoder if "image_encoder." in name else rates.base
            share = rates.layer_decay ** _steps_to_the_end(name, blocks)
            decays = "bias" not in name and id(weight) not in normalised
            key = (base, share, rates.weight_decay if decays else 0.0)
            groups.setdefault(key, []).append(weight)
    if not groups:
        raise ValueError("no weight of the model requires a gradient: there is nothing to learn")
    return [
        {
            "params": weights,
            "lr": base * share,
            "weight_decay": decay,
            "start": base,
            "fall": rates.fall,
            "share": share,
        }
        for (base, share, decay), weights in groups.items()
    ]


def _block(name: str) -> re.Match[str] | None:
    return re.search(rf"{re.escape(_TRUNK)}blocks\.(\d+)\.", name)


def _steps_to_the_end(name: str, blocks: int) -> int:
    """How often a weight's learning rate is decayed; position embeddings are spared."""
    if _TRUNK not in name or "pos_embed" in name:
        return 0
    found = _block(name)
    return blocks - int(found[1]) if found else blocks + 1  # the patches come before all blocks


def schedule(optimiser: torch.optim.Optimizer, where: float) -> None:
    """Set the learning rates for a step.

    Args:
        optimiser: An optimiser of groups from :func:`parameter_groups`.
        where: How much of the training is done, from 0 to 1.
    """
    for group in optimiser.param_groups:
        start, end = group["start"], group["start"] / group["fall"]
        rate = end + 0.5 * (start - end) * (1 + math.cos(math.pi * where))
        group["lr"] = rate * group["share"]
