"""Build the official model: a published one from the package's YAML, any other from its classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from ...config.registry import SHIPPED, shipped_config
from ...errors import UsageError
from ...model.config import ModelConfig
from ...packages import install, member, titled


def published_name(config: ModelConfig) -> str | None:
    """The published config that a config equals, whatever the image size.

    Args:
        config: The config.

    Returns:
        A name such as ``sam2.1/sam2.1_hiera_t``, for which the official package has a YAML; None
        when there is none.
    """
    for shipped in SHIPPED:
        theirs = shipped_config(shipped.name)
        if shipped.size != "debug" and replace(theirs, image_size=config.image_size) == config:
            return shipped.name
    return None


def build_published(name: str, image_size: int, *, postprocessing: bool = True) -> Any:
    """The official video predictor as its builder makes it from its YAML, with random weights.

    Args:
        name: Name of the published config.
        image_size: Side of the model's input in pixels.
        postprocessing: The builder's ``apply_postprocessing``; but holes are never filled.

    Returns:
        The official ``SAM2VideoPredictor``, on the CPU.

    Raises:
        UsageError: When the installed version cannot build that YAML.
    """
    build = member("sam2.build_sam", "build_sam2_video_predictor")
    try:
        model = build(
            f"configs/{name}.yaml",
            device="cpu",
            hydra_overrides_extra=[f"++model.image_size={image_size}"],
            apply_postprocessing=postprocessing,
        )
    except Exception as error:  # Hydra has many errors, and runs what the YAML names
        raise UsageError(
            f"{titled('sam2')}: does not build configs/{name}.yaml: {error}", hint=install("sam2")
        ) from error
    model.fill_hole_area = 0
    return model


def build_base(config: ModelConfig) -> Any:
    """The official ``SAM2Base`` in evaluation mode, built from the package's classes.

    Args:
        config: The config.

    Returns:
        The official model, with random weights.
    """
    return member("sam2.modeling.sam2_base", "SAM2Base")(**_arguments(config)).eval()


def build_predictor(config: ModelConfig, **options: Any) -> Any:
    """The official video predictor in evaluation mode, built from the package's classes.

    Args:
        config: The config.
        **options: Further arguments of the official ``SAM2VideoPredictor``.

    Returns:
        The official predictor, with random weights.
    """
    predictor = member("sam2.sam2_video_predictor", "SAM2VideoPredictor")
    return predictor(**_arguments(config), **options).eval()


def build_training(
    model: Callable[..., Any], config: ModelConfig, *, drop_path: float = 0.0, **options: Any
) -> Any:
    """The official model for training, in training mode, built from the package's classes.

    Args:
        model: The official ``SAM2Train``.
        config: The config.
        drop_path: The rate of the last block of the trunk.
        **options: Further arguments of the official ``SAM2Train``.

    Returns:
        The official model, with random weights.
    """
    return model(**_arguments(config, drop_path), **options).train()


def image_predictor(model: Any, **options: Any) -> Any:
    """The official image predictor around a model of any image size.

    Args:
        model: The official model.
        **options: Further arguments of the official ``SAM2ImagePredictor``.

    Returns:
        The official predictor.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script")
        predictor = member("sam2.sam2_image_predictor", "SAM2ImagePredictor")(model, **options)
    grid = model.image_size // 16
    # The official constructor sets the sizes for 1024 pixels, whatever the model.
    predictor._bb_feat_sizes = [(4 * grid,) * 2, (2 * grid,) * 2, (grid,) * 2]
    return predictor


def _arguments(config: ModelConfig, drop_path: float = 0.0) -> dict[str, Any]:
    width, memory = config.hidden_dim, config.memory_encoder
    parts = "sam2.modeling.memory_encoder"
    downsampler = member(parts, "MaskDownSampler")(width, kernel_size=3, stride=2, padding=1)
    fuser = member(parts, "Fuser")(member(parts, "CXBlock")(width), num_layers=memory.fuser_layers)
    return dict(
        image_encoder=_image_encoder(config, drop_path),
        memory_attention=_memory_attention(config),
        memory_encoder=member(parts, "MemoryEncoder")(
            out_dim=memory.out_dim,
            in_dim=width,
            mask_downsampler=downsampler,
            fuser=fuser,
            position_encoding=_position(memory.out_dim),
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
            field.name: getattr(config, field.name)
            for field in fields(config)
            if field.name.startswith("dynamic_multimask")
        },
    )


def _position(channels: int) -> Any:
    return member("sam2.modeling.position_encoding", "PositionEmbeddingSine")(channels)


def _image_encoder(config: ModelConfig, drop_path: float) -> Any:
    trunk, parts = config.trunk, "sam2.modeling.backbones.image_encoder"
    return member(parts, "ImageEncoder")(
        scalp=1,
        trunk=member("sam2.modeling.backbones.hieradet", "Hiera")(
            embed_dim=trunk.embed_dim,
            num_heads=trunk.num_heads,
            drop_path_rate=drop_path,
            stages=trunk.stages,
            global_att_blocks=trunk.global_att_blocks,
            window_spec=trunk.window_spec,
            window_pos_embed_bkg_spatial_size=trunk.window_pos_embed_bkg_spatial_size,
        ),
        neck=member(parts, "FpnNeck")(
            position_encoding=_position(config.hidden_dim),
            d_model=config.hidden_dim,
            backbone_channel_list=list(reversed(trunk.dims)),
            fpn_top_down_levels=list(config.fpn_top_down_levels),
            fpn_interp_model="nearest",
        ),
    )


def _memory_attention(config: ModelConfig) -> Any:
    width, parts = config.hidden_dim, "sam2.modeling.memory_attention"

    def attention(**options: Any) -> Any:
        return member("sam2.modeling.sam.transformer", "RoPEAttention")(
            rope_theta=config.memory_attention.rope_theta,
            feat_sizes=(config.embedding_size,) * 2,
            embedding_dim=width,
            num_heads=1,
            downsample_rate=1,
            dropout=0.1,
            **options,
        )

    layer = member(parts, "MemoryAttentionLayer")(
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
    return member(parts, "MemoryAttention")(
        d_model=width,
        pos_enc_at_input=True,
        layer=layer,
        num_layers=config.memory_attention.num_layers,
    )


def silently(steps: Any, **_: Any) -> Any:
    """Stand in for tqdm, and show no progress bar.

    Args:
        steps: What to go through.
        **_: What the bar would look like.

    Returns:
        The same steps.
    """
    return steps
