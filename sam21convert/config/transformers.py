"""Read and write the ``config.json`` of transformers for ``sam2_video`` and ``sam2`` models.

The ``config.json`` in the folder of this module is the one published for SAM 2.1 tiny. Its values
are also the defaults of transformers' config classes, so they are used for what a file leaves out.
Source: ``transformers/models/sam2_video/configuration_sam2_video.py``.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..model.config import (
    ConfigError,
    MemoryAttentionConfig,
    MemoryEncoderConfig,
    ModelConfig,
    TrunkConfig,
    shown,
)

ModelType = Literal["sam2_video", "sam2"]

_TRUNK = "vision_config.backbone_config"
_GENERATION = (
    "enable_occlusion_spatial_embedding",
    "enable_temporal_pos_encoding_for_object_pointers",
)

# Fields that are the same in every SAM 2: a file that has them must have the template's value.
_FIXED = (
    *(
        f"mask_decoder_config.{name}"
        for name in (
            "attention_downsample_rate",
            "hidden_act",
            "iou_head_depth",
            "iou_head_hidden_dim",
            "mlp_dim",
            "num_attention_heads",
            "num_hidden_layers",
            "num_multimask_outputs",
        )
    ),
    *(
        f"prompt_encoder_config.{name}"
        for name in ("hidden_act", "mask_input_channels", "num_point_embeddings", "patch_size")
    ),
    *(
        f"vision_config.{name}"
        for name in ("fpn_kernel_size", "fpn_padding", "fpn_stride", "num_feature_levels")
    ),
    *(
        f"{_TRUNK}.{name}"
        for name in (
            "hidden_act",
            "mlp_ratio",
            "num_channels",
            "num_query_pool_stages",
            "patch_kernel_size",
            "patch_padding",
            "patch_stride",
            "query_stride",
        )
    ),
)
_FIXED_IN_VIDEO = (
    "mask_downsampler_hidden_act",
    "mask_downsampler_kernel_size",
    "mask_downsampler_padding",
    "mask_downsampler_stride",
    "mask_downsampler_total_stride",
    "memory_attention_downsample_rate",
    "memory_attention_feed_forward_hidden_act",
    "memory_attention_num_attention_heads",
    "memory_fuser_hidden_act",
    "memory_fuser_kernel_size",
    "memory_fuser_padding",
)

# The fields that video and image configs share.
_IMAGE_FIELDS = (
    "architectures",
    *_GENERATION,
    "initializer_range",
    "mask_decoder_config",
    "model_type",
    "prompt_encoder_config",
    "torch_dtype",
    "transformers_version",
    "vision_config",
)


@cache
def _template() -> dict[str, Any]:
    return dict(json.loads((Path(__file__).parent / "config.json").read_text()))


def model_type(content: Mapping[str, Any]) -> ModelType:
    """Read the model type from a ``config.json``.

    Args:
        content: the parsed file.

    Returns:
        ``sam2_video`` or ``sam2``.

    Raises:
        ConfigError: for any other model, and for a format that was never released.
    """
    if "image_encoder_config" in content:
        raise ConfigError(
            "image_encoder_config",
            "belongs to a format of August 2024 that no released transformers reads",
        )
    found = content.get("model_type")
    if found not in ("sam2_video", "sam2"):
        name = isinstance(found, str) and re.fullmatch(r"[a-z0-9_]{1,30}", found)
        what = found if name else shown(found)
        raise ConfigError("model_type", f"expected sam2_video or sam2, found {what}")
    return "sam2_video" if found == "sam2_video" else "sam2"


def foreign_type(content: Mapping[str, Any]) -> str | None:
    """Tell whether a ``config.json`` is of another program, whose model may hold a SAM 2.

    Args:
        content: the parsed file.

    Returns:
        What the file says it is of: its model type, or ``"another program"``. None for the config
        of a SAM 2: also for a faulty one, whose sections are those of a SAM 2.
    """
    found = content.get("model_type")
    sections = {"mask_decoder_config", "prompt_encoder_config"}
    if found in ("sam2_video", "sam2") or "image_encoder_config" in content:
        return None
    if sections <= set(content):
        return None
    named = isinstance(found, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", found)
    return str(found) if named else "another program"


def tells_generation(content: Mapping[str, Any]) -> bool:
    """Check whether a ``config.json`` states the generation; that of an image model may not.

    Args:
        content: the parsed file.

    Returns:
        Whether it tells SAM 2.0 from SAM 2.1.

    Raises:
        ConfigError: when it is not the config of a SAM 2.
    """
    return model_type(content) == "sam2_video" or any(name in content for name in _GENERATION)


def from_json(content: Mapping[str, Any], like: ModelConfig | None = None) -> ModelConfig:
    """Read the config from a parsed ``config.json``.

    Args:
        content: the parsed file.
        like: a config that supplies the settings that the file leaves out; without it they are the
            defaults of transformers. An image config leaves out the memory settings, and may leave
            out the generation (:func:`tells_generation`).

    Returns:
        The config.

    Raises:
        ConfigError: naming the field, when the file is not the config of a SAM 2, or when two of
            its fields contradict each other.
    """
    video = model_type(content) == "sam2_video"
    defaults = _facts(like) if like is not None else {}

    def read(name: str) -> Any:
        return _get(content, name, defaults.get(name, _get(_template(), name)))

    size = _plain(read("image_size" if video else "prompt_encoder_config.image_size"))
    first = _get(content, f"{_TRUNK}.num_attention_heads_per_stage", None)
    config = ModelConfig(
        generation="2.1" if read(_GENERATION[0]) else "2.0",
        image_size=size,
        hidden_dim=read("vision_config.fpn_hidden_size"),
        trunk=TrunkConfig(
            embed_dim=read(f"{_TRUNK}.hidden_size"),
            num_heads=first[0] if isinstance(first, list) and first else 1,
            stages=_numbers(read, f"{_TRUNK}.blocks_per_stage"),
            global_att_blocks=_numbers(read, f"{_TRUNK}.global_attention_blocks"),
            window_spec=_numbers(read, f"{_TRUNK}.window_size_per_stage"),
            window_pos_embed_bkg_spatial_size=_numbers(
                read, f"{_TRUNK}.window_positional_embedding_background_size"
            ),
        ),
        fpn_top_down_levels=_numbers(read, "vision_config.fpn_top_down_levels"),
        memory_attention=MemoryAttentionConfig(
            num_layers=read("memory_attention_num_layers"),
            dim_feedforward=read("memory_attention_feed_forward_hidden_size"),
            rope_theta=_rope_theta(content),
        ),
        memory_encoder=MemoryEncoderConfig(
            out_dim=read("memory_encoder_output_channels"),
            fuser_layers=read("memory_fuser_num_layers"),
        ),
        num_maskmem=read("num_maskmem"),
        max_obj_ptrs_in_encoder=read("max_object_pointers_in_encoder"),
        sigmoid_scale_for_mem_enc=read("sigmoid_scale_for_mem_enc"),
        sigmoid_bias_for_mem_enc=read("sigmoid_bias_for_mem_enc"),
        multimask_output_in_sam=read("multimask_output_in_sam"),
        multimask_output_for_tracking=read("multimask_output_for_tracking"),
        multimask_min_pt_num=read("multimask_min_pt_num"),
        multimask_max_pt_num=read("multimask_max_pt_num"),
        dynamic_multimask_via_stability=read("mask_decoder_config.dynamic_multimask_via_stability"),
        dynamic_multimask_stability_delta=read(
            "mask_decoder_config.dynamic_multimask_stability_delta"
        ),
        dynamic_multimask_stability_thresh=read(
            "mask_decoder_config.dynamic_multimask_stability_thresh"
        ),
    )
    _check(content, config, video)
    return config


def to_json(config: ModelConfig, kind: ModelType, torch_dtype: str, *, generation: bool) -> str:
    """Write a ``config.json``, byte for byte the published one for a published video model.

    Args:
        config: the config to write.
        kind: ``sam2_video``, or ``sam2`` for an image model.
        torch_dtype: the type of the weights, as in ``float32``.
        generation: whether an image config states its generation; a video config always does.

    Returns:
        The text of the file.
    """
    content = copy.deepcopy(_template())
    for name, value in _facts(config).items():
        *path, last = name.split(".")
        section = content
        for step in path:
            section = section[step]
        section[last] = value
    content["torch_dtype"] = torch_dtype
    if kind == "sam2":
        fields = [name for name in _IMAGE_FIELDS if generation or name not in _GENERATION]
        content = {name: content[name] for name in fields}
        content["architectures"] = ["Sam2Model"]
        content["model_type"] = "sam2"
    return dump(content)


def dump(content: Mapping[str, Any]) -> str:
    """Write JSON as transformers does: indented by two spaces, with sorted keys.

    Args:
        content: the content of the file.

    Returns:
        The text of the file, which ends in a line break.
    """
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _facts(config: ModelConfig) -> dict[str, Any]:
    """Every field of the file that the config decides, by dotted name."""
    trunk, hidden, grid = config.trunk, config.hidden_dim, config.embedding_size
    theta = config.memory_attention.rope_theta
    return {
        **dict.fromkeys(_GENERATION, config.generation == "2.1"),
        "image_size": config.image_size,
        "mask_decoder_config.dynamic_multimask_stability_delta": (
            config.dynamic_multimask_stability_delta
        ),
        "mask_decoder_config.dynamic_multimask_stability_thresh": (
            config.dynamic_multimask_stability_thresh
        ),
        "mask_decoder_config.dynamic_multimask_via_stability": (
            config.dynamic_multimask_via_stability
        ),
        "mask_decoder_config.hidden_size": hidden,
        "mask_downsampler_embed_dim": hidden,
        "max_object_pointers_in_encoder": config.max_obj_ptrs_in_encoder,
        "memory_attention_feed_forward_hidden_size": config.memory_attention.dim_feedforward,
        "memory_attention_hidden_size": hidden,
        "memory_attention_num_layers": config.memory_attention.num_layers,
        "memory_attention_rope_feat_sizes": [grid, grid],
        "memory_attention_rope_theta": int(theta) if theta == int(theta) else theta,
        "memory_encoder_hidden_size": hidden,
        "memory_encoder_output_channels": config.memory_encoder.out_dim,
        "memory_fuser_embed_dim": hidden,
        "memory_fuser_intermediate_dim": 4 * hidden,
        "memory_fuser_num_layers": config.memory_encoder.fuser_layers,
        "multimask_max_pt_num": config.multimask_max_pt_num,
        "multimask_min_pt_num": config.multimask_min_pt_num,
        "multimask_output_for_tracking": config.multimask_output_for_tracking,
        "multimask_output_in_sam": config.multimask_output_in_sam,
        "num_maskmem": config.num_maskmem,
        "prompt_encoder_config.hidden_size": hidden,
        "prompt_encoder_config.image_size": config.image_size,
        "sigmoid_bias_for_mem_enc": config.sigmoid_bias_for_mem_enc,
        "sigmoid_scale_for_mem_enc": config.sigmoid_scale_for_mem_enc,
        "vision_config.backbone_channel_list": list(reversed(trunk.dims)),
        "vision_config.backbone_feature_sizes": [[4 * grid] * 2, [2 * grid] * 2, [grid] * 2],
        "vision_config.fpn_hidden_size": hidden,
        "vision_config.fpn_top_down_levels": list(config.fpn_top_down_levels),
        f"{_TRUNK}.blocks_per_stage": list(trunk.stages),
        f"{_TRUNK}.embed_dim_per_stage": list(trunk.dims),
        f"{_TRUNK}.global_attention_blocks": list(trunk.global_att_blocks),
        f"{_TRUNK}.hidden_size": trunk.embed_dim,
        f"{_TRUNK}.image_size": [config.image_size] * 2,
        f"{_TRUNK}.num_attention_heads_per_stage": list(trunk.heads),
        f"{_TRUNK}.window_positional_embedding_background_size": list(
            trunk.window_pos_embed_bkg_spatial_size
        ),
        f"{_TRUNK}.window_size_per_stage": list(trunk.window_spec),
    }


def _check(content: Mapping[str, Any], config: ModelConfig, video: bool) -> None:
    """Check the fields of the file against those that the config read from it would give."""
    expected = {name: _get(_template(), name) for name in (*_FIXED, *_FIXED_IN_VIDEO)}
    expected.update(_facts(config))
    expected.pop(f"{_TRUNK}.image_size")  # informational: transformers does not use it
    expected.pop("memory_attention_rope_theta")
    for name, value in expected.items():
        belongs = video or name.partition(".")[0] in _IMAGE_FIELDS
        default = None if name in _facts(config) else value
        found = _plain(_get(content, name, default))
        if belongs and found is not None and found != _plain(value):
            raise ConfigError(name, f"is {shown(found)}; the rest of the config asks for {value}")


def _rope_theta(content: Mapping[str, Any]) -> float:
    """The base of the rotary embedding; transformers 5 moved it to the section rope_parameters."""
    nested = _get(content, "rope_parameters.rope_theta", None)
    old = _get(content, "memory_attention_rope_theta", 10000)
    value: Any = old if nested is None else nested
    # Anything that is not a plain number is returned as it is, for ModelConfig to refuse.
    return float(value) if type(value) is int and value < 2**53 else value


def _numbers(read: Any, name: str) -> tuple[int, ...]:
    value = read(name)
    if not isinstance(value, list):
        raise ConfigError(name, f"expected a list of whole numbers, found {shown(value)}")
    return tuple(value)


def _plain(value: Any) -> Any:
    """Reduce a square size to one number: files write it either way."""
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        return value if isinstance(value[0], list) else value[0]
    return value


def _get(content: Mapping[str, Any], name: str, default: Any = None) -> Any:
    value: Any = content
    for step in name.split("."):
        if not isinstance(value, dict) or value.get(step) is None:
            return default
        value = value[step]
    return value
