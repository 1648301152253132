"""What an export may be asked for."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ..io.onnx import FP32, Variant

ONNX = "onnx"  # in place of the name of a dialect
Layout: TypeAlias = Literal["transformers.js", "samexporter"]
LAYOUTS: tuple[Layout, ...] = ("transformers.js", "samexporter")
OLDEST_TORCH = "2.8"  # 2.7 writes graphs that refuse their own example, and 2.6 stops at once
USUAL: tuple[Variant, ...] = (FP32, "q8")  # a browser without WebGPU asks for the second
