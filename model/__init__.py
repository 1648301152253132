"""SAM 2 and SAM 2.1: the complete model, and the ground truth of every conversion.

* Predictors with the methods of the official package: :class:`SAM2ImagePredictor`,
  :class:`SAM2AutomaticMaskGenerator` and :class:`SAM2VideoPredictor`.
* Builders with its names and arguments: :func:`build_sam2`, :func:`build_sam2_hf`,
  :func:`build_sam2_video_predictor` and :func:`build_sam2_video_predictor_hf`.
* The network :class:`SAM2` and its results: :class:`ImageFeatures`, :class:`MaskPrediction` and
  :class:`Segmentation`.
* Its config: :class:`ModelConfig`, :class:`TrackingOptions` and :class:`ConfigError`.

Modules are loaded when a name is first used, so that reading a config does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..prediction.builders import build_sam2 as build_sam2
    from ..prediction.builders import build_sam2_hf as build_sam2_hf
    from ..prediction.builders import build_sam2_video_predictor as build_sam2_video_predictor
    from ..prediction.builders import build_sam2_video_predictor_hf as build_sam2_video_predictor_hf
    from .automatic_mask_generator import SAM2AutomaticMaskGenerator as SAM2AutomaticMaskGenerator
    from .config import ConfigError as ConfigError
    from .config import ModelConfig as ModelConfig
    from .config import TrackingOptions as TrackingOptions
    from .image_predictor import SAM2ImagePredictor as SAM2ImagePredictor
    from .mask_decoder import MaskPrediction as MaskPrediction
    from .sam2 import SAM2 as SAM2
    from .sam2 import ImageFeatures as ImageFeatures
    from .sam2 import Segmentation as Segmentation
    from .video_predictor import SAM2VideoPredictor as SAM2VideoPredictor

_HOME = {
    "build_sam2": "..prediction.builders",
    "build_sam2_hf": "..prediction.builders",
    "build_sam2_video_predictor": "..prediction.builders",
    "build_sam2_video_predictor_hf": "..prediction.builders",
    "ConfigError": ".config",
    "ModelConfig": ".config",
    "TrackingOptions": ".config",
    "SAM2": ".sam2",
    "ImageFeatures": ".sam2",
    "Segmentation": ".sam2",
    "MaskPrediction": ".mask_decoder",
    "SAM2AutomaticMaskGenerator": ".automatic_mask_generator",
    "SAM2ImagePredictor": ".image_predictor",
    "SAM2VideoPredictor": ".video_predictor",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name], __name__), name)
    except ModuleNotFoundError as error:
        from ..packages import explained

        raise explained(error, f"{__name__}.{name}") or error from None
