"""An example that every export carries: a picture, a point, and what the model answers.

Whoever runs the files elsewhere can compare: in another runtime, another language, a browser.
"""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..io.onnx import Variant
from ..model.run_lengths import encode
from ..model.sam2 import SAM2, ImageFeatures
from .check import Array, relative
from .runtime import load
from .runtime.model import Features

Pixels = NDArray[np.uint8]

HOME, PICTURE, EXPECTED = "golden", "picture.png", "expected.json"


@dataclass(frozen=True)
class Golden:
    """The example.

    Attributes:
        picture: ``S x S x 3`` bytes.
        point: x and y in pixels.
        iou: Expected IoU of the three candidates, ``3``.
        logits: ``3 x S/4 x S/4``.
        object_score: A logit.
    """

    picture: Pixels
    point: tuple[float, float]
    iou: Array
    logits: Array
    object_score: float

    @classmethod
    def of(
        cls, model: SAM2, picture: Pixels, point: tuple[float, float], features: ImageFeatures
    ) -> Golden:
        """Compute the example.

        Args:
            model: The model, in evaluation mode and float32.
            picture: ``S x S x 3`` bytes.
            point: x and y as shares of the side.
            features: Those of the picture, by the model.

        Returns:
            The example.
        """
        side = model.image_size
        x, y = (float(round(share * side)) for share in point)
        with torch.inference_mode():
            found = model.predict_masks(features, torch.tensor([[[x, y]]]), torch.ones(1, 1))
        return cls(
            picture,
            (x, y),
            found.iou[0].numpy(),
            found.logits[0].numpy(),
            float(found.object_score),
        )

    def write(self, folder: Path) -> tuple[str, ...]:
        """Write it into a folder of its own.

        Args:
            folder: The folder of the export.

        Returns:
            Names of the files in ``folder``.
        """
        home = folder / HOME
        home.mkdir()
        Image.fromarray(self.picture).save(home / PICTURE)
        raw = self.logits.astype("<f4").tobytes()
        expected = {
            "points": [list(self.point)],
            "labels": [1],
            "iou_scores": self.iou.tolist(),
            "object_score_logits": self.object_score,
            "logits": {"shape": list(self.logits.shape), "float32": b64encode(raw).decode()},
            "masks": [encode(mask > 0) for mask in self.logits],
        }
        (home / EXPECTED).write_text(json.dumps(expected, indent=2) + "\n", encoding="utf-8")
        return tuple(f"{HOME}/{name}" for name in (PICTURE, EXPECTED))


@dataclass(frozen=True)
class Apart:
    """How far the files of a variant are from the model, on the example.

    Attributes:
        variant: Which files.
        logits: Largest difference of a logit, relative to the largest of all.
        iou_scores: Largest difference of an expected IoU.
        object_score: Difference of the object score.
        mask_iou: The smallest IoU of a candidate's mask with that of the model.
    """

    variant: str
    logits: float
    iou_scores: float
    object_score: float
    mask_iou: float


def encoded(pixels: Array, folder: Path, variant: Variant) -> Features:
    """Encode a picture by a variant, and free its encoder.

    Args:
        pixels: ``1 x 3 x S x S``, normalised.
        folder: The export, with its settings.
        variant: Which graphs.

    Returns:
        What prompts are answered from, in memory of its own.
    """
    found = load(folder, variant=variant).encode(pixels)
    # As onnxruntime gives them, they would keep the memory of the encoder.
    return Features(found.fine.copy(), found.middle.copy(), found.embedding.copy())


def measure(golden: Golden, folder: Path, variant: Variant, features: Features) -> Apart:
    """Answer the example by a variant, with the driver that users run it with.

    Args:
        golden: The example.
        folder: The export, with its settings.
        variant: Which graphs.
        features: Those of the picture, by the variant's own encoder.

    Returns:
        The differences.
    """
    model = load(folder, variant=variant)
    point, label = np.array([[golden.point]], np.float32), np.ones((1, 1), np.int64)
    none = np.zeros((0, 4), np.float32)
    found = model.candidates(features, point, label, none)
    logits = found.logits[0]
    return Apart(
        variant,
        relative(golden.logits, logits),
        float(np.abs(golden.iou - found.iou[0]).max()),
        abs(golden.object_score - float(found.object_score[0, 0])),
        min(_iou(own > 0, other > 0) for own, other in zip(golden.logits, logits, strict=True)),
    )


def _iou(one: Any, other: Any) -> float:
    """1 for two empty masks."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0
