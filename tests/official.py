"""The official SAM 2 code, built for any config, to compare with."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from sam2.build_sam import build_sam2
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sam21convert.catalog import SHIPPED
from sam21convert.model.config import ModelConfig

PUBLISHED = tuple(shipped.name for shipped in SHIPPED if shipped.size != "debug")
DEBUG = tuple(shipped.name for shipped in SHIPPED if shipped.size == "debug")


def build_official(config: ModelConfig) -> Any:
    """The official ``SAM2Base`` in evaluation mode, of its own classes and without its YAML."""
    return SAM2Base(**_arguments(config)).eval()


def build_official_predictor(config: ModelConfig, **options: Any) -> Any:
    """The official video predictor of the same model; ``options`` are its own arguments."""
    return SAM2VideoPredictor(**_arguments(config), **options).eval()


def _arguments(config: ModelConfig) -> dict[str, Any]:
    width, memory = config.hidden_dim, config.memory_encoder
    return dict(
        image_encoder=_image_encoder(config),
        memory_attention=_memory_attention(config),
        memory_encoder=MemoryEncoder(
            out_dim=memory.out_dim,
            in_dim=width,
            mask_downsampler=MaskDownSampler(width, kernel_size=3, stride=2, padding=1),
            fuser=Fuser(CXBlock(width), num_layers=memory.fuser_layers),
            position_encoding=PositionEmbeddingSine(memory.out_dim),
        ),
        num_maskmem=config.num_maskmem,
        image_size=config.image_size,
        sigmoid_scale_for_mem_enc=config.sigmoid_scale_for_mem_enc,
        sigmoid_bias_for_mem_enc=config.sigmoid_bias_for_mem_enc,
        use_mask_input_as_output_without_sam=True,
        directly_add_no_mem_embed=True,
        use_high_res_features_in_sam=True,
        multimask_output_in_sam=config.multimask_output_in_sam,
        multimask_min_pt_num=config.multimask_min_pt_num,
        multimask_max_pt_num=config.multimask_max_pt_num,
        multimask_output_for_tracking=config.multimask_output_for_tracking,
        use_multimask_token_for_obj_ptr=True,
        iou_prediction_use_sigmoid=True,
        use_obj_ptrs_in_encoder=True,
        max_obj_ptrs_in_encoder=config.max_obj_ptrs_in_encoder,
        only_obj_ptrs_in_the_past_for_eval=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        fixed_no_obj_ptr=True,
        use_mlp_for_obj_ptr_proj=True,
        **dict.fromkeys(
            (
                "add_tpos_enc_to_obj_ptrs",
                "proj_tpos_enc_in_obj_ptrs",
                "use_signed_tpos_enc_to_obj_ptrs",
                "no_obj_embed_spatial",
            ),
            config.generation == "2.1",
        ),
        sam_mask_decoder_extra_args={
            name: getattr(config, name)
            for name in (field.name for field in fields(config))
            if name.startswith("dynamic_multimask")
        },
    )


def _image_encoder(config: ModelConfig) -> Any:
    trunk = config.trunk
    return ImageEncoder(
        scalp=1,
        trunk=Hiera(
            embed_dim=trunk.embed_dim,
            num_heads=trunk.num_heads,
            stages=trunk.stages,
            global_att_blocks=trunk.global_att_blocks,
            window_spec=trunk.window_spec,
            window_pos_embed_bkg_spatial_size=trunk.window_pos_embed_bkg_spatial_size,
        ),
        neck=FpnNeck(
            position_encoding=PositionEmbeddingSine(config.hidden_dim),
            d_model=config.hidden_dim,
            backbone_channel_list=list(reversed(trunk.dims)),
            fpn_top_down_levels=list(config.fpn_top_down_levels),
            fpn_interp_model="nearest",
        ),
    )


def _memory_attention(config: ModelConfig) -> Any:
    width = config.hidden_dim

    def attention(**options: Any) -> Any:
        return RoPEAttention(
            rope_theta=config.memory_attention.rope_theta,
            feat_sizes=(config.embedding_size,) * 2,
            embedding_dim=width,
            num_heads=1,
            downsample_rate=1,
            dropout=0.1,
            **options,
        )

    layer = MemoryAttentionLayer(
        activation="relu",
        dim_feedforward=config.memory_attention.dim_feedforward,
        dropout=0.1,
        d_model=width,
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        self_attention=attention(),
        cross_attention=attention(rope_k_repeat=True, kv_in_dim=config.memory_encoder.out_dim),
    )
    return MemoryAttention(
        d_model=width,
        pos_enc_at_input=True,
        layer=layer,
        num_layers=config.memory_attention.num_layers,
    )


def build_published(name: str) -> Any:
    """A published model as the official builder makes it from the official YAML."""
    return build_sam2(f"configs/{name}.yaml", device="meta")


def official_predictor(model: Any, **options: Any) -> Any:
    """The official image predictor, whose pictures must be of 1024 pixels."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=r".*torch\.jit\.script", category=DeprecationWarning
        )
        return SAM2ImagePredictor(model, **options)


@contextmanager
def on_meta() -> Iterator[None]:
    """Build official models without memory; a ``linspace`` whose values they read stays real."""
    with torch.device("meta"), _RealLinspace():
        yield


class _RealLinspace(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        real = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **(kwargs or {}), **real)


def randomise(target: nn.Module | Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Random values for every tensor, such that activations stay of order one; a model gets them.

    The same names and shapes get the same values, whoever they belong to.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, tensor in (target.state_dict() if isinstance(target, nn.Module) else target).items():
        centre, spread = _distribution(name, tuple(tensor.shape))
        drawn[name] = centre + spread * torch.randn(tensor.shape, generator=generator)
    if isinstance(target, nn.Module):
        target.load_state_dict(drawn)
    return drawn


def _distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    last = name.rpartition(".")[2]
    if len(shape) == 1:
        return (1.0, 0.1) if last in ("weight", "gamma") else (0.0, 0.1)
    if last != "weight" or re.search(r"(_embed|_embeddings\.\d|_tokens?)\.weight$", name):
        return 0.0, 1.0 if "gaussian" in name else 0.5
    inputs = shape[0] if "output_upscaling" in name else int(torch.Size(shape[1:]).numel())
    # Random attention is flat, and what looks at an image through it would see only its mean.
    sharper = 2.0 if "token_to_image.q_proj" in name or "token_to_image.k_proj" in name else 1.0
    return 0.0, sharper / inputs**0.5


def _plain(value: Any) -> Any:
    """Sequences as tuples and mappings as dicts: Hydra has classes of its own for them."""
    if isinstance(value, Mapping):
        return dict(value)
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _settings_of(module: nn.Module) -> dict[str, Any]:
    plain = (bool, int, float, str, type(None), tuple, dict)
    own = {k: _plain(v) for k, v in vars(module).items() if not k.startswith("_")}
    return {name: value for name, value in own.items() if isinstance(value, plain)}


def settings(model: nn.Module) -> dict[str, tuple[str, dict[str, Any]]]:
    """Class and plain attributes of every module, by its name."""
    return {name: (type(m).__name__, _settings_of(m)) for name, m in model.named_modules()}
