"""The dialects, one short file per family.

Some dialects share all their tensor names. A file with those names is reported as the first of them
in ``DIALECTS``; the others only say in which container and under which file name a program wants
it.
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
