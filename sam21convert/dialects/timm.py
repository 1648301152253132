"""The names of timm's ``hieradet_sam2.py``: only the trunk, for models like ``sam2_hiera_tiny``."""

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
    # timm's model ends in a norm that SAM 2 does not have, and it loads strictly: both tensors must
    # be there, so they get the values of a freshly built norm.
    constants=(
        ConstantVector("head.norm.weight", 1.0, *_WIDTH),
        ConstantVector("head.norm.bias", 0.0, *_WIDTH),
    ),
    task="trunk",
    containers=("timm folder", "safetensors"),
)
