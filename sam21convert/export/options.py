"""What an export may be asked for."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ..io.onnx import FP32, Variant

ONNX = "onnx"  # in place of the name of a dialect
Layout: TypeAlias = Literal["transformers.js", "samexporter"]
LAYOUTS: tuple[Layout, ...] = ("transformers.js", "samexporter")
USUAL: tuple[Variant, ...] = (FP32, "q8")  # a browser without WebGPU asks for the second
