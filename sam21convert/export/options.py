"""What an export may be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from ..io.onnx import FP32

ONNX = "onnx"  # in place of the name of a dialect
Layout: TypeAlias = Literal["transformers.js", "samexporter"]
LAYOUTS: tuple[Layout, ...] = ("transformers.js", "samexporter")
VARIANTS: Mapping[str, str] = {FP32: "", "fp16": "_fp16", "q8": "_quantized"}  # endings of names
USUAL = (FP32, "q8")  # a browser without WebGPU asks for the second
