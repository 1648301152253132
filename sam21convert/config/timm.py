"""The ``config.json`` of a trunk that timm loads with ``create_model("local-dir:FOLDER")``.

Source: ``timm/models/hieradet_sam2.py`` and ``_hub.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..model.config import Generation, ModelConfig, TrunkConfig
from .registry import SHIPPED, shipped_config

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as SAM 2 has them
_STRIDE = 32  # pixels to a place in the last stage
_TAGS: Mapping[Generation, str] = {"2.0": "", "2.1": "_2pt1"}


def timm_json(config: ModelConfig, generation: str | None) -> str:
    """Its text. None is a generation that is unknown, for which there is no tag.

    The fields are those of timm's ``save_for_hf``, with these differences: ``input_size`` and
    ``pool_size`` follow the model's image size, which timm takes to be 896 pixels for most;
    ``license`` is left out, as the weights may be anybody's; ``model_args`` of a published trunk
    are empty, where timm repeats its defaults.
    """
    trunk, side = config.trunk, config.image_size
    size = published_size(trunk)
    width, smallest = trunk.embed_dim << 3, trunk.window_spec[-1] * _STRIDE
    tag = f"fb_r{1024 if size == 'large' else 896}" if size and generation else ""
    content = {
        "architecture": f"sam2_hiera_{size or 'tiny'}",
        "num_classes": 0,
        "num_features": width,
        "global_pool": "avg",
        "model_args": {} if size else arguments_of(trunk),
        "pretrained_cfg": {
            "tag": tag + _TAGS[config.generation] if tag else "",
            "custom_load": False,
            "input_size": [3, side, side],
            "min_input_size": [3, smallest, smallest],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": _MEAN,
            "std": _STD,
            "num_classes": 0,
            "pool_size": [side // _STRIDE] * 2,
            "first_conv": "patch_embed.proj",
            "classifier": "head.fc",
        },
    }
    return json.dumps(content, indent=2) + "\n"


def of_timm(content: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is timm's, which describes a trunk and no whole model."""
    return "architecture" in content and "pretrained_cfg" in content


def generation_of(content: Mapping[str, Any]) -> Generation | None:
    """What the tag in a ``config.json`` tells; None where there is none of SAM 2."""
    stated = content.get("pretrained_cfg")
    tag = stated.get("tag") if isinstance(stated, dict) else None
    for generation, end in _TAGS.items():
        if tag in (f"fb_r896{end}", f"fb_r1024{end}"):
            return generation
    return None


def published_size(trunk: TrunkConfig) -> str | None:
    """The size by which timm knows a trunk."""
    for shipped in SHIPPED:
        if shipped.size != "debug" and shipped_config(shipped.name).trunk == trunk:
            return shipped.size
    return None


def arguments_of(trunk: TrunkConfig) -> dict[str, Any]:
    """Those that timm's class builds another trunk from."""
    return {
        "embed_dim": trunk.embed_dim,
        "num_heads": trunk.num_heads,
        "stages": trunk.stages,
        "global_pos_size": trunk.window_pos_embed_bkg_spatial_size,
        "window_spec": trunk.window_spec,
        "global_att_blocks": trunk.global_att_blocks,
    }
