"""Which activation is the first that a tensor or a setting of the model can change."""

from __future__ import annotations

import re

from ..model.config import ModelConfig

# (pattern of the canonical name, first activation); the first pattern that matches counts. Blocks
# of the trunk are missing here, because the stage of a block depends on the config.
_TENSORS = (
    (r"image_encoder\.trunk\.(patch_embed|pos_embed)", "trunk.stage0"),
    (r"image_encoder\.neck\.convs\.[01]\.", "neck.level2"),  # the coarsest is added to it
    (r"image_encoder\.neck\.convs\.2\.", "neck.level1"),
    (r"image_encoder\.neck\.convs\.3\.", "neck.level0"),
    (r"maskmem_tpos_enc|obj_ptr_tpos_proj\.", "memory_attention.position"),
    (r"no_obj_embed_spatial", "memory"),
    (r"memory_attention\.", "memory_attention.output"),
    (r"memory_encoder\.", "memory_encoder.output"),
    (r"sam_prompt_encoder\.(mask_downscaling\.|no_mask_embed\.)|mask_downsample\.", "prompt.dense"),
    (r"sam_prompt_encoder\.", "prompt.sparse"),
    (r"no_mem_embed", "decoder.tokens"),
    (r"sam_mask_decoder\.iou_prediction_head\.", "decoder.iou"),
    (r"sam_mask_decoder\.pred_obj_score_head\.", "decoder.object_score"),
    (
        r"sam_mask_decoder\.(conv_s[01]|output_upscaling|output_hypernetworks_mlps)\.",
        "decoder.logits",
    ),
    (r"sam_mask_decoder\.", "decoder.tokens"),
    (r"obj_ptr_proj\.|no_obj_ptr", "pointer"),
)
_BLOCK = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.")
_FOR_VIDEOS = re.compile(r"maskmem_|memory_|mask_downsample\.|obj_ptr_|no_obj_|no_mem_pos_enc")

_SETTINGS = (
    (r"image_size", "pixels"),
    (r"trunk\.", "trunk.stage0"),
    (r"fpn_top_down_levels|hidden_dim", "neck.level0"),
    (r"generation|num_maskmem|max_obj_ptrs_in_encoder", "memory_attention.memory"),
    (r"memory_attention\.", "memory_attention.output"),
    (r"memory_encoder\.|sigmoid_", "memory_encoder.output"),
    (r"multimask_|dynamic_multimask_", "masks"),
)

# Tensors that no result of the model depends on, and why.
DEAD = "never read: every published config adds no_mem_embed instead"
INVARIANT = "adds the same to all scores of a query, and softmax ignores what all scores share"
UNDETECTABLE = {
    "no_mem_pos_enc": DEAD,
    **dict.fromkeys(
        (
            "sam_mask_decoder.transformer.final_attn_token_to_image.k_proj.bias",
            *(
                f"sam_mask_decoder.transformer.layers.{layer}.{attention}.k_proj.bias"
                for layer in (0, 1)
                for attention in (
                    "self_attn",
                    "cross_attn_token_to_image",
                    "cross_attn_image_to_token",
                )
            ),
        ),
        INVARIANT,
    ),
}


def of_tensor(name: str, config: ModelConfig) -> str | None:
    """The first activation that a tensor can change.

    Args:
        name: Canonical name of the tensor.
        config: The model's config, which tells the stage of a block of the trunk.

    Returns:
        A kind of activation, such as ``trunk.stage2``; None when no result depends on the tensor.
    """
    if name in UNDETECTABLE:
        return None
    block = _BLOCK.match(name)
    if block is not None:
        number, ends = int(block[1]), 0
        for stage, count in enumerate(config.trunk.stages):
            ends += count
            if number < ends:
                return f"trunk.stage{stage}"
    return next((activation for pattern, activation in _TENSORS if re.match(pattern, name)), None)


def of_setting(name: str) -> str:
    """The first activation that a setting can change.

    Args:
        name: Field of the config, with dots for nested fields: ``trunk.window_spec``.

    Returns:
        A kind of activation.
    """
    return next(activation for pattern, activation in _SETTINGS if re.match(pattern, name))


def ability(name: str) -> str:
    """The ability that a backend must have for a tensor to matter.

    Args:
        name: Canonical name of the tensor.

    Returns:
        ``"encode"``, ``"images"`` or ``"videos"``, see :class:`~.backends.base.Backend`.
    """
    if name.startswith("image_encoder."):
        return "encode"
    return "videos" if _FOR_VIDEOS.match(name) else "images"


def encodes(name: str) -> bool:
    """Whether the features of an image, which are computed before any prompt, depend on a tensor.

    Args:
        name: Canonical name of the tensor.

    Returns:
        True for the image encoder, and for what the predictor adds to its features.
    """
    return name.startswith(("image_encoder.", "sam_mask_decoder.conv_s", "no_mem_embed"))
