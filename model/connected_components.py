"""Small connected components of masks: holes are filled, sprinkles are removed.

Pixels are connected with all eight neighbours, and a component may touch the border. This is what
``csrc/connected_components.cu`` of the official code finds, which needs a compiled extension and
CUDA. Here the components are always found on the CPU; the results return to the masks' device.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def small_components(mask: Tensor, max_area: float) -> Tensor:
    """Find the pixels of small components of a mask.

    Args:
        mask: Boolean, ``... x H x W``. Every ``H x W`` plane is treated separately.
        max_area: Number of pixels up to which a component is small.

    Returns:
        A boolean tensor like ``mask``: true where a pixel is set and its component is small.
    """
    from scipy import ndimage

    planes = mask.cpu().numpy().reshape(-1, *mask.shape[-2:])  # N, H, W
    # One call labels all planes: pixels are connected within a plane, never across planes.
    within_a_plane = np.zeros((3, 3, 3), dtype=bool)
    within_a_plane[1] = True
    labels, _ = ndimage.label(planes, within_a_plane)
    small = np.bincount(labels.ravel(), minlength=1) <= max_area
    small[0] = False  # label 0 marks the pixels that are not set
    return torch.from_numpy(small[labels]).view(mask.shape).to(mask.device)


def fill_holes(
    logits: Tensor, max_area: float, *, threshold: float = 0.0, value: float = 0.1
) -> Tensor:
    """Fill small holes of masks.

    The defaults are those of ``fill_holes_in_mask_scores`` of ``utils/misc.py``, which the official
    code applies to the masks of a video.

    Args:
        logits: Masks, ``... x H x W``.
        max_area: Number of pixels up to which a hole is filled.
        threshold: A hole is a connected component of logits that are not above this one.
        value: The logit that filled pixels get.

    Returns:
        Logits like ``logits``.
    """
    return torch.where(small_components(logits <= threshold, max_area), value, logits)


def clean_masks(
    logits: Tensor, max_hole_area: float, max_sprinkle_area: float, *, threshold: float = 0.0
) -> Tensor:
    """Fill small holes of masks and remove small sprinkles.

    Follows ``postprocess_masks`` of ``utils/transforms.py`` before it resizes. Sprinkles are those
    of ``logits`` as they are given, so a sprinkle that a filled hole connects to a larger part of
    the mask is still removed.

    Args:
        logits: Masks, ``... x H x W``.
        max_hole_area: Number of pixels up to which a hole is filled; 0 fills none.
        max_sprinkle_area: Number of pixels up to which a sprinkle, a connected component of logits
            above ``threshold``, is removed; 0 removes none.
        threshold: The logit above which a pixel belongs to the mask.

    Returns:
        Logits like ``logits``: 10 above the threshold in holes, 10 below it in sprinkles.
    """
    cleaned = logits
    if max_hole_area > 0:
        cleaned = fill_holes(logits, max_hole_area, threshold=threshold, value=threshold + 10.0)
    if max_sprinkle_area > 0:
        sprinkles = small_components(logits > threshold, max_sprinkle_area)
        cleaned = torch.where(sprinkles, threshold - 10.0, cleaned)
    return cleaned
