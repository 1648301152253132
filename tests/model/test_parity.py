"""A sample checkpoint of tiny: the same masks from the ground truth, sam2 and transformers.

Pixels are the same tensor for all, so that no difference of resizing is blamed on weights. They are
half as many along each side as usual, which takes the same ways through the code: windows fill the
first two grids, and need padding in the others.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sam2.build_sam import build_sam2, build_sam2_video_predictor
from torch import Tensor
from transformers import Sam2Model

from sam21convert import convert, load_model, sample
from sam21convert.conversion.sample import DEFAULT_CONFIG
from sam21convert.model import SAM2, ImageFeatures, MaskPrediction
from sam21convert.model.image_predictor import pixels_of
from sam21convert.prediction.draw import scene

from ..support.official import official_predictor
from ..support.rounding import MULTIPLE, beyond_rounding, relative, rounding

SIDE = 512
POINT = torch.tensor([[[180.0, 320.0]]])
POINTS = torch.tensor([[[180.0, 320.0], [400.0, 100.0], [250.0, 450.0]]])
BOX = torch.tensor([[110.0, 215.0, 245.0, 380.0]])
ONE, THREE = torch.ones(1, 1, dtype=torch.int32), torch.tensor([[1, 0, 1]], dtype=torch.int32)
MASK = torch.linspace(-9, 9, SIDE // 4).expand(1, 1, SIDE // 4, SIDE // 4).contiguous()

PROMPTS: dict[str, dict[str, Any]] = {
    "one point": {"points": POINT, "labels": ONE},
    "three points": {"points": POINTS, "labels": THREE},
    "box": {"boxes": BOX},
    "box + point": {"boxes": BOX, "points": POINT, "labels": ONE},
    "mask": {"points": POINT, "labels": ONE, "mask_input": MASK},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample checkpoint, its transformers folder, and that converted back."""
    home = tmp_path_factory.mktemp("parity")
    sample(home / "sample.pt")
    convert(home / "sample.pt", home / "hf", image_size=SIDE)
    convert(home / "hf", home / "back.pt")
    return home


@cache
def pixels() -> Tensor:
    return pixels_of(scene(SIDE), SIDE)


@pytest.fixture(scope="module")
def ours(home: Path) -> tuple[SAM2, ImageFeatures]:
    """The ground truth, loaded from the transformers folder."""
    model, report = load_model(home / "hf")
    assert report.dialect == "hf-video"
    with torch.no_grad():
        return model, model.encode_image(pixels())


@pytest.fixture(scope="module")
def noise(ours: tuple[SAM2, ImageFeatures]) -> dict[str, float]:
    """How far rounding alone moves the answers to all prompts."""
    model, features = ours
    asked = [partial(masks, features, kind, many) for kind in PROMPTS for many in (True, False)]
    with torch.no_grad():
        return rounding(model, *asked)


@pytest.fixture(scope="module")
def official(home: Path) -> Any:
    """The official predictor, which loads strictly what was converted there and back."""
    predictor = official_predictor(
        build_sam2(
            f"configs/{DEFAULT_CONFIG}.yaml",
            str(home / "back.pt"),
            device="cpu",
            hydra_overrides_extra=[f"++model.image_size={SIDE}"],
        )
    )
    predictor._transforms.transforms = torch.nn.Identity()
    predictor._transforms.to_tensor = lambda _: pixels()[0]
    predictor.set_image(scene(SIDE))
    return predictor


@pytest.fixture(scope="module")
def transformers(home: Path) -> tuple[Any, list[Tensor]]:
    model = Sam2Model.from_pretrained(home / "hf").eval()
    with torch.no_grad():
        return model, list(model.get_image_embeddings(pixels()))


@pytest.mark.parametrize("multimask", [True, False], ids=["multimask", "single"])
@pytest.mark.parametrize("kind", PROMPTS)
def test_masks_are_those_of_the_official_code_to_the_last_bit(
    ours: tuple[SAM2, ImageFeatures], official: Any, kind: str, multimask: bool
) -> None:
    model, features = ours
    prompts = PROMPTS[kind]
    mine = model.predict_masks(features, **prompts, multimask_output=multimask)
    _, iou, logits = official._predict(
        prompts.get("points"),
        prompts.get("labels"),
        prompts.get("boxes"),
        prompts.get("mask_input"),
        multimask_output=multimask,
    )
    assert torch.equal(mine.logits.clamp(-32, 32), logits)
    assert (mine.logits.abs() < 32).float().mean() > 0.9  # the clamp hides next to nothing
    assert torch.equal(mine.iou, iou)


def test_image_features_are_those_of_the_official_code_to_the_last_bit(
    ours: tuple[SAM2, ImageFeatures], official: Any
) -> None:
    _, features = ours
    assert torch.equal(features.embedding, official._features["image_embed"])
    for mine, theirs in zip(features.high_res, official._features["high_res_feats"], strict=True):
        assert torch.equal(mine, theirs)


def by_name(features: ImageFeatures | list[Tensor]) -> dict[str, Tensor]:
    fine, middle, embedding = (
        (*features.high_res, features.embedding)
        if isinstance(features, ImageFeatures)
        else features
    )
    return {"fine": fine, "middle": middle, "embedding": embedding}


def test_image_features_are_those_of_transformers_within_rounding(
    ours: tuple[SAM2, ImageFeatures], transformers: tuple[Any, list[Tensor]]
) -> None:
    model, features = ours
    noise = rounding(model, lambda one: by_name(one.encode_image(pixels())))
    assert not beyond_rounding(noise, by_name(features), by_name(transformers[1]))


@pytest.mark.parametrize("multimask", [True, False], ids=["multimask", "single"])
@pytest.mark.parametrize("kind", PROMPTS)
def test_masks_are_those_of_transformers(
    ours: tuple[SAM2, ImageFeatures],
    transformers: tuple[Any, list[Tensor]],
    noise: dict[str, float],
    kind: str,
    multimask: bool,
) -> None:
    model, features = ours
    theirs = in_transformers(transformers, PROMPTS[kind], multimask)
    other = {"logits": theirs.pred_masks[:, 0], "iou": theirs.iou_scores[:, 0]}
    assert not beyond_rounding(noise, masks(features, kind, multimask, model), other)


def masks(features: ImageFeatures, kind: str, multimask: bool, model: SAM2) -> dict[str, Tensor]:
    found = model.predict_masks(features, **PROMPTS[kind], multimask_output=multimask)
    return {"logits": found.logits, "iou": found.iou}


def in_transformers(
    transformers: tuple[Any, list[Tensor]], prompts: dict[str, Any], multimask: bool
) -> Any:
    model, embeddings = transformers
    points, labels, boxes = prompts.get("points"), prompts.get("labels"), prompts.get("boxes")
    return model(
        image_embeddings=embeddings,
        input_points=None if points is None else points[None],
        input_labels=None if labels is None else labels[None],
        input_boxes=None if boxes is None else boxes[None],
        input_masks=prompts.get("mask_input"),
        multimask_output=multimask,
    )


def test_the_comparison_with_transformers_can_fail(
    ours: tuple[SAM2, ImageFeatures],
    transformers: tuple[Any, list[Tensor]],
    noise: dict[str, float],
) -> None:
    """A positional matrix that is a thousandth off, and two point embeddings swapped."""
    model, features = ours
    theirs = in_transformers(transformers, PROMPTS["three points"], True)
    encoder = model.sam_prompt_encoder
    weights = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    matrix = "pe_layer.positional_encoding_gaussian_matrix"
    first, second = "point_embeddings.0.weight", "point_embeddings.1.weight"
    for mistake in (
        {matrix: weights[matrix] * 1.001},
        {first: weights[second], second: weights[first]},
    ):
        encoder.load_state_dict({**weights, **mistake})
        mine: MaskPrediction = model.predict_masks(features, **PROMPTS["three points"])
        encoder.load_state_dict(weights)
        assert relative(mine.logits, theirs.pred_masks[:, 0]) > 10 * MULTIPLE * noise["logits"]


def test_both_signs_of_the_object_score_occur_in_a_tracked_video(
    home: Path, tmp_path: Path
) -> None:
    """So that what a model does on frames without the object is tried as well."""
    for number, frame in enumerate(frames(12, 256)):
        Image.fromarray(frame).save(tmp_path / f"{number}.jpg", quality=95)
    predictor = build_sam2_video_predictor(
        f"configs/{DEFAULT_CONFIG}.yaml",
        str(home / "sample.pt"),
        device="cpu",
        hydra_overrides_extra=["++model.image_size=256"],
        apply_postprocessing=False,
    )
    scores: list[float] = []
    predictor.sam_mask_decoder.register_forward_hook(
        lambda _module, _inputs, output: scores.append(float(output[3]))
    )
    state = predictor.init_state(str(tmp_path))
    point = np.array([[50, 128]], np.float32)
    predictor.add_new_points_or_box(state, 0, 1, points=point, labels=np.array([1], np.int32))
    for _ in predictor.propagate_in_video(state):
        pass
    assert len(scores) >= 12
    assert min(scores) < -0.1
    assert max(scores) > 0.1


def frames(count: int, side: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """A disc that crosses the picture and is gone for a while."""
    y, x = np.mgrid[:side, :side] / side
    pictures = []
    for number in range(count):
        picture = np.stack([x, y, 0.5 + 0.3 * np.sin(6 * x + 0.4 * number)], axis=-1)
        at_x, at_y = 0.2 + 0.6 * number / count, 0.5 + 0.2 * np.sin(number / 1.5)
        if not count / 3 <= number < count * 0.6:
            picture[(x - at_x) ** 2 + (y - at_y) ** 2 < 0.02] = (1.0, 0.2, 0.1)
        pictures.append((picture.clip(0, 1) * 255).astype(np.uint8))
    return pictures
