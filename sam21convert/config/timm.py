"""Write and read the ``config.json`` of a trunk that timm loads as ``local-dir:FOLDER``.

Source: ``timm/models/hieradet_sam2.py`` and ``_hub.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..model.config import ConfigError, Generation, ModelConfig, TrunkConfig
from .registry import SHIPPED, shipped_config

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, also used by SAM 2
_USUAL_SIDE = 896  # pixels, in the config of timm's own tags
_STRIDE = 32  # pixels per token of the last stage, along each side
# Arguments of timm's HieraDet -> the fields of a trunk that they set.
_ARGUMENTS = {
    "embed_dim": "embed_dim",
    "num_heads": "num_heads",
    "stages": "stages",
    "global_pos_size": "window_pos_embed_bkg_spatial_size",
    "window_spec": "window_spec",
    "global_att_blocks": "global_att_blocks",
}
# Those that a trunk of SAM 2 must have as they are, and those that change nothing in its features.
_FIXED: Mapping[str, Any] = {
    "in_chans": 3,
    "patch_kernel": [7, 7],
    "patch_stride": [4, 4],
    "patch_padding": [3, 3],
    "patch_size": None,
    "q_pool": 3,
    "q_stride": [2, 2],
    "dim_mul": 2.0,
    "head_mul": 2.0,
    "init_values": None,
    "norm_layer": "LayerNorm",
    "act_layer": "GELU",
}
_HARMLESS = (
    *("num_classes", "global_pool", "weight_init", "fix_init", "head_init_scale"),
    *("drop_rate", "drop_path_rate"),
)
_TAGS: Mapping[Generation, str] = {"2.0": "", "2.1": "_2pt1"}  # how timm's pretrained tags end


def timm_json(config: ModelConfig, generation: str | None) -> str:
    """Write the ``config.json`` of the trunk of a model.

    The fields are those of timm's ``save_for_hf``, with these differences: ``input_size`` and
    ``pool_size`` follow the image size of the model (timm assumes 896 pixels for most sizes);
    ``license`` is left out, because the license of the weights is not known; ``model_args`` is
    empty for a published trunk, where timm repeats its defaults.

    Args:
        config: the config of the whole model.
        generation: ``"2.0"``, ``"2.1"``, or None when it is not known. Without a generation, and
            for a trunk of no published size, the tag is empty.

    Returns:
        The text of the file.
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
    """Tell a ``config.json`` of timm, which describes a trunk only, from that of transformers.

    Args:
        content: the parsed file.

    Returns:
        Whether it is timm's.
    """
    return "architecture" in content and "pretrained_cfg" in content


def generation_of(content: Mapping[str, Any]) -> Generation | None:
    """Read the generation from the pretrained tag in a ``config.json`` of timm.

    Args:
        content: the parsed file.

    Returns:
        The generation, or None when the file has no tag or not one of SAM 2.
    """
    pretrained = content.get("pretrained_cfg")
    tag = pretrained.get("tag") if isinstance(pretrained, dict) else None
    for generation, suffix in _TAGS.items():
        if tag in (f"fb_r896{suffix}", f"fb_r1024{suffix}"):
            return generation
    return None


def notes_on_size(name: str, content: Mapping[str, Any], model: ModelConfig) -> Iterator[str]:
    """Say that a ``config.json`` of timm has another size of pictures than is usual.

    Args:
        name: the name of the file.
        content: the parsed file.
        model: the config that is assumed.

    Yields:
        A sentence, if its size is neither timm's own nor that of the model.
    """
    pretrained = content.get("pretrained_cfg")
    size = pretrained.get("input_size") if isinstance(pretrained, dict) else None
    side = size[-1] if isinstance(size, list) and size else None
    if side not in (None, _USUAL_SIDE, model.image_size):
        yield (
            f"input_size in {name} is {side} pixels, and is not read, as timm runs a trunk at any "
            "size: `config=FILE` gives the image size"
        )


def trunk_of(content: Mapping[str, Any]) -> TrunkConfig | None:
    """Read the config of the trunk from a ``config.json`` of timm.

    Args:
        content: the parsed file.

    Returns:
        The trunk of the published model that the file names, with its ``model_args``; None when it
        names none, or when the arguments are those of that model.

    Raises:
        ConfigError: naming the field, when the arguments make no trunk of a SAM 2.
    """
    size = str(content.get("architecture", "")).removeprefix("sam2_hiera_")
    known = [one for one in SHIPPED if one.size == size and size != "debug"]
    given = content.get("model_args") or {}
    if not known or not isinstance(given, dict):
        return None
    trunk = shipped_config(known[0].name).trunk
    for name, value in given.items():
        if name in _FIXED and value != _FIXED[name]:
            raise ConfigError(f"model_args.{name}", f"every SAM 2 has {_FIXED[name]}")
        if name not in (*_ARGUMENTS, *_FIXED, *_HARMLESS):
            raise ConfigError(f"model_args.{name}", "is not an argument of timm's HieraDet")
    merged = {**arguments_of(trunk), **given}
    settings: dict[str, Any] = {field: merged[name] for name, field in _ARGUMENTS.items()}
    as_fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    made = TrunkConfig(**as_fields)
    return None if made == trunk else made


def published_size(trunk: TrunkConfig) -> str | None:
    """Find the size under which timm has a trunk, as in ``sam2_hiera_tiny``.

    Args:
        trunk: the config of the trunk.

    Returns:
        ``tiny``, ``small``, ``base_plus`` or ``large``; None when no published trunk is equal.
    """
    for shipped in SHIPPED:
        if shipped.size != "debug" and shipped_config(shipped.name).trunk == trunk:
            return shipped.size
    return None


def arguments_of(trunk: TrunkConfig) -> dict[str, Any]:
    """Give the arguments from which timm's ``HieraDet`` builds a trunk of no published size.

    Args:
        trunk: the config of the trunk.

    Returns:
        Argument name to value.
    """
    return {name: getattr(trunk, field) for name, field in _ARGUMENTS.items()}
