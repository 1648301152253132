"""The names of timm's ``hieradet_sam2.py``: the trunk alone, as ``sam2_hiera_tiny`` and so on."""

from __future__ import annotations

from .rules import ConstantVector, Dialect, Rename

_TRUNK = "image_encoder.trunk"
_MLP = f"{_TRUNK}.blocks.{{i}}.mlp.layers"
_WIDTH = ("image_encoder.neck.convs.0.conv.weight", 1)  # the channels of the trunk's last stage

TIMM = Dialect(
    name="timm",
    summary="timm: the trunk of the image encoder",
    covers=(_TRUNK,),
    rules=(
        Rename(_TRUNK, ""),
        Rename(f"{_MLP}.0", "blocks.{i}.mlp.fc1"),
        Rename(f"{_MLP}.1", "blocks.{i}.mlp.fc2"),
    ),
    # timm ends a backbone in a norm that SAM 2 never had; these values leave it as it begins.
    constants=(
        ConstantVector("head.norm.weight", 1.0, *_WIDTH),
        ConstantVector("head.norm.bias", 0.0, *_WIDTH),
    ),
    task="trunk",
    containers=("timm folder", "safetensors"),
)
