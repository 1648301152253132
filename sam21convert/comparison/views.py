"""What a report shows of a scenario: the input, and the masks of both sides."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..prediction.draw import Mask
from ..prediction.prompts import Box, Point, Prompted
from .activations import Activations
from .findings import View
from .inputs import Clip, Picture
from .names import kind
from .scenarios import AddPrompt, ImageScenario, Prompt, VideoScenario

_FRAMES = 3  # of a video that are shown


def of_picture(
    picture: Picture, scenario: ImageScenario, left: Activations, right: Activations
) -> tuple[View, ...]:
    """The mask candidate that differs most between the two sides, or else the first.

    Args:
        picture: The input.
        scenario: The prompt.
        left: Activations of the left side, with ``masks``.
        right: Activations of the right side.

    Returns:
        One view in the picture's resolution; none when the two have different numbers of
        candidates.
    """
    if left["masks"].shape != right["masks"].shape:
        return ()
    height, width = picture.pixels.shape[:2]
    one, other = (_resized(activations["masks"], height, width)[0] for activations in (left, right))
    number = int((one != other).sum(dim=(1, 2)).argmax())
    title = f"candidate {number + 1} of {len(one)}" if len(one) > 1 else "mask"
    prompts = _in_picture(scenario.prompt, width, height)
    return (View(title, picture.pixels, prompts, _array(one[number]), _array(other[number])),)


def of_clip(
    clip: Clip, scenario: VideoScenario, left: Activations, right: Activations
) -> tuple[View, ...]:
    """The first, the middle and the last answer of a video, all objects together.

    Args:
        clip: The input.
        scenario: The steps.
        left: Activations of the left side, with masks such as ``frame3.masks``.
        right: Activations of the right side.

    Returns:
        At most three views; frames on which the sides have different numbers of objects are left
        out.
    """
    names = [name for name in left if kind(name) == "masks" and name in right]
    chosen = sorted({0, len(names) // 2, len(names) - 1}) if names else []
    prompted = {s.frame: s.prompt for s in scenario.steps if isinstance(s, AddPrompt)}
    views = []
    for name in (names[number] for number in chosen[:_FRAMES]):
        frame = int(name.removeprefix("frame").partition(".")[0])
        if left[name].shape != right[name].shape:
            continue
        one, other = ((activations[name] > 0).any(dim=0)[0] for activations in (left, right))
        prompt = prompted.get(frame)
        prompts = None if prompt is None else _in_picture(prompt, clip.width, clip.height)
        views.append(
            View(f"frame {frame}", clip.frames[frame], prompts, _array(one), _array(other))
        )
    return tuple(views)


def _resized(logits: Tensor, height: int, width: int) -> Tensor:
    size = (height, width)
    return F.interpolate(logits.float(), size=size, mode="bilinear") > 0  # 1, M, H, W


def _array(mask: Tensor) -> Mask:
    return np.asarray(mask.to(torch.bool).cpu().numpy())


def _in_picture(prompt: Prompt, width: int, height: int) -> Prompted | None:
    points = [
        Point(x * width, y * height, label)
        for (x, y), label in zip(prompt.points, prompt.labels, strict=True)
    ]
    box = None
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box
        box = Box(x0 * width, y0 * height, x1 * width, y1 * height)
    return Prompted(points, box) if points or box else None
