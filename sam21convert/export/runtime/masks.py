"""What is done to masks after the decoder: one is chosen, and holes are filled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...model.config import ModelConfig
from ...packages import require
from .resize import Floats

NO_OBJECT = np.float32(-1024)  # the logit everywhere in the mask of an object that is not there
_CLAMP = 32.0  # largest magnitude of a logit that is given back to the decoder
_FILLED = np.float32(0.1)  # the logit that filled pixels get


class Decoded(NamedTuple):
    """Answers of the decoder to ``B`` prompts, with ``M`` masks each.

    Attributes:
        iou: Expected IoU of each mask, ``B x M``.
        logits: ``B x M x S/4 x S/4``.
        object_score: A logit, ``B x 1``: above 0 the object is there.
        pointers: Object pointers, ``B x M x C``.
    """

    iou: Floats
    logits: Floats
    object_score: Floats
    pointers: Floats


def select(decoded: Decoded, config: ModelConfig, *, multimask: bool) -> Decoded:
    """Pick the three candidates, or the single mask.

    An unstable single mask is replaced by the candidate with the highest expected IoU; its pointer
    is kept, as in ``MaskDecoder.select``.

    Args:
        decoded: All four masks, the single one first.
        config: The architecture, for its options of stability.
        multimask: Whether to pick the candidates.

    Returns:
        The answers with ``M`` = 3 or 1.
    """
    wanted = slice(1, None) if multimask else slice(0, 1)
    iou, logits = decoded.iou[:, wanted], decoded.logits[:, wanted]
    if not multimask and config.dynamic_multimask_via_stability:
        row, best = np.arange(len(iou)), 1 + decoded.iou[:, 1:].argmax(axis=1)  # B
        keep = is_stable(
            logits,
            config.dynamic_multimask_stability_delta,
            config.dynamic_multimask_stability_thresh,
        )  # B, 1
        logits = np.where(keep[..., None, None], logits, decoded.logits[row, best][:, None])
        iou = np.where(keep, iou, decoded.iou[row, best][:, None])
    return Decoded(iou, logits, decoded.object_score, decoded.pointers[:, wanted])


def is_stable(logits: Floats, delta: float, threshold: float) -> NDArray[np.bool_]:
    """Tell whether masks hardly change with the threshold of their logits.

    Args:
        logits: ``B x M x H x W``.
        delta: Distance from 0 of the two thresholds at which a mask is compared with itself.
        threshold: IoU of the two from which on a mask is stable. An empty mask is.

    Returns:
        ``B x M``.
    """
    # Compared in float32, as torch compares a tensor with a number.
    smaller = (logits > np.float32(delta)).sum(axis=(2, 3)).astype(np.float32)
    larger = (logits > np.float32(-delta)).sum(axis=(2, 3)).astype(np.float32)
    share = np.where(larger > 0, smaller / np.maximum(larger, np.float32(1)), np.float32(1))
    stable: NDArray[np.bool_] = share >= np.float32(threshold)
    return stable


def clamped(logits: Floats) -> Floats:
    """Limit low-resolution logits, so that they can be given to the decoder again.

    Args:
        logits: Of any shape.

    Returns:
        Logits from -32 to 32.
    """
    return np.clip(logits, np.float32(-_CLAMP), np.float32(_CLAMP))


def fill_holes(logits: Floats, max_area: int) -> Floats:
    """Fill small holes of masks, as :mod:`~sam21convert.model.connected_components` does.

    Args:
        logits: Masks, ``... x H x W``.
        max_area: Number of pixels up to which a hole is filled: logits that are not above 0 and
            are connected, also over corners.

    Returns:
        Logits like ``logits``, 0.1 in what was filled.

    Raises:
        MissingPackageError: If scipy is not installed.
    """
    require("onnx", "filling holes", "turn it off with fill_hole_area=0", packages=("scipy",))
    from scipy import ndimage

    planes = (logits <= 0).reshape(-1, *logits.shape[-2:])  # N, H, W
    # One call labels all planes: pixels are connected within a plane, never across planes.
    within_a_plane = np.zeros((3, 3, 3), dtype=bool)
    within_a_plane[1] = True
    labels, _ = ndimage.label(planes, within_a_plane)
    small = np.bincount(labels.ravel(), minlength=1) <= max_area
    small[0] = False  # label 0 marks the pixels of the masks
    return np.where(small[labels].reshape(logits.shape), _FILLED, logits)
