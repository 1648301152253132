"""ComfyUI's SAM 2 nodes: the official names without a wrapper, in safetensors of a fixed name.

Source: ``load_model.py`` of ComfyUI-segment-anything-2.
"""

from __future__ import annotations

from dataclasses import replace

from .official import OFFICIAL

COMFYUI = replace(
    OFFICIAL,
    name="comfyui",
    summary="ComfyUI, which reads size and generation from the name of the file",
    containers=("safetensors",),
    file="{stem}_hiera_{size}{dtype}.safetensors",
    notes=(
        (
            "large",
            "ComfyUI's nodes drop the attention windows of the large model (window_spec) and run "
            "it with those of the small ones: its features and masks differ from the model's",
        ),
    ),
)
