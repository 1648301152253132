"""Segment images by an export, with the methods, arguments and results of the official predictor.

.. code-block:: python

    predictor = OnnxImagePredictor(load("export"))
    predictor.set_image(image)
    masks, ious, logits = predictor.predict(point_coords=[[500, 375]], point_labels=[1])

The counterpart of :mod:`~sam21convert.model.image_predictor`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .masks import Decoded, clamped, select
from .model import Features, OnnxModel
from .pictures import pixels_of
from .prompts import Prompts
from .resize import Floats, resize

Answer = tuple[Floats, Floats, Floats]  # masks, expected IoUs, low-resolution logits


class OnnxImagePredictor:
    """Encodes an image, then answers any number of prompts for it.

    Args:
        model: The export. Only the files for videos let it start from a mask, answer with a single
            mask, or do without points and boxes.
    """

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        self.reset_predictor()

    def reset_predictor(self) -> None:
        """Forget the image."""
        self._image: tuple[Features, tuple[int, int]] | None = None

    def set_image(self, image: Any) -> None:
        """Encode an image, for :meth:`predict`.

        Args:
            image: RGB as ``H x W x 3``, uint8 or floats from 0 to 1, or a PIL image.

        Raises:
            ValueError: If it is neither.
        """
        self.reset_predictor()
        pixels = pixels_of(image, self.model.image_size)
        width, height = np.shape(image)[1::-1] if hasattr(image, "shape") else image.size
        self._image = self.model.encode(pixels), (height, width)

    def predict(
        self,
        point_coords: Any = None,
        point_labels: Any = None,
        box: Any = None,
        mask_input: Any = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Answer:
        """Segment the image that was set, for one prompt or for ``B`` prompts.

        A prompt may consist of points, a box and a mask.

        Args:
            point_coords: Points (x, y), ``N x 2`` or ``B x N x 2``, in pixels of the image.
            point_labels: ``N`` or ``B x N``: 1 for a point on the object, 0 for one off it.
            box: ``4`` or ``B x 4``: x0, y0, x1, y1, in pixels of the image.
            mask_input: Low-resolution logits of an earlier answer, ``1 x h x w`` or
                ``B x 1 x h x w``; one mask may go with all prompts.
            multimask_output: Whether to return three candidate masks instead of one.
            return_logits: Whether to return masks as logits.
            normalize_coords: False if points and boxes are given as fractions of the image's width
                and height, 0 to 1, instead of pixels.

        Returns:
            Masks (``M x H x W``: 0 and 1, or logits) at the size of the image, the expected IoU of
            each (``M``), and logits at a quarter of the model's resolution (``M x h x w``). ``M``
            is 3 with ``multimask_output``, else 1. With more than one prompt, ``B`` comes first in
            every shape.

        Raises:
            RuntimeError: If no image is set.
            ValueError: If prompts do not fit each other.
            UsageError: If the prompt needs files that the export does not have.
        """
        if self._image is None:
            raise RuntimeError("no image: call set_image first")
        features, size = self._image
        prompts = self._prompts(point_coords, point_labels, box, mask_input, normalize_coords)
        prompts.check(self.model.image_size)
        found = answer(self.model, features, prompts, multimask=multimask_output)
        masks = resize(found.logits, *size)  # B, M, H, W
        if not return_logits:
            masks = (masks > 0).astype(np.float32)
        return _first(masks), _first(found.iou), _first(clamped(found.logits))

    def _prompts(self, points: Any, labels: Any, box: Any, mask: Any, in_pixels: bool) -> Prompts:
        """Prompts in pixels of the model's input, with an axis of prompts."""
        if points is not None:
            points = self._in_input(points, in_pixels)
            points = points[None] if points.ndim == 2 else points  # B, N, 2
        if labels is not None:
            labels = np.asarray(labels, np.int64)
            labels = labels[None] if labels.ndim == 1 else labels  # B, N
        if box is not None:
            box = self._in_input(np.reshape(box, (-1, 2, 2)), in_pixels)  # B, 2, 2
        if mask is not None:
            mask = np.asarray(mask, np.float32)
            mask = mask[None] if mask.ndim == 3 else mask  # B, 1, h, w
        return Prompts(points, labels, box, mask)

    def _in_input(self, points: Any, in_pixels: bool) -> Floats:
        """Points (x, y) of the image, ``... x 2``, in pixels of the model's input."""
        assert self._image is not None
        height, width = self._image[1]
        scale = np.array([width, height], np.float32) if in_pixels else np.float32(1)
        placed: Floats = np.asarray(points, np.float32) / scale * np.float32(self.model.image_size)
        return placed


def answer(model: OnnxModel, features: Features, prompts: Prompts, *, multimask: bool) -> Decoded:
    """Answer prompts, by the graph without masks if it can.

    Args:
        model: The export.
        features: Of one image.
        prompts: ``B`` prompts.
        multimask: Whether three candidates are asked for instead of one mask.

    Returns:
        ``M`` = 3 or 1 masks for each prompt.

    Raises:
        UsageError: If the prompts need files that the export does not have.
    """
    if multimask and prompts.sparse and prompts.mask is None:
        return model.candidates(features, *prompts.flat())
    which = "multimask_output=False" if prompts.mask is None else "mask_input"
    model.require_video(which if prompts.sparse else "a prompt without points and boxes")
    found = model.decode(features, *prompts.tokens(), prompts.mask)
    return select(found, model.config, multimask=multimask)


def _first(part: Floats) -> Floats:
    return part[0] if len(part) == 1 else part
