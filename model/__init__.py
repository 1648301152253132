"""SAM 2 and SAM 2.1: the complete model, and the ground truth of every conversion.

Modules are loaded when a name is first used, so that reading a config does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import ConfigError as ConfigError
    from .config import ModelConfig as ModelConfig
    from .decoder import MaskPrediction as MaskPrediction
    from .sam2 import SAM2 as SAM2
    from .sam2 import ImageFeatures as ImageFeatures

_HOME = {
    "ConfigError": "config",
    "ModelConfig": "config",
    "SAM2": "sam2",
    "ImageFeatures": "sam2",
    "MaskPrediction": "decoder",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
