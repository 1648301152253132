"""What a training saves: the official trainer's checkpoint, and what going on needs besides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import UnreadableError
from ...io.output.atomic import new_folder
from ...io.text import read_json

CHECKPOINTS = "checkpoints"
CHECKPOINT, STATE, LORA = "checkpoint.pt", "state.json", "lora.pt"


@dataclass
class Past:
    """What was done so far.

    Attributes:
        steps: Number of steps.
        seconds: How long they took.
        losses: The sum of the losses of each tenth of all steps, by its number.
        held_out: J&F in percent on the held-out videos, by the number of steps after which.
    """

    steps: int = 0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, float] = field(default_factory=dict)


def save(
    out: Path,
    past: Past,
    epoch: int,
    weights: Mapping[str, Tensor],
    lora: Mapping[str, Tensor],
    optimiser: Mapping[str, Any],
) -> None:
    """Save a training; what was saved before stays until all of it is on the disk.

    Args:
        out: The folder of the results.
        past: What was done so far.
        epoch: Number of epochs that were begun.
        weights: The state dict of the model, any LoRA merged.
        lora: The tensors of the LoRA; empty without one.
        optimiser: The state of the optimiser.

    Raises:
        OSError: If it cannot be written.
    """
    best = max((jf for steps, jf in past.held_out.items() if int(steps)), default=None)
    content = {
        "model": dict(weights),
        "optimizer": dict(optimiser),
        "epoch": epoch,
        "loss": {},  # the official losses have no state
        "steps": {"train": past.steps, "val": 0},
        "time_elapsed": past.seconds,
        "best_meter_values": {} if best is None else {"J&F": best},
    }
    with new_folder(out / CHECKPOINTS, overwrite=True) as folder:
        torch.save(content, folder / CHECKPOINT)
        if lora:
            torch.save(dict(lora), folder / LORA)
        (folder / STATE).write_text(json.dumps(asdict(past)) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Saved:
    """A training that was saved.

    Attributes:
        past: What was done.
        weights: The state dict of the model, any LoRA merged.
        lora: The tensors of the LoRA; empty without one.
        optimiser: The state of the optimiser.
    """

    past: Past
    weights: Mapping[str, Tensor]
    lora: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]


def saved_in(out: Path) -> Saved | None:
    """Read what a training has saved.

    Args:
        out: The folder of the results.

    Returns:
        What was saved; None if it was stopped before.

    Raises:
        UnreadableError: If it is damaged.
    """
    folder = out / CHECKPOINTS
    if not folder.exists():
        return None
    content, lora = _loaded(folder / CHECKPOINT), folder / LORA
    try:
        past = _past(read_json(folder / STATE))
        weights, optimiser = content["model"], content["optimizer"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableError(
            f"{folder}: expected what a fine-tune has saved, found other files"
        ) from error
    return Saved(past, weights, _loaded(lora) if lora.exists() else {}, optimiser)


def _past(stated: Mapping[str, Any]) -> Past:
    numbers = (
        {str(key): float(value) for key, value in stated[name].items()}
        for name in ("losses", "held_out")
    )
    return Past(int(stated["steps"]), float(stated["seconds"]), *numbers)


def _loaded(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers do
        reason = " ".join(str(error).split())[:200]
        raise UnreadableError(f"{path}: is not what a fine-tune has saved: {reason}") from error
    return found
