"""Small connected components of masks: holes that are filled, sprinkles that are removed.

Pixels are connected with all eight neighbours, and a component may touch the border. As
``csrc/connected_components.cu`` of the official code, which needs a compiled extension and CUDA;
here the components are found on the CPU, wherever the masks are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def small_components(mask: Tensor, max_area: float) -> Tensor:
    """Which pixels are set and belong to a component of at most ``max_area`` pixels.

    ``mask`` is boolean, ``... x H x W``, and so is the result; every ``H x W`` is for itself.
    """
    from scipy import ndimage

    planes = mask.cpu().numpy().reshape(-1, *mask.shape[-2:])  # N, H, W
    within_a_plane = np.zeros((3, 3, 3), dtype=bool)
    within_a_plane[1] = True
    labels, _ = ndimage.label(planes, within_a_plane)
    small = np.bincount(labels.ravel(), minlength=1) <= max_area
    small[0] = False  # what is not set
    return torch.from_numpy(small[labels]).view(mask.shape).to(mask.device)


def fill_holes(
    logits: Tensor, max_area: float, *, threshold: float = 0.0, value: float = 0.1
) -> Tensor:
    """Set holes of at most ``max_area`` pixels to ``value``, in logits of shape ``... x H x W``.

    A hole is a component of logits of at most ``threshold``. The defaults are those of
    ``fill_holes_in_mask_scores`` of ``utils/misc.py``, by which masks of a video are mended.
    """
    return torch.where(small_components(logits <= threshold, max_area), value, logits)


def clean_masks(
    logits: Tensor, max_hole_area: float, max_sprinkle_area: float, *, threshold: float = 0.0
) -> Tensor:
    """Fill holes, and clear sprinkles: components above ``threshold`` of at most so many pixels.

    They become 10 above and 10 below the threshold. Sprinkles are those of ``logits`` as they
    came, so one that was joined to more by filling a hole is cleared all the same. An area of 0
    leaves holes, or sprinkles, as they are. Logits are ``... x H x W``; as ``postprocess_masks``
    of ``utils/transforms.py`` before it resizes.
    """
    cleaned = logits
    if max_hole_area > 0:
        cleaned = fill_holes(logits, max_hole_area, threshold=threshold, value=threshold + 10.0)
    if max_sprinkle_area > 0:
        sprinkles = small_components(logits > threshold, max_sprinkle_area)
        cleaned = torch.where(sprinkles, threshold - 10.0, cleaned)
    return cleaned
