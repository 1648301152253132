"""The dialects, one short file per family.

Several have the same names for tensors: a file is then of the first one in ``DIALECTS``, the others
say how and under which name it is written for a program.
"""

from __future__ import annotations

from .comfyui import COMFYUI
from .mlx import MLX
from .official import OFFICIAL
from .rules import Dialect
from .timm import TIMM
from .transformers import HF_IMAGE, HF_VIDEO
from .ultralytics import ULTRALYTICS

DIALECTS: tuple[Dialect, ...] = (OFFICIAL, HF_VIDEO, HF_IMAGE, MLX, TIMM, ULTRALYTICS, COMFYUI)
BY_NAME = {dialect.name: dialect for dialect in DIALECTS}

__all__ = ["BY_NAME", "DIALECTS", "HF_IMAGE", "HF_VIDEO", "MLX", "OFFICIAL", "TIMM"]
