"""Duplicates are found as torchvision finds them, and boxes and crops as the official code does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from sam2.utils import amg
from torch import Tensor
from torchvision.extension import _has_ops
from torchvision.ops import box_iou
from torchvision.ops.boxes import nms as torchvisions_nms

from sam21convert.model import boxes as module
from sam21convert.model.boxes import Crop, boxes_of, crops_of, cut_off, suppress_duplicates

from ..support.boxes import nms

THRESHOLDS = (0.0, 0.1, 1 / 3, 0.5, 0.7, 0.9)


def drawn(count: int, side: int, levels: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random boxes, some without area, and scores, of which many are equal."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(side, (count, 2, 2), generator=generator)
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1).float()
    return boxes, torch.randint(levels, (count,), generator=generator) / levels


def sets() -> Iterator[tuple[Tensor, Tensor]]:
    for seed, side in enumerate((3, 12, 400, 8192)):
        yield drawn(40, side, levels=1 + 7 * (seed % 2), seed=seed)
    yield drawn(0, 9, levels=3, seed=0)
    yield drawn(1, 9, levels=3, seed=0)


def same(ours: Callable[..., Tensor], theirs: Callable[..., Tensor]) -> bool:
    return all(
        torch.equal(ours(boxes, scores, threshold), theirs(boxes, scores, threshold))
        for boxes, scores in sets()
        for threshold in THRESHOLDS
    )


class TestDuplicates:
    @pytest.mark.parametrize("block", [128, 7, 1])
    def test_those_of_one_pair_at_a_time(self, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_BLOCK", block)
        assert same(suppress_duplicates, nms)

    @pytest.mark.skipif(not _has_ops(), reason="torchvision is not a build for this torch")
    def test_those_of_torchvision(self) -> None:
        assert same(suppress_duplicates, torchvisions_nms)

    def test_overlaps_are_torchvisions(self) -> None:
        for boxes, _ in sets():
            ours, theirs = module._overlaps(boxes, boxes), box_iou(boxes, boxes)
            assert torch.equal(ours.nan_to_num(), theirs.nan_to_num())

    def test_another_order_of_equal_scores_would_be_detected(self) -> None:
        def from_behind(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
            return len(boxes) - 1 - suppress_duplicates(boxes.flip(0), scores.flip(0), threshold)

        assert not same(from_behind, nms)

    def test_a_threshold_that_is_included_would_be_detected(self) -> None:
        def included(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
            return suppress_duplicates(boxes, scores, threshold - 1e-9)

        assert not same(included, nms)


class TestBoxes:
    def test_they_are_those_of_the_official_code(self) -> None:
        generator = torch.Generator().manual_seed(0)
        masks = (
            torch.rand(60, 9, 13, generator=generator) < torch.linspace(0, 0.1, 60)[:, None, None]
        )
        assert torch.equal(boxes_of(masks), amg.batched_mask_to_box(masks))
        assert not boxes_of(masks[:1]).any()  # the first has no pixel
        assert boxes_of(masks[:0]).shape == (0, 4)

    def test_what_a_crop_cuts_off(self) -> None:
        crop, size = Crop(100, 0, 300, 120, 1), (240, 400)
        boxes = drawn(500, 120, levels=1, seed=0)[0] + torch.tensor([100, 0, 100, 0])
        shifted = boxes - torch.tensor([100, 0, 100, 0])
        theirs = amg.is_box_near_crop_edge(shifted, list(crop[:4]), [0, 0, 400, 240])
        assert torch.equal(cut_off(boxes, crop, *size), theirs)
        assert theirs.any()
        assert not theirs.all()

    @pytest.mark.parametrize("size", [(480, 640), (77, 31), (1, 1)])
    @pytest.mark.parametrize("layers", [0, 1, 3])
    @pytest.mark.parametrize("overlap", [512 / 1500, 0, 0.9])
    def test_crops(self, size: tuple[int, int], layers: int, overlap: float) -> None:
        corners, numbers = amg.generate_crop_boxes(size, layers, overlap)
        theirs = [(*box, number) for box, number in zip(corners, numbers, strict=True)]
        assert crops_of(*size, layers, overlap) == theirs
        assert len(theirs) == sum(4**layer for layer in range(layers + 1))
