"""Holes and sprinkles of masks, against a flood fill in plain Python and the official code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from sam2.utils.misc import fill_holes_in_mask_scores
from sam2.utils.transforms import SAM2Transforms
from torch import Tensor

from sam21convert.model.connected_components import clean_masks, fill_holes, small_components

AREAS = (0, 1, 2, 7.5, 8, 10**9)


def flood(mask: Tensor, diagonally: bool) -> Iterator[list[tuple[int, int]]]:
    """The components of an ``H x W`` mask as lists of pixels."""
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if diagonally or 0 in (y, x)]
    unseen = set(map(tuple, mask.nonzero().tolist()))
    while unseen:
        component = [unseen.pop()]
        for y, x in component:  # grows as it goes
            near = unseen & {(y + dy, x + dx) for dy, dx in steps}
            unseen -= near
            component.extend(near)
        yield component


def components(masks: Tensor, diagonally: bool = True) -> tuple[Tensor, Tensor]:
    """The labels and areas of components, ``N x 1 x H x W`` each, 0 where nothing is set."""
    labels, areas = (torch.zeros(masks.shape, dtype=torch.int32) for _ in range(2))
    for n, mask in enumerate(masks[:, 0]):
        for number, component in enumerate(flood(mask, diagonally)):
            y, x = torch.tensor(component).T
            labels[n, 0, y, x], areas[n, 0, y, x] = number + 1, len(component)
    return labels, areas


def spiral(side: int) -> Tensor:
    """An arm of one pixel's width, that runs from a corner to the centre."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    y, x, dy, dx = 0, -1, 0, 1
    for length in (side, *(n for n in range(side - 1, 0, -2) for _ in range(2))):
        for _ in range(length):
            y, x = y + dy, x + dx
            mask[y, x] = True
        dy, dx = dx, -dy
    return mask


def random(share: float, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) < share


CHECKERBOARD = torch.arange(12)[:, None].add(torch.arange(15)).remainder(2).bool()
MASKS = {
    "empty": torch.zeros(9, 11, dtype=torch.bool),
    "full": torch.ones(9, 11, dtype=torch.bool),
    "checkerboard": CHECKERBOARD,
    "spiral": spiral(21),
    "beside the spiral": ~spiral(21),
    "one pixel": torch.ones(1, 1, dtype=torch.bool),
    "row": random(0.5, 1, 40),
    "column": random(0.5, 40, 1),
    **{f"random {share}": random(share, 31, 24) for share in (0.1, 0.3, 0.5, 0.7, 0.9)},
}


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_small_components_are_those_of_a_flood_fill(mask: Tensor, area: float) -> None:
    _, areas = components(mask[None, None])
    assert torch.equal(small_components(mask, area), mask & (areas[0, 0] <= area))


@pytest.mark.parametrize("name", ["checkerboard", "random 0.3", "random 0.5"])
def test_the_flood_fill_tells_eight_neighbours_from_four(name: str) -> None:
    mask = MASKS[name]
    _, areas = components(mask[None, None], diagonally=False)
    assert not torch.equal(small_components(mask, 2), mask & (areas[0, 0] <= 2))


def test_the_spiral_is_one_component_and_its_neighbour_another() -> None:
    assert [len(list(flood(mask, True))) for mask in (spiral(21), ~spiral(21))] == [1, 1]


def test_every_mask_of_a_batch_is_for_itself() -> None:
    masks = random(0.5, 3, 4, 16, 16)
    alone = torch.stack([small_components(mask, 5) for mask in masks.flatten(0, 1)])
    assert torch.equal(small_components(masks, 5), alone.view_as(masks))


def test_no_masks_are_no_trouble() -> None:
    assert fill_holes(torch.zeros(0, 1, 8, 8), 8).shape == (0, 1, 8, 8)


@pytest.fixture
def official_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """The official code with the flood fill in place of its CUDA kernel."""
    monkeypatch.setattr("sam2.utils.misc.get_connected_components", components)


def logits(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Logits in steps of a half, so that many lie on a threshold."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return noise.mul(4).round().div(2).to(dtype)


@pytest.mark.usefixtures("official_components")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("area", [1, 8, 10**9])
def test_holes_are_filled_as_in_the_official_video_predictor(area: int, dtype: torch.dtype) -> None:
    scores = logits(3, 1, 32, 40, dtype=dtype)
    before = scores.clone()
    filled = fill_holes(scores, area)
    assert filled.dtype == dtype
    assert not torch.equal(filled, before)
    assert torch.equal(filled, fill_holes_in_mask_scores(scores, area))
    assert torch.equal(scores, before)


@pytest.mark.usefixtures("official_components")
@pytest.mark.parametrize("threshold", [0.0, 0.5, -1.0])
@pytest.mark.parametrize("holes", [0.0, 1, 8, 10**9])
@pytest.mark.parametrize("sprinkles", [0.0, 1, 8, 10**9])
def test_masks_are_cleaned_as_in_the_official_image_predictor(
    threshold: float, holes: float, sprinkles: float
) -> None:
    masks = logits(2, 3, 24, 32)
    before = masks.clone()
    cleaned = clean_masks(masks, holes, sprinkles, threshold=threshold)
    official = SAM2Transforms(32, threshold, holes, sprinkles).postprocess_masks(masks, (50, 60))
    assert torch.equal(F.interpolate(cleaned, (50, 60), mode="bilinear"), official)
    assert torch.equal(cleaned, before) == (holes == sprinkles == 0)
    assert torch.equal(masks, before)


def test_a_sprinkle_is_cleared_though_a_filled_hole_joins_it_to_more() -> None:
    ring = torch.ones(1, 1, 9, 9)
    ring[..., 2:7, 2:7] = -1
    ring[..., 4, 4] = 1
    cleaned = clean_masks(ring, max_hole_area=24, max_sprinkle_area=1)
    assert set(cleaned[0, 0, 2:7, 2:7].flatten().tolist()) == {-10, 10}
    assert cleaned[0, 0, 4, 4] == -10
