"""Make the ground truth compute something as another package does.

Each function here returns a context manager that replaces methods of the given :class:`Truth`, and
restores them when the context ends, also after an error. A copy of the model that is made within
the context is not independent of it: make copies before.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import packages
from ...model.inference_state import Session, TrackResult
from ...model.prompt_encoder import PADDING
from ...model.sam2 import ImageFeatures, Segmentation, given_logits
from ...model.video_frames import MEAN, STD
from ...prediction.backends.replaced import replaced
from ...prediction.draw import Pixels
from ..activations import Activations
from ..backends.truth import Truth
from ..inputs import Clip, Picture
from ..scenarios import VideoScenario

Emulation = AbstractContextManager[None]


def image_rounding(truth: Truth) -> Emulation:
    """Resize a picture as bytes, instead of in floating point.

    Args:
        truth: The ground truth to change.

    Returns:
        The context in which it is changed.
    """

    def pixels(picture: Picture) -> Tensor:
        return _resized_as_bytes([picture.pixels], truth.config.image_size)

    return replaced(truth, picture_pixels=pixels)


def video_resize(truth: Truth) -> Emulation:
    """Resize the frames of a video bilinearly, instead of bicubically.

    Args:
        truth: The ground truth to change.

    Returns:
        The context in which it is changed.
    """

    def pixels(clip: Clip) -> Tensor:
        return _resized_as_bytes(clip.frames, truth.config.image_size)

    return replaced(truth, clip_pixels=pixels)


def box_padding(truth: Truth) -> Emulation:
    """Leave out the padding point after a box.

    Args:
        truth: The ground truth to change.

    Returns:
        The context in which it is changed.
    """
    encoder = truth.model.sam_prompt_encoder
    encode = encoder.forward

    def unpadded(
        batch: int,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        sparse, dense = encode(batch, points, labels, boxes, masks)
        return sparse if boxes is None else sparse[:, :-1], dense  # batch, T, C

    return replaced(encoder, forward=unpadded)


def no_prompt(truth: Truth) -> Emulation:
    """Give the decoder a padding point where an image has no prompt.

    Args:
        truth: The ground truth to change.

    Returns:
        The context in which it is changed.
    """
    predict = truth.model.predict_masks

    def padded(
        features: ImageFeatures,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        *others: Any,
        **options: Any,
    ) -> Any:
        if points is None and boxes is None:
            embedding = features.embedding
            points = embedding.new_zeros(len(embedding), 1, 2)  # B, 1, 2
            labels = torch.full(points.shape[:2], PADDING, device=points.device)  # B, 1
        return predict(features, points, labels, boxes, *others, **options)

    return replaced(truth.model, predict_masks=padded)


def mask_pointer(truth: Truth) -> Emulation:
    """Take the object pointer of a mask prompt from the best of three candidates.

    Args:
        truth: The ground truth to change.

    Returns:
        The context in which it is changed.
    """
    model = truth.model
    use_mask = model.use_mask_as_output
    best_of_three = partial(model.predict_single_mask, multimask_output=True)

    def used(*args: Any) -> Segmentation:
        with replaced(model, predict_single_mask=best_of_three):
            return use_mask(*args)

    return replaced(model, use_mask_as_output=used)


def mask_memory(truth: Truth) -> Emulation:
    """Make a memory of a mask prompt as it is, without resizing it.

    Args:
        truth: The ground truth to change.

    Returns:
        The context in which it is changed.
    """
    model = truth.model
    remember = model.remember_prompt

    def remembered(state: Session, frame: int, obj_id: Hashable, seen: TrackResult) -> None:
        prompt = state.object(obj_id).masks.get(frame)
        if prompt is None:
            remember(state, frame, obj_id, seen)
            return
        logits = given_logits(prompt)
        with replaced(model, resize_masks=lambda *_: logits):
            remember(state, frame, obj_id, seen)

    return replaced(model, remember_prompt=remembered)


def correction(truth: Truth) -> Emulation:
    """Decode a correcting click without the mask that it corrects.

    Args:
        truth: The ground truth to change.

    Returns:
        The context in which it is changed.
    """
    return replaced(truth.model, previous_mask=lambda *_: None)


def early_memory(truth: Truth) -> Emulation:
    """Make a memory of every answer to a prompt at once, instead of when tracking starts.

    Args:
        truth: The ground truth to change.

    Returns:
        The context in which it is changed.
    """
    model = truth.model
    respond = model.respond

    def responded(state: Session, frame: int, obj_id: Hashable) -> Tensor:
        masks = respond(state, frame, obj_id)
        answer = state.object(obj_id).pending.find(frame)
        assert answer is not None
        model.remember_prompt(state, frame, obj_id, answer)
        return masks

    return replaced(model, respond=responded)


def holes(truth: Truth) -> Emulation:
    """Leave holes in masks.

    Args:
        truth: The ground truth to change.

    Returns:
        The context in which it is changed.
    """
    track = truth.track

    def tracked(
        clip: Clip, scenario: VideoScenario, agreed: Activations | None = None
    ) -> Activations:
        return track(clip, replace(scenario, fill_holes=False), agreed)

    return replaced(truth, track=tracked)


def _resized_as_bytes(frames: Sequence[Pixels], side: int) -> Tensor:
    """Pictures of one size, resized bilinearly and rounded to bytes, then normalised.

    torchvision resizes, as for the processors of transformers: it alone knows on which processors
    it computes with bytes throughout, and on which with floats that are rounded at the end.
    """
    resize = packages.member("torchvision.transforms.v2.functional", "resize")
    planes = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)  # T, 3, H, W
    square = resize(planes, [side, side])  # bilinear, antialiased
    pixels: Tensor = (square.float() / 255 - MEAN) / STD  # T, 3, S, S
    return pixels
