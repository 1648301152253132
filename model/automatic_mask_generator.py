"""Find all masks of an image, with the arguments and results of the official generator.

.. code-block:: python

    generator = SAM2AutomaticMaskGenerator(build_sam2(config, checkpoint))
    for found in generator.generate(image):
        print(found["bbox"], found["area"])

Follows ``automatic_mask_generator.py``: a grid of points is asked for masks, and of these the
sure, stable and different ones remain. Masks are scored before they are enlarged where that is
possible, and enlarged a few at a time, so that no more than those few are ever in memory as logits
of the image's size. None of this changes a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from . import run_lengths
from .boxes import Crop, boxes_of, crops_of, cut_off, suppress_duplicates
from .image_predictor import SAM2ImagePredictor, clamped
from .keywords import divided, keywords_of, warn_of_unknown
from .run_lengths import RunLengths
from .sam2 import SAM2

Points = NDArray[np.float64]

_AT_ONCE = 2**21  # logits that are enlarged at once: they stay in a processor's cache
_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


class _Found(NamedTuple):
    """Masks, as tensors with a row for each, and the masks themselves."""

    ious: Tensor
    stability: Tensor
    points: Tensor  # x, y
    boxes: Tensor  # x0, y0, x1, y1
    crops: list[Crop]
    masks: list[RunLengths]

    def of(self, rows: Tensor) -> _Found:
        """Some of them."""
        return _Found(
            self.ious[rows],
            self.stability[rows],
            self.points[rows],
            self.boxes[rows],
            [self.crops[number] for number in rows.tolist()],
            [self.masks[number] for number in rows.tolist()],
        )

    @classmethod
    def all_of(cls, parts: Sequence[_Found]) -> _Found:
        """Those of several."""
        ious, stability, points, boxes, crops, masks = zip(*parts, strict=True)
        return cls(
            torch.cat(ious),
            torch.cat(stability),
            torch.cat(points),
            torch.cat(boxes),
            [*chain(*crops)],
            [*chain(*masks)],
        )


class SAM2AutomaticMaskGenerator:
    """Finds the masks of everything in an image.

    Args:
        model: The model.
        points_per_side: The image is asked at this many points per side, so at as many squared.
        points_per_batch: How many points the model is asked at once.
        pred_iou_thresh: Masks are kept if the model expects an IoU above this of them; 0 keeps all.
        stability_score_thresh: Masks are kept if their stability is at least this; 0 keeps all.
        stability_score_offset: The stability of a mask is the IoU of the masks that a threshold
            this much higher and this much lower gives.
        mask_threshold: The logit above which a pixel belongs to a mask.
        box_nms_thresh: Of masks of one crop whose boxes have an IoU above this, one is kept.
        crop_n_layers: Layers of crops that are looked at besides the whole image; layer ``n`` has
            ``2**n`` of them per side.
        crop_nms_thresh: As ``box_nms_thresh``, for masks of different crops; those of smaller crops
            are preferred.
        crop_overlap_ratio: How much crops overlap, as a share of the shorter side.
        crop_n_points_downscale_factor: Layer ``n`` has ``points_per_side`` divided by this to the
            power of ``n``.
        point_grids: The points themselves, in place of ``points_per_side``: for each layer
            ``N x 2`` from 0 to 1.
        min_mask_region_area: Holes and specks of up to this many pixels of the low-resolution mask
            are filled and removed.
        output_mode: What ``segmentation`` is: an array (``binary_mask``), run lengths as a list
            (``uncompressed_rle``) or as COCO's text (``coco_rle``).
        use_m2m: Whether each mask is given to the model once more, to be refined.
        multimask_output: Whether a point gives three masks instead of one.
        **kwargs: Ignored, as in the official code, with a warning for each.

    Raises:
        ValueError: If not exactly one of ``points_per_side`` and ``point_grids`` is given, or
            ``output_mode`` is unknown.
    """

    def __init__(
        self,
        model: SAM2,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        mask_threshold: float = 0.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[Points] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
        **kwargs: Any,
    ) -> None:
        warn_of_unknown(
            "SAM2AutomaticMaskGenerator", kwargs, keywords_of(SAM2AutomaticMaskGenerator)
        )
        if output_mode not in _MODES:
            raise ValueError(f"output_mode: expected {', '.join(_MODES)}, found {output_mode!r}")
        if (points_per_side is None) == (point_grids is None):
            raise ValueError("expected either points_per_side or point_grids; give one, not both")
        if point_grids is None:
            assert points_per_side is not None
            shrink = crop_n_points_downscale_factor
            sides = [int(points_per_side / shrink**n) for n in range(crop_n_layers + 1)]
            point_grids = list(map(_grid, sides))
        self.point_grids = point_grids
        self.predictor = SAM2ImagePredictor(
            model, max_hole_area=min_mask_region_area, max_sprinkle_area=min_mask_region_area
        )
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.mask_threshold = mask_threshold
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode
        self.use_m2m = use_m2m
        self.multimask_output = multimask_output

    @classmethod
    def from_pretrained(
        cls, model_id: str, *, image_size: int | None = None, **kwargs: Any
    ) -> SAM2AutomaticMaskGenerator:
        """Build a generator from a Hugging Face id, a folder or a file.

        Args:
            model_id: The id, such as ``facebook/sam2.1-hiera-tiny``, or a path.
            image_size: Side of the model's input in pixels, in place of the config's.
            **kwargs: Those of the constructor and of :func:`~sam21convert.model.build_sam2`.

        Returns:
            The generator.
        """
        from . import build_sam2, build_sam2_hf

        own, of_builder = divided(cls, build_sam2, kwargs)
        return cls(build_sam2_hf(model_id, image_size=image_size, **of_builder), **own)

    @torch.no_grad()
    def generate(
        self, image: NDArray[Any], *, advance: Callable[[int], object] = lambda count: None
    ) -> list[dict[str, Any]]:
        """Find the masks of an image.

        Args:
            image: RGB as ``H x W x 3``: uint8, or floats from 0 to 1.
            advance: Called with the number of points each time that some were asked. The official
                method has no such argument.

        Returns:
            For each mask a dict: ``segmentation`` (see ``output_mode``), ``area`` in pixels,
            ``bbox`` (x, y, width, height), ``predicted_iou``, ``stability_score``,
            ``point_coords`` (the point that was asked, ``[[x, y]]``) and ``crop_box`` (the crop
            that was looked at, as ``bbox``). The boxes end on the last pixel, not after it.

        Raises:
            ValueError: If ``image`` is not an image.
        """
        crops = self._crops_of(image)
        found = _Found.all_of([self._look_at(image, crop, advance) for crop in crops])
        if len(crops) > 1:
            preferred = torch.tensor([1 / crop.area for crop in found.crops])
            boxes = found.boxes.float()
            found = found.of(suppress_duplicates(boxes, preferred, self.crop_nms_thresh))
        return list(self._described(found))

    def count_points(self, image: NDArray[Any]) -> int:
        """Count the points that :meth:`generate` asks. The official class has no such method.

        Args:
            image: As for :meth:`generate`.

        Returns:
            Their number, in all crops together.
        """
        return sum(len(self.point_grids[crop.layer]) for crop in self._crops_of(image))

    def refine_with_m2m(
        self, points: Tensor, point_labels: Tensor, low_res_masks: Tensor, points_per_batch: int
    ) -> tuple[Tensor, Tensor]:
        """Give masks to the model once more, each with its point.

        Args:
            points: ``N x 2``, in pixels of the model's input.
            point_labels: ``N``.
            low_res_masks: ``N x h x w``, logits.
            points_per_batch: How many are given at once.

        Returns:
            The refined masks as logits of the image's size, ``N x 1 x H x W``, and the IoU expected
            of each, ``N x 1``.
        """
        logits, ious = self._refined(points, point_labels, low_res_masks, points_per_batch)
        return self.predictor._enlarged(logits[:, None]), ious[:, None]

    def _crops_of(self, image: NDArray[Any]) -> list[Crop]:
        height, width = image.shape[:2]
        return crops_of(height, width, self.crop_n_layers, self.crop_overlap_ratio)

    def _look_at(self, image: NDArray[Any], crop: Crop, advance: Callable[[int], object]) -> _Found:
        """The masks of one crop, in pixels of the image."""
        part = image[crop.y0 : crop.y1, crop.x0 : crop.x1]
        self.predictor.set_image(part)
        grid = self.point_grids[crop.layer] * (part.shape[1], part.shape[0])
        points = torch.as_tensor(grid, dtype=torch.float32, device=self.predictor.device)
        size = (image.shape[0], image.shape[1])
        parts = []
        for some in torch.split(points, self.points_per_batch):
            parts.append(self._asked(some, crop, size))
            advance(len(some))
        found = _Found.all_of(parts)
        self.predictor.reset_predictor()
        return found.of(suppress_duplicates(found.boxes.float(), found.ious, self.box_nms_thresh))

    def _asked(self, points: Tensor, crop: Crop, size: tuple[int, int]) -> _Found:
        """The masks that a batch of points gives."""
        inputs = self.predictor._as_inputs(points, in_pixels=True)
        labels = torch.ones(len(points), dtype=torch.int32, device=points.device)
        predicted = self.predictor._answer(
            inputs[:, None], labels[:, None], None, None, self.multimask_output
        )
        count = predicted.logits.shape[1]
        logits, ious = predicted.logits.flatten(0, 1), predicted.iou.flatten()
        points = points.repeat_interleave(count, dim=0)
        if self.use_m2m:
            inputs, labels = (part.repeat_interleave(count, dim=0) for part in (inputs, labels))
            logits, ious = self._refined(inputs, labels, clamped(logits), self.points_per_batch)
        if self.pred_iou_thresh > 0:
            sure = ious > self.pred_iou_thresh
            logits, ious, points = logits[sure], ious[sure], points[sure]
        high, wide = crop.y1 - crop.y0, crop.x1 - crop.x0
        some = max(1, _AT_ONCE // (high * wide))
        parts = zip(*(torch.split(part, some) for part in (logits, ious, points)), strict=True)
        return _Found.all_of([self._judged(*part, crop=crop, size=size) for part in parts])

    def _judged(
        self, logits: Tensor, ious: Tensor, points: Tensor, *, crop: Crop, size: tuple[int, int]
    ) -> _Found:
        """The stable ones of a few masks, at the size of the image."""
        large = self.predictor._enlarged(logits[:, None])[:, 0]  # N, H, W
        offset = self.stability_score_offset
        least, most = (
            (large > threshold).sum(dim=(-2, -1))
            for threshold in (self.mask_threshold + offset, self.mask_threshold - offset)
        )
        stability = least / most
        shift = torch.tensor([crop.x0, crop.y0], device=points.device)
        masks = large > self.mask_threshold
        boxes = boxes_of(masks) + shift.repeat(2)
        kept = ~cut_off(boxes, crop, *size)
        if self.stability_score_thresh > 0:
            kept &= stability >= self.stability_score_thresh
        x0, y0, x1, y1, _ = crop
        masks = F.pad(masks[kept], (x0, size[1] - x1, y0, size[0] - y1))
        runs = [run_lengths.encode(mask) for mask in masks.cpu().numpy()]
        rows = (ious[kept], stability[kept], points[kept] + shift, boxes[kept])
        return _Found(*rows, [crop] * len(runs), runs)

    def _refined(
        self, points: Tensor, labels: Tensor, masks: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        batches = zip(*(torch.split(part, count) for part in (points, labels, masks)), strict=True)
        answers = [
            self.predictor._answer(some[:, None], theirs[:, None], None, given[:, None], False)
            for some, theirs, given in batches
        ]
        return (
            torch.cat([answer.logits[:, 0] for answer in answers]),
            torch.cat([answer.iou[:, 0] for answer in answers]),
        )

    def _described(self, found: _Found) -> Iterator[dict[str, Any]]:
        forms = {"binary_mask": run_lengths.decode, "coco_rle": run_lengths.as_text}
        form = forms.get(self.output_mode, dict)
        rows = zip(*(part.tolist() for part in found[:4]), *found[4:], strict=True)
        for iou, stability, point, (x0, y0, x1, y1), crop, mask in rows:
            yield {
                "segmentation": form(mask),
                "area": run_lengths.area(mask),
                "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
                "predicted_iou": iou,
                "point_coords": [point],
                "stability_score": stability,
                "crop_box": [*map(float, (crop.x0, crop.y0, crop.x1 - crop.x0, crop.y1 - crop.y0))],
            }


def _grid(side: int) -> Points:
    """Points in the middle of ``side x side`` equal parts, row by row, from 0 to 1."""
    half = 1 / (2 * side)
    places = np.linspace(half, 1 - half, side)
    return np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
