"""The dialects, one short file per family."""

from __future__ import annotations

from ..rules import Dialect
from .official import OFFICIAL
from .transformers import HF_IMAGE, HF_VIDEO

DIALECTS: tuple[Dialect, ...] = (OFFICIAL, HF_VIDEO, HF_IMAGE)
BY_NAME = {dialect.name: dialect for dialect in DIALECTS}

__all__ = ["BY_NAME", "DIALECTS", "HF_IMAGE", "HF_VIDEO", "OFFICIAL"]
