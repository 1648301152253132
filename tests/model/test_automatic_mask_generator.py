"""Everything in a picture is found as the official generator finds it, to the last bit.

Its duplicates are dropped by ``tests/support/boxes.py``: torchvision's compiled operator does not
load beside every build of torch, and ``test_boxes.py`` compares the two where it does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sam2 import automatic_mask_generator as official
from sam2.utils.amg import build_all_layer_point_grids

from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2, SAM2AutomaticMaskGenerator
from sam21convert.model import automatic_mask_generator as module
from sam21convert.prediction.draw import scene

from ..support.boxes import batched_nms
from ..support.official import DEBUG, build_official, official_predictor, randomise
from ..support.videos import frame
from .test_connected_components import components

# Of random weights: points that give some masks that are kept and many that are not.
SETTINGS: dict[str, Any] = {
    "points_per_side": 4,
    "points_per_batch": 7,
    "pred_iou_thresh": 0.4,
    "stability_score_thresh": 0.5,
    "stability_score_offset": 0.1,
    "mask_threshold": 1.0,
    "box_nms_thresh": 0.9,
    "crop_nms_thresh": 0.8,
}
CROPS: dict[str, Any] = {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}
PICTURES: dict[str, NDArray[Any]] = {
    "wide": scene(230)[40:170],
    "high": scene(300)[:, 90:200].astype(np.float32) / 255,
    "frame": np.asarray(frame(0)),
}


@pytest.fixture(autouse=True)
def _duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "batched_nms", batched_nms)


@cache
def models(name: str) -> tuple[SAM2, Any]:
    """Our model and the official one, with the same weights."""
    config = replace(shipped_config(name), image_size=64)
    ours, theirs = SAM2(config).eval(), build_official(config)
    theirs.load_state_dict(randomise(ours, seed=6))
    return ours, theirs


def generators(name: str = DEBUG[0], **options: Any) -> tuple[SAM2AutomaticMaskGenerator, Any]:
    ours, theirs = models(name)
    settings = SETTINGS | options
    generator = official.SAM2AutomaticMaskGenerator(theirs, **settings)
    area = settings.get("min_mask_region_area", 0)
    generator.predictor = official_predictor(theirs, max_hole_area=area, max_sprinkle_area=area)
    return SAM2AutomaticMaskGenerator(ours, **settings), generator


def plain(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What can be compared with ``==``: arrays as their types, shapes and bytes, others as text."""
    return [
        {
            name: (value.dtype, value.shape, value.tobytes())
            if isinstance(value, np.ndarray)
            else repr(value)  # tells whole numbers from floats, and NaN is as NaN
            for name, value in one.items()
        }
        for one in found
    ]


def same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> bool:
    keys = [list(one) for one in ours] == [list(one) for one in theirs]
    return keys and plain(ours) == plain(theirs)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", DEBUG)
def test_with_crops(name: str, picture: str) -> None:
    ours, theirs = generators(name, **CROPS)
    found = ours.generate(PICTURES[picture])
    assert same(found, theirs.generate(PICTURES[picture]))
    assert found


def test_masks_of_crops_are_among_them() -> None:
    ours, _ = generators(**CROPS)
    found = [ours.generate(picture) for picture in PICTURES.values()]
    assert any(len({tuple(one["crop_box"]) for one in masks}) > 1 for masks in found)


OPTIONS: dict[str, dict[str, Any]] = {
    "one mask for each point": {"multimask_output": False},
    "refined": {"use_m2m": True, "pred_iou_thresh": 0, "stability_score_thresh": 0.01},
    "nothing is left out": {
        "pred_iou_thresh": 0,
        "stability_score_thresh": 0,
        "points_per_side": 2,
    },
    "nothing is found": {"pred_iou_thresh": 2.0},
    "run lengths": {"output_mode": "uncompressed_rle"},
    "points of one's own": {
        "points_per_side": None,
        "point_grids": [np.array([[0.2, 0.3], [0.5, 0.5], [0.9, 0.1]])],
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options(options: dict[str, Any]) -> None:
    ours, theirs = generators(**options)
    found = ours.generate(PICTURES["wide"])
    assert same(found, theirs.generate(PICTURES["wide"]))
    assert bool(found) is (options.get("pred_iou_thresh") != 2.0)


def test_small_regions_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the official code with a flood fill in place of its CUDA kernel."""
    monkeypatch.setattr("sam2.utils.misc.get_connected_components", components)
    ours, theirs = generators(min_mask_region_area=9, points_per_side=2, pred_iou_thresh=0)
    found = ours.generate(PICTURES["wide"])
    assert same(found, theirs.generate(PICTURES["wide"]))
    without, _ = generators(points_per_side=2, pred_iou_thresh=0)
    assert not same(found, without.generate(PICTURES["wide"]))


def test_the_text_of_coco() -> None:
    """Which the official generator asks pycocotools for, and ours nobody."""
    model, _ = models(DEBUG[0])
    found, runs = (
        SAM2AutomaticMaskGenerator(model, output_mode=mode, **SETTINGS).generate(PICTURES["wide"])
        for mode in ("coco_rle", "uncompressed_rle")
    )
    assert all(isinstance(one["segmentation"]["counts"], str) for one in found)
    assert json.loads(json.dumps(found)) == found
    hidden: list[dict[str, Any]] = [{**one, "segmentation": None} for one in found]
    assert same(hidden, [{**one, "segmentation": None} for one in runs])


@pytest.mark.parametrize("at_once", [1, 2**30])
def test_how_many_are_enlarged_at_once_changes_nothing(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = generators()
    expected = ours.generate(PICTURES["wide"])
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    assert same(ours.generate(PICTURES["wide"]), expected)


def test_refinement_can_be_called() -> None:
    ours, theirs = generators()
    points, labels = torch.tensor([[9.0, 20], [40, 50], [3, 3]]), torch.ones(3, dtype=torch.int)
    masks = torch.linspace(-9, 9, 3 * 16 * 16).reshape(3, 16, 16)
    answers = []
    for generator in (ours, theirs):
        generator.predictor.set_image(PICTURES["wide"])
        answers.append(generator.refine_with_m2m(points, labels, masks, 2))
    assert all(torch.equal(mine, other) for mine, other in zip(*answers, strict=True))


def test_the_points() -> None:
    ours, _ = generators(points_per_side=9, crop_n_layers=2, crop_n_points_downscale_factor=2)
    both = list(zip(ours.point_grids, build_all_layer_point_grids(9, 2, 2), strict=True))
    assert len(both) == 3
    assert all(np.array_equal(mine, other) for mine, other in both)


def test_attributes_are_the_official_ones() -> None:
    ours, theirs = generators(min_mask_region_area=3, **CROPS)
    names = {name for name in vars(theirs) if not name.startswith("_")}
    assert names == set(vars(ours))
    for name in names - {"point_grids", "predictor"}:
        assert getattr(ours, name) == getattr(theirs, name)


def differing() -> Iterator[tuple[str, NDArray[Any], dict[str, Any]]]:
    yield "a setting", PICTURES["wide"], {"stability_score_thresh": 0.7}
    yield "the order of the batches' results", PICTURES["wide"], {"box_nms_thresh": 0.95}
    yield "the picture", PICTURES["wide"][::-1], {}


@pytest.mark.parametrize(("image", "options"), [one[1:] for one in differing()])
def test_a_difference_would_be_detected(image: NDArray[Any], options: dict[str, Any]) -> None:
    ours, _ = generators()
    other, _ = generators(**options)
    assert not same(ours.generate(PICTURES["wide"]), other.generate(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points_per_side": None}, "either points_per_side or point_grids"),
        ({"point_grids": [np.zeros((1, 2))]}, "give one, not both"),
        ({"output_mode": "rle"}, "expected binary_mask, .* found 'rle'"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAM2AutomaticMaskGenerator(models(DEBUG[0])[0], **options)


def test_what_is_no_picture() -> None:
    ours, _ = generators()
    with pytest.raises(ValueError, match="expected height x width x 3"):
        ours.generate(np.zeros((9, 9, 4), np.uint8))
