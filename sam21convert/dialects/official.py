"""The names of the official code, which are the canonical names."""

from __future__ import annotations

from dataclasses import replace

from .rules import Alias, Dialect, Rename
from .transformers import HF_IMAGE

_FUSER = "memory_encoder.fuser.layers.{i}"

OFFICIAL = Dialect(
    name="official",
    summary="state dict of the official code",
    covers=("",),
    rules=(Rename("", ""),),
    containers=("torch zip", "safetensors"),
    # Old versions of transformers renamed every "gamma" to "weight"; Sa2VA calls it "g_weight".
    aliases=(
        Alias(f"{_FUSER}.gamma", (f"{_FUSER}.weight", f"{_FUSER}.g_weight", f"{_FUSER}.scale")),
    ),
)
# In graphs for ONNX runtimes alone; other files are converted to HF_IMAGE.
OFFICIAL_IMAGE = replace(
    OFFICIAL,
    name="official-image",
    summary="names of the official code: one image, no memory",
    covers=HF_IMAGE.covers,
    task="image",
    containers=(),
    aliases=(),
)
