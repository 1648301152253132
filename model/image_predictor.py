"""Segment images with the methods, arguments and results of the official predictor.

.. code-block:: python

    predictor = SAM2ImagePredictor(build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", checkpoint))
    predictor.set_image(image)
    masks, ious, logits = predictor.predict(point_coords=[[500, 375]], point_labels=[1])

Follows ``sam2_image_predictor.py`` and ``utils/transforms.py``, at any image size of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .connected_components import clean_masks
from .keywords import divided, keywords_of, warn_of_unknown
from .mask_decoder import MaskPrediction
from .sam2 import SAM2, ImageFeatures
from .video_frames import MEAN, STD

Array = NDArray[np.float32]
Answer = tuple[Array, Array, Array]  # masks, expected IoUs, low-resolution logits

_CLAMP = 32.0  # of the low-resolution logits


class SAM2ImagePredictor:
    """Encodes one or several images, then answers any number of prompts for each.

    Args:
        sam_model: The model.
        mask_threshold: The logit above which a pixel belongs to a mask.
        max_hole_area: Holes of up to this many pixels of the low-resolution mask are filled.
        max_sprinkle_area: Specks of up to this many pixels of it are removed.
        **kwargs: Ignored, as in the official code, with a warning for each.
    """

    def __init__(
        self,
        sam_model: SAM2,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        **kwargs: Any,
    ) -> None:
        warn_of_unknown("SAM2ImagePredictor", kwargs, keywords_of(type(self)))
        self.model = sam_model
        self.mask_threshold = mask_threshold
        self.max_hole_area = max_hole_area
        self.max_sprinkle_area = max_sprinkle_area
        self.reset_predictor()

    @classmethod
    def from_pretrained(
        cls, model_id: str, *, image_size: int | None = None, **kwargs: Any
    ) -> SAM2ImagePredictor:
        """Build a predictor from a Hugging Face id, a folder or a file.

        Args:
            model_id: The id, such as ``facebook/sam2.1-hiera-tiny``, or a path.
            image_size: Side of the model's input in pixels, in place of the config's.
            **kwargs: Those of the constructor and of :func:`~sam21convert.model.build_sam2`.

        Returns:
            The predictor.
        """
        from . import build_sam2, build_sam2_hf

        own, of_builder = divided(cls, build_sam2, kwargs)
        return cls(build_sam2_hf(model_id, image_size=image_size, **of_builder), **own)

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.model.device

    def reset_predictor(self) -> None:
        """Forget the images."""
        self._features: ImageFeatures | None = None
        self._sizes: list[tuple[int, int]] = []
        self._is_batch = False

    def set_image(self, image: NDArray[Any] | Image.Image) -> None:
        """Encode an image, for :meth:`predict`.

        Args:
            image: A PIL image, or RGB as ``H x W x 3``: uint8, or floats from 0 to 1.

        Raises:
            ValueError: If it is neither.
        """
        self._encode([image])

    def set_image_batch(self, image_list: Sequence[NDArray[Any] | Image.Image]) -> None:
        """Encode several images, for :meth:`predict_batch`.

        Args:
            image_list: Images as for :meth:`set_image`, which may differ in size.

        Raises:
            ValueError: If there is none, or one is not an image.
        """
        if not image_list:
            raise ValueError("image_list: expected at least one image, found none")
        self._encode(image_list)
        self._is_batch = True

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
        """
        return self._predict(
            -1,
            (point_coords, point_labels, box, mask_input),
            multimask_output,
            return_logits,
            normalize_coords,
        )

    def predict_batch(
        self,
        point_coords_batch: Sequence[Any] | None = None,
        point_labels_batch: Sequence[Any] | None = None,
        box_batch: Sequence[Any] | None = None,
        mask_input_batch: Sequence[Any] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[Array], list[Array], list[Array]]:
        """Segment every image that was set; each list has one entry per image.

        Args:
            point_coords_batch: Points, as for :meth:`predict`.
            point_labels_batch: Labels of the points.
            box_batch: Boxes.
            mask_input_batch: Low-resolution logits.
            multimask_output: As for :meth:`predict`.
            return_logits: As for :meth:`predict`.
            normalize_coords: As for :meth:`predict`.

        Returns:
            Lists of masks, of expected IoUs and of low-resolution logits, as of :meth:`predict`.

        Raises:
            RuntimeError: If images were not set by :meth:`set_image_batch`.
            ValueError: If prompts do not fit each other.
        """
        if not self._is_batch:
            raise RuntimeError("no images: call set_image_batch before predict_batch")
        lists = (point_coords_batch, point_labels_batch, box_batch, mask_input_batch)
        answers = [
            self._predict(
                number,
                tuple(None if prompts is None else prompts[number] for prompts in lists),
                multimask_output,
                return_logits,
                normalize_coords,
            )
            for number in range(len(self._sizes))
        ]
        masks, ious, logits = (list(part) for part in zip(*answers, strict=True))
        return masks, ious, logits

    def get_image_embedding(self) -> Tensor:
        """Get the embeddings of the images that were set.

        Returns:
            ``B x C x S/16 x S/16`` for a model with an input of ``S x S`` pixels.

        Raises:
            RuntimeError: If no image is set.
        """
        return self._encoded().embedding

    @torch.no_grad()
    def _encode(self, images: Sequence[Any]) -> None:
        self.reset_predictor()
        units = [_as_unit(image) for image in images]
        pixels = torch.stack([_as_input(unit, self.model.image_size) for unit in units])
        self._features = self.model.encode_image(pixels.to(self.device))
        self._sizes = [(unit.shape[1], unit.shape[2]) for unit in units]

    def _encoded(self) -> ImageFeatures:
        if self._features is None:
            raise RuntimeError("no image: call set_image first")
        return self._features

    @torch.no_grad()
    def _predict(
        self,
        number: int,
        prompts: tuple[Any, ...],
        multimask_output: bool,
        return_logits: bool,
        in_pixels: bool,
    ) -> Answer:
        self._encoded()  # before the prompts: without an image there is no size to relate them to
        points, labels, boxes, mask_input = self._as_tensors(prompts, number, in_pixels)
        predicted = self._answer(points, labels, boxes, mask_input, multimask_output, number)
        masks = self._enlarged(predicted.logits, number)  # B, M, H, W
        if not return_logits:
            masks = masks > self.mask_threshold
        low_res = clamped(predicted.logits)
        return _as_array(masks), _as_array(predicted.iou), _as_array(low_res)

    def _answer(
        self,
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        mask_input: Tensor | None,
        multimask_output: bool,
        number: int = -1,
    ) -> MaskPrediction:
        """The model's answer to prompts in pixels of its input; -1 is the last image."""
        embedding, (fine, middle) = self._encoded()
        one = slice(number, number + 1 or None)  # keeps the axis of images
        features = ImageFeatures(embedding[one], (fine[one], middle[one]))
        return self.model.predict_masks(
            features, points, labels, boxes, mask_input, multimask_output
        )

    def _enlarged(self, logits: Tensor, number: int = -1) -> Tensor:
        """Masks of the model, ``B x M x h x w``, cleaned and at the size of the image."""
        cleaned = clean_masks(
            logits.float(),
            self.max_hole_area,
            self.max_sprinkle_area,
            threshold=self.mask_threshold,
        )
        return SAM2.resize_masks(cleaned, *self._sizes[number])

    def _as_inputs(self, points: Tensor, number: int = -1, *, in_pixels: bool) -> Tensor:
        """Points (x, y) of an image, ``... x 2``, in pixels of the model's input."""
        height, width = self._sizes[number]
        scale = torch.tensor([width, height], device=self.device) if in_pixels else 1
        return points.float() / scale * self.model.image_size

    def _as_tensors(
        self, prompts: tuple[Any, ...], number: int, in_pixels: bool
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """Prompts with a first axis, in pixels of the model's input."""
        points, labels, boxes, mask_input = (
            None if prompt is None else _moved(prompt, self.device) for prompt in prompts
        )
        if points is not None:
            points = self._as_inputs(points, number, in_pixels=in_pixels)
            points = points[None] if points.ndim == 2 else points  # B, N, 2
        if labels is not None:
            labels = labels[None] if labels.ndim == 1 else labels  # B, N
        if boxes is not None:
            corners = boxes.reshape(-1, 2, 2)
            boxes = self._as_inputs(corners, number, in_pixels=in_pixels).flatten(1)  # B, 4
        if mask_input is not None:
            mask_input = mask_input.float()
            mask_input = mask_input[None] if mask_input.ndim == 3 else mask_input  # B, 1, h, w
        return points, labels, boxes, mask_input


def clamped(logits: Tensor) -> Tensor:
    """Limit low-resolution logits, so that they can be given to the model again.

    Args:
        logits: Of any shape.

    Returns:
        Logits from -32 to 32.
    """
    return logits.clamp(-_CLAMP, _CLAMP)


def pixels_of(image: NDArray[Any] | Image.Image, image_size: int) -> Tensor:
    """Prepare an image for the model: resized in floats and normalised.

    Follows ``SAM2Transforms`` of ``utils/transforms.py``.

    Args:
        image: An image as for :meth:`SAM2ImagePredictor.set_image`.
        image_size: Side ``S`` of the model's input, in pixels.

    Returns:
        ``1 x 3 x S x S``, float32.

    Raises:
        ValueError: If ``image`` is not an image.
    """
    return _as_input(_as_unit(image), image_size)[None]  # 1, 3, S, S


def _moved(prompt: Any, device: torch.device) -> Tensor:
    """A prompt on a device, without the float64 of NumPy, which MPS does not have."""
    tensor = torch.as_tensor(prompt)
    return (tensor.float() if tensor.is_floating_point() else tensor).to(device)


def _as_input(unit: Tensor, side: int) -> Tensor:
    if unit.shape[1:] != (side, side):
        size = (side, side)
        unit = F.interpolate(unit[None], size=size, mode="bilinear", antialias=True)[0]  # 3, S, S
    return (unit - MEAN) / STD


def _as_array(part: Tensor) -> Array:
    array: Array = part.squeeze(0).float().cpu().numpy()
    return array


def _as_unit(image: Any) -> Tensor:
    """An image as ``3 x H x W`` floats from 0 to 1."""
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image: expected an array or a PIL image, found {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        found = " x ".join(map(str, image.shape))
        raise ValueError(f"image: expected height x width x 3, found {found}")
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))  # 3, H, W
    if image.dtype == np.uint8:
        return planes.float().div_(255)
    if image.dtype.kind != "f":
        raise ValueError(f"image: expected bytes or floats, found {image.dtype}")
    return planes.float()
