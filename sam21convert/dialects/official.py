"""The names of the official code, which are the canonical names."""

from __future__ import annotations

from .rules import Alias, Dialect, Rename

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
