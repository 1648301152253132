"""An export goes on with the agreed signs of a mask, as every side of a comparison."""

from __future__ import annotations

from sam21convert.comparison.backends.onnx import Onnx
from sam21convert.comparison.backends.truth import Truth

from ..comparison.test_agreed import check
from ..support.backends import loaded
from ..support.checkpoints import DEBUG
from ..support.exports import SIDES, Exported


def test_signs_that_rounding_turns_are_agreed(newer: Exported) -> None:
    check(loaded(Truth, newer.weights, SIDES[DEBUG]), loaded(Onnx, newer.folder), "video-mask")
