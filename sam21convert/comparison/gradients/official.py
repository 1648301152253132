"""The official training code as one side: its forward, its losses."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ... import packages
from ...prediction.backends.replaced import replaced
from ...prediction.backends.sam2_build import build_training
from ...training.batch import Batch
from ...training.losses import Losses, LossSettings
from ...training.points import Points
from .inputs import Example
from .step import Weight

_LOSSES = ("core_loss", "loss_mask", "loss_dice", "loss_iou", "loss_class")  # as in Losses


class OfficialTrainee:
    """``SAM2Train`` with the weights of a loaded side; all dropout is off.

    Prompts are not drawn: ``prepare_prompt_inputs`` and ``get_next_point``, which draw them, are
    replaced by functions that return those of the example. All else is the official code.

    Args:
        backend: The side, an :class:`~..backends.sam2.Official`, which shares its weights.
    """

    def __init__(self, backend: Any) -> None:
        kind, self._loss = packages.official_training()
        # Corrected frames count as prompted ones in the official fine-tuning.
        self.model = build_training(
            kind, backend.config, add_all_frames_to_correct_as_cond=True
        ).to(backend.model.device)
        self.model.load_state_dict(backend.model.state_dict(), assign=True)
        _without_dropout(self.model)

    @property
    def weights(self) -> Mapping[str, Weight]:
        """Its parameters."""
        return {name: Weight(parameter) for name, parameter in self.model.named_parameters()}

    def part(self, path: str) -> nn.Module:
        """A submodule, which has the same path as in the ground truth.

        Args:
            path: Its dotted path.

        Returns:
            The module.
        """
        found: nn.Module = self.model.get_submodule(path)
        return found

    def losses(self, example: Example, settings: LossSettings) -> Losses:
        """Run the official forward and the official losses.

        Args:
            example: The clip and the prompts.
            settings: Weights of the losses.

        Returns:
            The losses.
        """
        start, masks = example.prompts.start, example.batch.masks
        upcoming = [
            point for frame in _in_order(example) for point in example.prompts.points[frame]
        ]

        def next_point(**_: Any) -> tuple[Tensor, Tensor]:
            return upcoming.pop(0)

        with (
            replaced(sys.modules[type(self.model).__module__], get_next_point=next_point),
            replaced(
                self.model,
                prepare_prompt_inputs=lambda features, _: {**features, **_plan(example)},
                num_correction_pt_per_frame=start.corrections,
            ),
        ):
            outputs = self.model(_Input(example.batch))
        found = self._loss(
            {
                "loss_mask": settings.focal,
                "loss_dice": settings.dice,
                "loss_iou": settings.iou,
                "loss_class": settings.object_score,
            },
            focal_alpha=settings.alpha,
            focal_gamma=settings.gamma,
            supervise_all_iou=True,
            iou_use_l1_loss=True,
            pred_obj_scores=True,
        )(outputs, masks)
        return Losses(*(found[name] for name in _LOSSES))


class _Input:
    """A batch as the official forward reads one."""

    def __init__(self, batch: Batch) -> None:
        self.masks = batch.masks
        self.num_frames = count = len(batch.frames)
        self.flat_img_batch = batch.frames.transpose(0, 1).flatten(0, 1)  # V*T, 3, S, S
        self.flat_obj_to_img_idx = torch.stack([batch.clip * count + t for t in range(count)])


def _in_order(example: Example) -> list[int]:
    """Frames with corrections, in the order in which they are segmented."""
    first = example.prompts.start.first
    rest = (t for t in range(len(example.batch.frames)) if t not in first)
    return [frame for frame in (*first, *rest) if frame in example.prompts.points]


def _plan(example: Example) -> dict[str, Any]:
    """What the official ``prepare_prompt_inputs`` adds to the features."""
    start, masks = example.prompts.start, example.batch.masks
    true = {number: mask[:, None] for number, mask in enumerate(masks)}  # O, 1, S, S
    given = {frame: _named(points) for frame, points in start.points.items()}
    return {
        "gt_masks_per_frame": true,
        "num_frames": len(masks),
        "use_pt_input": bool(given),
        "init_cond_frames": [*start.first],
        "frames_not_in_init_cond": [t for t in range(len(masks)) if t not in start.first],
        "mask_inputs_per_frame": {t: true[t] for t in start.first if t not in given},
        "point_inputs_per_frame": given,
        "frames_to_add_correction_pt": [*start.corrected],
    }


def _named(points: Points) -> dict[str, Tensor]:
    return {"point_coords": points.points, "point_labels": points.labels}


def _without_dropout(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_p"):  # of attention, which drops by itself
            module.dropout_p = 0.0
