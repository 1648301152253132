#!/usr/bin/env bash
# transformers 5.23.0 with torchao 0.18.0: a Sam2VideoModel quantised by torchao is saved without a
# complaint, and the folder cannot be loaded again: names such as no_memory_embedding, of tensors
# that are not even quantised, have no dot, and torchao divides every name at its last one. The
# vision encoder alone, whose names all have a dot, goes there and back.
# Whoever has only such a folder has to put the floats together without `from_pretrained`; so
# `dequantize()` is no way out there.
# Seen with torch 2.13.0, small random models, Int8WeightOnlyConfig:
#   Sam2VisionModel: saved, 0 names without a dot, loaded again
#   Sam2VideoModel: saved, 5 names without a dot, not loaded again: RuntimeError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export CUDA_VISIBLE_DEVICES="" HF_HUB_OFFLINE=1
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 torchao==0.18.0 \
    accelerate==1.15.0 safetensors==0.8.0
cd "$folder"
venv/bin/python - 2> errors <<'PYTHON' || { tail -n 5 errors; exit 1; }
import sys

import torch
from safetensors import safe_open
from torchao.quantization import Int8WeightOnlyConfig
from transformers import Sam2VideoConfig, Sam2VideoModel, Sam2VisionModel, TorchAoConfig

torch.manual_seed(0)
backbone = dict(
    model_type="sam2_hiera_det_model",
    hidden_size=16,
    embed_dim_per_stage=[16, 32, 64, 128],
    num_attention_heads_per_stage=[1, 2, 4, 8],
    blocks_per_stage=[1, 1, 1, 1],
    global_attention_blocks=[2],
)
vision = dict(backbone_config=backbone, backbone_channel_list=[128, 64, 32, 16])
config = Sam2VideoConfig(vision_config=vision)
seen = []
for kind, settings in ((Sam2VisionModel, config.vision_config), (Sam2VideoModel, config)):
    kind(settings).save_pretrained("floats")
    how = TorchAoConfig(Int8WeightOnlyConfig())
    kind.from_pretrained("floats", quantization_config=how).save_pretrained("small")
    with safe_open("small/model.safetensors", "pt") as file:
        dotless = sum("." not in name for name in file.keys())
    try:
        kind.from_pretrained("small")
        outcome = "loaded again"
    except (RuntimeError, ValueError) as error:
        outcome = f"not loaded again: {type(error).__name__}"
    seen.append((dotless, outcome))
    print(f"{kind.__name__}: saved, {dotless} names without a dot, {outcome}")
if seen != [(0, "loaded again"), (5, "not loaded again: RuntimeError")]:
    sys.exit("changed: another outcome than stated")
PYTHON
