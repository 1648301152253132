"""Images are segmented by an export as by the model, whatever the prompt."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sam21convert.errors import UsageError
from sam21convert.export.runtime import OnnxImagePredictor, OnnxModel, load
from sam21convert.export.runtime import image as module
from sam21convert.export.runtime.pictures import pixels_of
from sam21convert.model.image_predictor import SAM2ImagePredictor
from sam21convert.prediction.draw import scene

from ..support.exports import Exported
from ..support.rounding import beyond_rounding, rounding

PICTURE = scene(150)[:120]
POINTS: dict[str, Any] = {"point_coords": [[40.0, 60.0], [90, 20]], "point_labels": [1, 0]}
BOX = [30.0, 30, 70, 90]
BOXES = [BOX, [20, 20, 80, 80], [5, 60, 70, 110]]


def prompts(side: int) -> dict[str, dict[str, Any]]:
    logits = np.random.default_rng(0).normal(0, 5, (1, side // 4, side // 4)).astype(np.float32)
    return {
        "points": POINTS,
        "a box": {"box": BOX},
        "points and a box": POINTS | {"box": BOX},
        "points and a mask": POINTS | {"mask_input": logits},
        "a mask": {"mask_input": logits},
        "nothing": {},
        "three boxes": {"box": BOXES},
        "three boxes and a mask": {"box": BOXES, "mask_input": logits},
        "two points apart": {
            "point_coords": [[[40.0, 60]], [[90, 20]]],
            "point_labels": [[1], [1]],
        },
        "shares": {"point_coords": [[0.3, 0.5]], "point_labels": [1], "normalize_coords": False},
    }


def answers(predictor: Any) -> dict[str, Tensor]:
    """All there is to compare, by name."""
    predictor.set_image(PICTURE)
    found = {}
    for name, prompt in prompts(predictor.model.image_size).items():
        for multimask in (True, False):
            parts = predictor.predict(**prompt, multimask_output=multimask, return_logits=True)
            for part, array in zip(("masks", "iou", "logits"), parts, strict=True):
                found[f"{name}, {multimask}, {part}"] = torch.as_tensor(array)
    return found


@cache
def noise_of(export: Exported) -> tuple[dict[str, float], dict[str, Tensor]]:
    """How far rounding moves each answer of the model, and the answers."""
    found = rounding(export.model, lambda model: answers(SAM2ImagePredictor(model)))
    return found, answers(SAM2ImagePredictor(export.model))


def beyond(export: Exported, predictor: OnnxImagePredictor) -> dict[str, float]:
    noise, theirs = noise_of(export)
    mine = answers(predictor)
    assert all(mine[name].shape == theirs[name].shape for name in mine)
    assert all(mine[name].dtype == theirs[name].dtype for name in mine)
    return beyond_rounding(noise, mine, theirs)


def test_every_prompt(both: Exported) -> None:
    assert not beyond(both, OnnxImagePredictor(load(both.folder, threads=1)))


def test_masks_are_cut_at_zero(newer: Exported) -> None:
    predictor, truth = (
        OnnxImagePredictor(load(newer.folder, threads=1)),
        SAM2ImagePredictor(newer.model),
    )
    for one in (predictor, truth):
        one.set_image(PICTURE)
    mine, theirs = predictor.predict(**POINTS)[0], truth.predict(**POINTS)[0]
    assert mine.dtype == theirs.dtype
    assert np.count_nonzero(mine != theirs) <= 1
    assert {*np.unique(mine)} == {0, 1}


def _no_mask(model: Any, *args: Any) -> Any:
    features, points, labels, _ = args
    return OnnxModel.decode(model, features, points, labels, None)


def _swapped(model: Any, features: Any, points: Any, *rest: Any) -> Any:
    return OnnxModel.candidates(model, features, points[..., ::-1], *rest)


def _moved(pixels: Any, side: int) -> Any:
    return np.roll(pixels_of(pixels, side), 1, axis=-1)


@pytest.mark.parametrize(
    ("owner", "name", "fault", "seen"),
    [
        (OnnxModel, "decode", _no_mask, "a mask, True, masks"),
        (OnnxModel, "candidates", _swapped, "points, True, masks"),
        (module, "pixels_of", _moved, "a box, False, iou"),
        (module, "clamped", lambda logits: logits + 1e-3, "nothing, True, logits"),
    ],
)
def test_a_fault_is_seen(
    newer: Exported,
    owner: Any,
    name: str,
    fault: Any,
    seen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = OnnxImagePredictor(load(newer.folder, threads=1))
    if owner is OnnxModel:
        monkeypatch.setattr(predictor.model, name, lambda *args: fault(predictor.model, *args))
    else:
        monkeypatch.setattr(owner, name, fault)
    assert seen in beyond(newer, predictor)


@pytest.fixture
def without_video(newer: Exported, tmp_path: Path) -> Path:
    (tmp_path / "onnx").mkdir()
    for name in ("config.json", "vision_encoder.onnx", "prompt_encoder_mask_decoder.onnx"):
        shutil.copy(newer.folder / "onnx" / name, tmp_path / "onnx")
    return tmp_path


def test_an_export_without_videos_answers_points_and_boxes(
    newer: Exported, without_video: Path
) -> None:
    small, whole = (
        OnnxImagePredictor(load(one, threads=1)) for one in (without_video, newer.folder)
    )
    assert (small.model.has_video, whole.model.has_video) == (False, True)
    for one in (small, whole):
        one.set_image(PICTURE)
    for prompt in (POINTS, {"box": BOX}, POINTS | {"box": BOX}):
        parts = zip(small.predict(**prompt), whole.predict(**prompt), strict=True)
        assert all(np.array_equal(mine, theirs) for mine, theirs in parts)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (POINTS | {"multimask_output": False}, "multimask_output=False needs"),
        (prompts(128)["points and a mask"], "mask_input needs"),
        ({}, "a prompt without points and boxes needs"),
    ],
)
def test_it_says_what_else_it_would_need(
    without_video: Path, prompt: dict[str, Any], said: str
) -> None:
    predictor = OnnxImagePredictor(load(without_video))
    predictor.set_image(PICTURE)
    with pytest.raises(UsageError, match=said) as raised:
        predictor.predict(**prompt)
    assert "--with-video" in str(raised.value.hint)


def test_prompts_that_do_not_fit(newer: Exported) -> None:
    predictor = OnnxImagePredictor(load(newer.folder, threads=1))
    with pytest.raises(RuntimeError, match="set_image"):
        predictor.predict(**POINTS)
    predictor.set_image(PICTURE)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"point_coords": [[1, 2]]}, "points and labels: expected both"),
        ({"point_coords": [[1, 2]], "point_labels": [1, 0]}, "labels: expected shape 1 x 1"),
        (POINTS | {"box": BOXES}, "boxes: expected shape 1 x 2 x 2, found 3 x 2 x 2"),
        ({"mask_input": np.zeros((1, 9, 9))}, "mask_input: expected shape 1 x 1 x 32 x 32"),
    ]
    for prompt, said in wrong:
        with pytest.raises(ValueError, match=said):
            predictor.predict(**prompt)
