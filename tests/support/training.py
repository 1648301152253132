"""The official training code, to compare with, and clips for both sides.

The package sam2 installs it as ``training``, but not what that imports besides.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import sam2
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from training.loss_fns import MultiStepMultiMasksAndIous
from training.model.sam2 import SAM2Train
from training.optimizer import construct_optimizer
from training.utils.train_utils import register_omegaconf_resolvers

from sam21convert.model import SAM2, ModelConfig
from sam21convert.prediction.backends.sam2_build import build_training
from sam21convert.training.batch import Batch
from sam21convert.training.losses import LossSettings
from sam21convert.training.prompts import PromptSettings

from .official import randomise


def official_model(config: ModelConfig, prompts: PromptSettings, seed: int, **options: Any) -> Any:
    """The official model for training, with random weights, without dropout.

    Args:
        config: Its config.
        prompts: How prompts are simulated.
        seed: Of the weights.
        **options: Further arguments of ``build_training``.

    Returns:
        The official model.
    """
    model = build_training(
        SAM2Train,
        config,
        prob_to_use_pt_input_for_train=prompts.points,
        prob_to_use_box_input_for_train=prompts.box,
        prob_to_sample_from_gt_for_train=prompts.from_truth,
        num_frames_to_correct_for_train=prompts.corrected_frames,
        rand_frames_to_correct_for_train=True,
        add_all_frames_to_correct_as_cond=True,
        num_init_cond_frames_for_train=prompts.first_frames,
        rand_init_cond_frames_for_train=True,
        num_correction_pt_per_frame=prompts.corrections,
        **options,
    )
    randomise(model, seed)
    with torch.no_grad():
        # Else a random model sees no objects, and all its masks are the same.
        model.sam_mask_decoder.pred_obj_score_head.layers[2].bias += 3
    return model


def without_dropout(model: Any) -> Any:
    """Turn the dropout of an official model off.

    Args:
        model: The model.

    Returns:
        The same model.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_p"):
            module.dropout_p = 0.0
    return model


def same_model(official: Any, config: ModelConfig) -> SAM2:
    """Our model with the weights of an official one.

    Args:
        official: The official model.
        config: Its config.

    Returns:
        Our model, in training mode.
    """
    model = SAM2(config)
    model.load_state_dict(official.state_dict())
    return model.train()


@cache
def official_optim() -> Any:
    """What the official config of a fine-tuning says of the optimiser."""
    register_omegaconf_resolvers()
    folder = Path(sam2.__file__).parent / "configs" / "sam2.1_training"
    return OmegaConf.load(folder / "sam2.1_hiera_b+_MOSE_finetune.yaml").trainer.optim


def official_optimiser(model: nn.Module) -> Any:
    """The official optimiser with its schedules, for an official model.

    Args:
        model: The model.

    Returns:
        The official ``Optimizer``.
    """
    optim = official_optim()
    return construct_optimizer(model, optim.optimizer, optim.options, optim.param_group_modifiers)


class OfficialBatch:
    """A batch as the official model reads one."""

    def __init__(self, batch: Batch) -> None:
        frames = len(batch.frames)
        self.num_frames = frames
        self.masks = batch.masks
        self.flat_img_batch = batch.frames.transpose(0, 1).flatten(0, 1)
        self.flat_obj_to_img_idx = torch.stack([batch.clip * frames + t for t in range(frames)])


def official_losses(outputs: Any, masks: Tensor, settings: LossSettings) -> list[Tensor]:
    """The official losses, in the order of :class:`Losses`.

    Args:
        outputs: What the official model returned.
        masks: The true masks.
        settings: Their weights.

    Returns:
        The losses.
    """
    names = ("loss_mask", "loss_dice", "loss_iou", "loss_class")
    weights = (settings.focal, settings.dice, settings.iou, settings.object_score)
    found = MultiStepMultiMasksAndIous(
        weight_dict=dict(zip(names, weights, strict=True)),
        focal_alpha=settings.alpha,
        focal_gamma=settings.gamma,
        supervise_all_iou=True,
        iou_use_l1_loss=True,
        pred_obj_scores=True,
        focal_gamma_obj_score=0.0,
        focal_alpha_obj_score=-1.0,
    )(outputs, masks)
    return [found[name] for name in ("core_loss", *names)]


def made_batch(size: int, frames: int, clips: int, objects: int, seed: int = 0) -> Batch:
    """Noise as frames, with rectangles as objects; the first object is not on the third frame.

    Args:
        size: Side of a frame in pixels.
        frames: Frames of each clip.
        clips: Number of clips.
        objects: Number of objects of all clips.
        seed: Decides all.

    Returns:
        The batch.
    """
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(frames, objects, size, size, dtype=torch.bool)
    for mask in masks.flatten(0, 1):
        x, y = torch.randint(0, size // 2, (2,), generator=generator).tolist()
        width, height = torch.randint(size // 8, size // 2, (2,), generator=generator).tolist()
        mask[y : y + height, x : x + width] = True
    masks[2:3, 0] = False
    clip = torch.arange(objects) * clips // objects
    return Batch(torch.randn(frames, clips, 3, size, size, generator=generator), masks, clip)
