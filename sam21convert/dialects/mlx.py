"""The names of transformers, with the weights of convolutions channels last, as MLX needs them.

Source: ``mlx/nn/layers/convolution.py`` and ``convolution_transpose.py``.
"""

from __future__ import annotations

from dataclasses import replace

from .rules import Permute
from .transformers import HF_VIDEO

_CONVOLUTION = (0, 2, 3, 1)  # out, in, height, width -> out, height, width, in
_TRANSPOSED = (1, 2, 3, 0)  # in, out, height, width -> out, height, width, in

MLX = replace(
    HF_VIDEO,
    name="mlx",
    summary="MLX: transformers' names, convolutions with the channels last",
    permutes=(
        *(
            Permute(f"{name}.weight", _CONVOLUTION)
            for name in (
                "image_encoder.trunk.patch_embed.proj",
                "image_encoder.neck.convs.{i}.conv",
                *(f"sam_prompt_encoder.mask_downscaling.{k}" for k in (0, 3, 6)),
                "sam_mask_decoder.conv_s{i}",
                *(f"memory_encoder.mask_downsampler.encoder.{k}" for k in (0, 3, 6, 9, 12)),
                "memory_encoder.fuser.layers.{i}.dwconv",
                "memory_encoder.pix_feat_proj",
                "memory_encoder.out_proj",
                "mask_downsample",
            )
        ),
        *(Permute(f"sam_mask_decoder.output_upscaling.{k}.weight", _TRANSPOSED) for k in (0, 3)),
    ),
    containers=("safetensors",),
    metadata=(("format", "mlx"), ("layout", "channels-last")),
)
