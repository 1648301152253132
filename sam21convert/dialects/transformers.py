"""The names of Hugging Face transformers: ``Sam2VideoModel`` (hf-video), ``Sam2Model`` (hf-image).

Source: ``transformers/models/sam2/modeling_sam2.py`` and ``models/sam2_video``.
"""

from __future__ import annotations

from .rules import Alias, Concat, Dialect, Rename, Tied


def _mlp(canonical: str, key: str) -> tuple[Rename, ...]:
    """The rules of a two-layer MLP."""
    return (
        Rename(f"{canonical}.layers.0", f"{key}.proj_in"),
        Rename(f"{canonical}.layers.1", f"{key}.proj_out"),
    )


def _mlp3(canonical: str, key: str) -> tuple[Rename, ...]:
    """The rules of a three-layer MLP; transformers counts only the middle layers, from 0."""
    return (
        Rename(f"{canonical}.layers.0", f"{key}.proj_in"),
        Rename(f"{canonical}.layers.1", f"{key}.layers.0"),
        Rename(f"{canonical}.layers.2", f"{key}.proj_out"),
    )


_BLOCK, _HF_BLOCK = "image_encoder.trunk.blocks.{i}", "vision_encoder.backbone.blocks.{i}"
_TWO_WAY, _HF_TWO_WAY = "sam_mask_decoder.transformer", "mask_decoder.transformer"
_ATTENTION = (
    "self_attn",
    "cross_attn_token_to_image",
    "cross_attn_image_to_token",
)
_FUSER, _HF_FUSER = "memory_encoder.fuser.layers.{i}", "memory_encoder.memory_fuser.layers.{i}"
_MASKS, _HF_MASKS = "memory_encoder.mask_downsampler", "memory_encoder.mask_downsampler"
_POINT_PE = "prompt_encoder.shared_embedding.positional_embedding"

_VISION = (
    Rename("image_encoder.trunk", "vision_encoder.backbone"),
    Rename(
        "image_encoder.trunk.patch_embed.proj", "vision_encoder.backbone.patch_embed.projection"
    ),
    Rename(f"{_BLOCK}.norm{{n}}", f"{_HF_BLOCK}.layer_norm{{n}}"),
    *_mlp(f"{_BLOCK}.mlp", f"{_HF_BLOCK}.mlp"),
    Rename("image_encoder.neck.convs.{i}.conv", "vision_encoder.neck.convs.{i}"),
)

_PROMPT: tuple[Rename | Concat, ...] = (
    Rename("sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", _POINT_PE),
    Concat(
        tuple(f"sam_prompt_encoder.point_embeddings.{k}.weight" for k in range(4)),
        "prompt_encoder.point_embed.weight",
    ),
    Rename("sam_prompt_encoder.not_a_point_embed", "prompt_encoder.not_a_point_embed"),
    Rename("sam_prompt_encoder.no_mask_embed", "prompt_encoder.no_mask_embed"),
    *(
        Rename(f"sam_prompt_encoder.mask_downscaling.{k}", f"prompt_encoder.mask_embed.{name}")
        for k, name in (
            (0, "conv1"),
            (1, "layer_norm1"),
            (3, "conv2"),
            (4, "layer_norm2"),
            (6, "conv3"),
        )
    ),
)

_DECODER = (
    Rename("sam_mask_decoder", "mask_decoder"),
    Rename("sam_mask_decoder.output_upscaling.0", "mask_decoder.upscale_conv1"),
    Rename("sam_mask_decoder.output_upscaling.1", "mask_decoder.upscale_layer_norm"),
    Rename("sam_mask_decoder.output_upscaling.3", "mask_decoder.upscale_conv2"),
    *_mlp3(
        "sam_mask_decoder.output_hypernetworks_mlps.{i}",
        "mask_decoder.output_hypernetworks_mlps.{i}",
    ),
    *_mlp3("sam_mask_decoder.iou_prediction_head", "mask_decoder.iou_prediction_head"),
    *_mlp3("sam_mask_decoder.pred_obj_score_head", "mask_decoder.pred_obj_score_head"),
    *(
        Rename(
            f"{_TWO_WAY}.layers.{{i}}.{attention}.out_proj",
            f"{_HF_TWO_WAY}.layers.{{i}}.{attention}.o_proj",
        )
        for attention in _ATTENTION
    ),
    Rename(f"{_TWO_WAY}.layers.{{i}}.norm{{n}}", f"{_HF_TWO_WAY}.layers.{{i}}.layer_norm{{n}}"),
    *_mlp(f"{_TWO_WAY}.layers.{{i}}.mlp", f"{_HF_TWO_WAY}.layers.{{i}}.mlp"),
    Rename(
        f"{_TWO_WAY}.final_attn_token_to_image.out_proj",
        f"{_HF_TWO_WAY}.final_attn_token_to_image.o_proj",
    ),
    Rename(f"{_TWO_WAY}.norm_final_attn", f"{_HF_TWO_WAY}.layer_norm_final_attn"),
)

_IMAGE = (*_VISION, *_PROMPT, *_DECODER, Rename("no_mem_embed", "no_memory_embedding"))

_MEMORY = (
    Rename("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    Rename("no_mem_pos_enc", "no_memory_positional_encoding"),
    Rename("no_obj_ptr", "no_object_pointer"),
    Rename("no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
    Rename("obj_ptr_tpos_proj", "temporal_positional_encoding_projection_layer"),
    Rename("mask_downsample", "mask_downsample"),
    *_mlp3("obj_ptr_proj", "object_pointer_proj"),
    Rename("memory_attention", "memory_attention"),
    Rename("memory_attention.norm", "memory_attention.layer_norm"),
    Rename("memory_attention.layers.{i}.norm{n}", "memory_attention.layers.{i}.layer_norm{n}"),
    *(
        Rename(
            f"memory_attention.layers.{{i}}.{attention}.out_proj",
            f"memory_attention.layers.{{i}}.{attention}.o_proj",
        )
        for attention in ("self_attn", "cross_attn_image")
    ),
    *(
        Rename(f"{_MASKS}.encoder.{3 * layer + step}", f"{_HF_MASKS}.layers.{layer}.{name}")
        for layer in range(4)
        for step, name in enumerate(("conv", "layer_norm"))
    ),
    Rename(f"{_MASKS}.encoder.12", f"{_HF_MASKS}.final_conv"),
    Rename("memory_encoder.pix_feat_proj", "memory_encoder.feature_projection"),
    Rename("memory_encoder.out_proj", "memory_encoder.projection"),
    Rename(f"{_FUSER}.gamma", f"{_HF_FUSER}.scale"),
    Rename(f"{_FUSER}.dwconv", f"{_HF_FUSER}.depthwise_conv"),
    Rename(f"{_FUSER}.norm", f"{_HF_FUSER}.layer_norm"),
    Rename(f"{_FUSER}.pwconv{{n}}", f"{_HF_FUSER}.pointwise_conv{{n}}"),
)

# transformers 4.56 and 4.57 tie the two tensors and save only one; 5.0 and later need both.
_TIED_POINT_PE = Tied("shared_image_embedding.positional_embedding", of=_POINT_PE)

HF_VIDEO = Dialect(
    name="hf-video",
    summary="transformers Sam2VideoModel",
    covers=("",),
    rules=(*_IMAGE, *_MEMORY),
    containers=("transformers folder", "safetensors"),
    tied=(_TIED_POINT_PE,),
    aliases=(
        Alias(
            f"{_HF_FUSER}.scale",
            (f"{_HF_FUSER}.gamma", f"{_HF_FUSER}.weight", f"{_HF_FUSER}.g_weight"),
        ),
    ),
)

HF_IMAGE = Dialect(
    name="hf-image",
    summary="transformers Sam2Model: one image, no memory",
    covers=("image_encoder", "sam_prompt_encoder", "sam_mask_decoder", "no_mem_embed"),
    rules=_IMAGE,
    task="image",
    containers=("transformers folder", "safetensors"),
    tied=(_TIED_POINT_PE,),
)
