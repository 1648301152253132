"""The image predictor answers as the official one does, to the last bit, and says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2, SAM2ImagePredictor

from ..support.official import DEBUG, build_official, official_predictor, randomise

Call = Callable[[Any], Any]


class Pair:
    """Our predictor and the official one, with the same weights."""

    def __init__(self, name: str, image_size: int) -> None:
        config = replace(shipped_config(name), image_size=image_size)
        self.model, self.official = SAM2(config).eval(), build_official(config)
        self.official.load_state_dict(randomise(self.model, seed=2))

    def predictors(self, **options: Any) -> tuple[SAM2ImagePredictor, Any]:
        theirs = official_predictor(self.official, **options)
        return SAM2ImagePredictor(self.model, **options), theirs


@cache
def pair(name: str, image_size: int = 128) -> Pair:
    return Pair(name, image_size)


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def same(ours: Any, theirs: Any) -> bool:
    """Arrays, or lists and tuples of them, of the same types, shapes and values."""
    if isinstance(theirs, np.ndarray):
        return ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    return len(ours) == len(theirs) and all(map(same, ours, theirs))


POINT, LABEL = np.array([[40.0, 30.0]]), np.array([1])
POINTS, LABELS = np.array([[40.0, 30.0], [70, 60], [10, 80]]), np.array([1, 0, 1])
BOX = np.array([12.0, 20, 66, 71])
BOXES = np.array([BOX, [0.0, 0, 30, 30], [50.0, 10, 100, 88]])
MASK = np.linspace(-9, 9, 32 * 32, dtype=np.float32).reshape(1, 32, 32)

CALLS: dict[str, Call] = {
    "nothing": lambda p: p.predict(),
    "point": lambda p: p.predict(POINT, LABEL),
    "points": lambda p: p.predict(POINTS, LABELS, multimask_output=False),
    "box": lambda p: p.predict(box=BOX, multimask_output=False),
    "box and points": lambda p: p.predict(POINTS, LABELS, BOX),
    "mask": lambda p: p.predict(mask_input=MASK),
    "point and mask": lambda p: p.predict(POINT, LABEL, mask_input=MASK),
    "logits": lambda p: p.predict(POINT, LABEL, return_logits=True),
    "shares of the sides": lambda p: p.predict(POINT / 100, LABEL, normalize_coords=False),
    "a box in shares": lambda p: p.predict(box=BOX / 100, normalize_coords=False),
    "plain lists": lambda p: p.predict([[40, 30]], [1], [12, 20, 66, 71]),
    "several boxes": lambda p: p.predict(box=BOXES, multimask_output=False),
    "several boxes, three masks": lambda p: p.predict(box=BOXES),
    "several points": lambda p: p.predict(POINTS[:, None], LABELS[:, None]),
    "points and boxes": lambda p: p.predict(POINTS[:, None], LABELS[:, None], BOXES),
    "boxes and one mask": lambda p: p.predict(box=BOXES, mask_input=MASK),
    "boxes and masks": lambda p: p.predict(box=BOXES, mask_input=np.stack([MASK, -MASK, MASK])),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("name", DEBUG)
def test_every_kind_of_prompt(name: str, call: Call) -> None:
    ours, theirs = pair(name).predictors()
    for predictor in (ours, theirs):
        predictor.set_image(picture(90, 120))
    answer = call(ours)
    assert same(answer, call(theirs))
    assert answer[0].shape[-2:] == (90, 120)


def refine(predictor: Any) -> Any:
    """The best mask of a first click goes into the second call, as the official notebook does."""
    _, ious, logits = predictor.predict(POINT, LABEL)
    best = logits[np.argmax(ious)][None]
    return predictor.predict(POINTS, LABELS, mask_input=best, multimask_output=False)


@pytest.mark.parametrize("size", [(128, 128), (90, 120), (301, 77), (16, 500)])
@pytest.mark.parametrize("image_size", [128, 256])
def test_every_size_of_picture_and_model(image_size: int, size: tuple[int, int]) -> None:
    ours, theirs = pair(DEBUG[0], image_size).predictors()
    for predictor in (ours, theirs):
        predictor.set_image(picture(*size))
    assert same(ours.get_image_embedding().numpy(), theirs.get_image_embedding().numpy())
    if image_size == 128:
        assert same(refine(ours), refine(theirs))
    assert same(ours.predict(box=BOX), theirs.predict(box=BOX))


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(picture(90, 120)),
        picture(90, 120).astype(np.float32) / 255,
        picture(90, 120)[:, ::-1],
    ],
    ids=["PIL", "floats", "mirrored"],
)
def test_every_kind_of_picture(image: Any) -> None:
    ours, theirs = pair(DEBUG[0]).predictors()
    ours.set_image(image)
    theirs.set_image(image if isinstance(image, Image.Image) else np.ascontiguousarray(image))
    assert same(ours.predict(POINT, LABEL), theirs.predict(POINT, LABEL))


def test_a_palette_and_a_grey_picture_are_taken_as_rgb() -> None:
    predictor, _ = pair(DEBUG[0]).predictors()
    grey = Image.fromarray(picture(90, 120)).convert("L")
    predictor.set_image(grey)
    embedding = predictor.get_image_embedding()
    predictor.set_image(grey.convert("RGB"))
    assert torch.equal(embedding, predictor.get_image_embedding())


class TestBatches:
    IMAGES = (picture(90, 120), picture(64, 64, seed=1), picture(128, 40, seed=2))

    @pytest.mark.parametrize(
        "call",
        [
            lambda p: p.predict_batch([POINT] * 3, [LABEL] * 3),
            lambda p: p.predict_batch(None, None, [BOX, BOXES, BOX], multimask_output=False),
            lambda p: p.predict_batch([POINT] * 3, [LABEL] * 3, mask_input_batch=[MASK] * 3),
            lambda p: p.predict_batch([POINT] * 3, [LABEL] * 3, return_logits=True),
            lambda p: p.predict_batch(box_batch=[BOX / 100] * 3, normalize_coords=False),
        ],
        ids=["points", "boxes", "masks", "logits", "shares"],
    )
    @pytest.mark.parametrize("name", DEBUG)
    def test_answers(self, name: str, call: Call) -> None:
        ours, theirs = pair(name).predictors()
        for predictor in (ours, theirs):
            predictor.set_image_batch(list(self.IMAGES))
        assert same(call(ours), call(theirs))
        assert same(ours.get_image_embedding().numpy(), theirs.get_image_embedding().numpy())

    def test_the_last_image_answers_single_calls(self) -> None:
        ours, theirs = pair(DEBUG[0]).predictors()
        for predictor in (ours, theirs):
            predictor.set_image_batch(list(self.IMAGES))
        assert same(ours.predict(POINT, LABEL), theirs.predict(POINT, LABEL))


def test_another_threshold() -> None:
    ours, theirs = pair(DEBUG[0]).predictors(mask_threshold=0.3)
    for predictor in (ours, theirs):
        predictor.set_image(picture(90, 120))
    answer = ours.predict(POINT, LABEL)
    assert same(answer, theirs.predict(POINT, LABEL))
    ours.mask_threshold = 0.0
    assert not same(answer, ours.predict(POINT, LABEL))


def test_holes_and_sprinkles_change_the_masks() -> None:
    model = pair(DEBUG[0]).model
    answers = []
    for options in ({}, {"max_hole_area": 50}, {"max_sprinkle_area": 50}):
        predictor = SAM2ImagePredictor(model, **options)
        predictor.set_image(picture(90, 120))
        answers.append(predictor.predict(POINT, LABEL))
    plain, filled, cleared = (masks for masks, _, _ in answers)
    assert plain.sum() < filled.sum()
    assert plain.sum() > cleared.sum()
    assert same(answers[0][2], answers[1][2])  # logits to go on with are as they were


class TestErrors:
    @pytest.mark.parametrize(
        ("image", "message"),
        [
            ("a path", "expected an array or a PIL image, found str"),
            (picture(5, 5)[..., 0], "expected height x width x 3, found 5 x 5"),
            (picture(5, 5).transpose(2, 0, 1), "expected height x width x 3, found 3 x 5 x 5"),
            (np.zeros((0, 5, 3), np.uint8), "found 0 x 5 x 3"),
            (np.zeros((5, 5, 3), np.int64), "expected bytes or floats, found int64"),
        ],
    )
    def test_pictures(self, image: Any, message: str) -> None:
        predictor, _ = pair(DEBUG[0]).predictors()
        with pytest.raises(ValueError, match=message):
            predictor.set_image(image)

    @pytest.mark.parametrize(
        "call", [lambda p: p.predict(POINT, LABEL), lambda p: p.get_image_embedding()]
    )
    def test_no_picture(self, call: Call) -> None:
        predictor, _ = pair(DEBUG[0]).predictors()
        with pytest.raises(RuntimeError, match="call set_image first"):
            call(predictor)
        predictor.set_image(picture(9, 9))
        predictor.reset_predictor()
        with pytest.raises(RuntimeError, match="call set_image first"):
            call(predictor)

    def test_a_batch_that_was_not_set(self) -> None:
        predictor, _ = pair(DEBUG[0]).predictors()
        predictor.set_image(picture(9, 9))
        with pytest.raises(RuntimeError, match="set_image_batch"):
            predictor.predict_batch([POINT], [LABEL])
        with pytest.raises(ValueError, match="at least one image"):
            predictor.set_image_batch([])

    @pytest.mark.parametrize(
        ("prompts", "message"),
        [
            ({"point_coords": POINT}, "expected both or neither"),
            ({"point_labels": LABEL}, "expected both or neither"),
            ({"point_coords": POINTS, "point_labels": LABEL}, "labels: expected shape 1 x 3"),
            ({"mask_input": MASK[:, :16]}, "mask_input: expected shape 1 x 1 x 32 x 32"),
            (
                {"point_coords": POINT, "point_labels": LABEL, "box": BOXES},
                "boxes: expected shape 1 x 4, found 3 x 4",
            ),
        ],
    )
    def test_prompts_that_do_not_fit(self, prompts: dict[str, Any], message: str) -> None:
        predictor, _ = pair(DEBUG[0]).predictors()
        predictor.set_image(picture(90, 120))
        with pytest.raises(ValueError, match=message):
            predictor.predict(**prompts)
