"""Write the official Hydra YAML, from which the official builders make a model.

Source: the constructors under ``sam2/modeling``; the settings are their arguments.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..model.config import ModelConfig
from .hydra import BUILDERS, FIXED, GENERATION, OWN, UNKNOWN

# The official class of each section of the file; "" is the model itself.
_TARGETS = (
    ("", "sam2_base.SAM2Base"),
    ("image_encoder", "backbones.image_encoder.ImageEncoder"),
    ("image_encoder.trunk", "backbones.hieradet.Hiera"),
    ("image_encoder.neck", "backbones.image_encoder.FpnNeck"),
    ("image_encoder.neck.position_encoding", "position_encoding.PositionEmbeddingSine"),
    ("memory_attention", "memory_attention.MemoryAttention"),
    ("memory_attention.layer", "memory_attention.MemoryAttentionLayer"),
    ("memory_attention.layer.self_attention", "sam.transformer.RoPEAttention"),
    ("memory_attention.layer.cross_attention", "sam.transformer.RoPEAttention"),
    ("memory_encoder", "memory_encoder.MemoryEncoder"),
    ("memory_encoder.position_encoding", "position_encoding.PositionEmbeddingSine"),
    ("memory_encoder.mask_downsampler", "memory_encoder.MaskDownSampler"),
    ("memory_encoder.fuser", "memory_encoder.Fuser"),
    ("memory_encoder.fuser.layer", "memory_encoder.CXBlock"),
)
_DROPOUT = 0.1  # used in training only, but ``MemoryAttentionLayer`` requires it


@lru_cache(maxsize=64)
def to_hydra(config: ModelConfig, *, generation: bool = True) -> str:
    """Write a config as an official YAML, from which ``build_sam2`` makes the model.

    The multimask stability switches are set by the official builders themselves. If the config has
    others, they are in a section of their own, which only this package reads. Official defaults
    that hold for every SAM 2 are not repeated, because Hydra passes lists where some constructors
    expect tuples.

    Args:
        config: the config to write.
        generation: whether its generation is known. If not, the same section says so.

    Returns:
        The text of the file.
    """
    import yaml

    model: dict[str, Any] = {}
    settings = {
        **{f"{where}._target_".lstrip("."): f"sam2.modeling.{name}" for where, name in _TARGETS},
        **{name: value for name, value, default in FIXED if value != default},
        **{name: config.generation == "2.1" for name, _ in GENERATION},
        **_widths(config),
        **_own(config),
    }
    for name, value in settings.items():
        *sections, last = name.split(".")
        node = model
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = list(value) if isinstance(value, (list, tuple)) else value
    own = {name: value for name in BUILDERS if (value := getattr(config, name)) != BUILDERS[name]}
    own |= {} if generation else {"generation": UNKNOWN}
    content = {"model": model, **({OWN: own} if own else {})}
    text: str = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    return f"# @package _global_\n{text}"


def _own(config: ModelConfig) -> dict[str, Any]:
    """The settings that a config sets, by dotted name."""
    memory, attention = config.memory_encoder, config.memory_attention
    top = {
        name: value
        for name, value in vars(config).items()
        if isinstance(value, (bool, int, float))
        and name != "hidden_dim"
        and not name.startswith("dynamic_multimask")
    }
    return {
        **top,
        **{f"image_encoder.trunk.{name}": value for name, value in vars(config.trunk).items()},
        "image_encoder.neck.fpn_top_down_levels": config.fpn_top_down_levels,
        "memory_attention.num_layers": attention.num_layers,
        "memory_attention.layer.dim_feedforward": attention.dim_feedforward,
        "memory_attention.layer.dropout": _DROPOUT,
        **{
            f"memory_attention.layer.{which}_attention.{name}": value
            for which in ("self", "cross")
            for name, value in (
                ("rope_theta", attention.rope_theta),
                ("feat_sizes", [config.embedding_size] * 2),
                ("dropout", _DROPOUT),
            )
        },
        "memory_encoder.fuser.num_layers": memory.fuser_layers,
    }


def _widths(config: ModelConfig) -> dict[str, Any]:
    """The numbers of channels, which the file repeats in every section that has them as input."""
    hidden, memory = config.hidden_dim, config.memory_encoder.out_dim
    return {
        "image_encoder.neck.d_model": hidden,
        "image_encoder.neck.backbone_channel_list": config.trunk.dims[::-1],
        "image_encoder.neck.position_encoding.num_pos_feats": hidden,
        "memory_attention.d_model": hidden,
        "memory_attention.layer.d_model": hidden,
        "memory_attention.layer.self_attention.embedding_dim": hidden,
        "memory_attention.layer.cross_attention.embedding_dim": hidden,
        "memory_attention.layer.cross_attention.kv_in_dim": memory,
        "memory_encoder.in_dim": hidden,
        "memory_encoder.out_dim": memory,
        "memory_encoder.position_encoding.num_pos_feats": memory,
        "memory_encoder.mask_downsampler.embed_dim": hidden,
        "memory_encoder.fuser.layer.dim": hidden,
    }
