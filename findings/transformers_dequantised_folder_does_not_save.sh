#!/usr/bin/env bash
# transformers 5.23.0 with bitsandbytes 0.50.0: `dequantize()` and then `save_pretrained` works if
# the model was quantised while it was loaded, and raises a NotImplementedError without a message if
# it comes from a folder that was saved quantised, where one needs it most. The floats are there,
# but saving undoes what loading did, and cannot quantise backwards. The way out has a name that
# sounds like the contrary: `save_original_format=False`; its floats are the same. And once
# the quantised model was saved, `dequantize()` itself fails: saving left a string as its dtype.
# Seen with torch 2.13.0 and a small random Sam2Model, alike with 4 and 8 bits:
#   quantised while loading     saved
#   saved quantised before      RuntimeError("Invalid device string: 'float32'")
#   from a quantised folder     NotImplementedError()
#   save_original_format=False  saved, the same floats
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export CUDA_VISIBLE_DEVICES="" HF_HUB_OFFLINE=1
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 bitsandbytes==0.50.0 \
    accelerate==1.15.0 safetensors==0.8.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import torch
from safetensors.torch import load_file
from transformers import BitsAndBytesConfig, Sam2Config, Sam2Model
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
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
Sam2Model(Sam2Config(vision_config=vision)).save_pretrained("floats")


def save(model, folder, **options):
    try:
        model.dequantize().save_pretrained(folder, **options)
    except (NotImplementedError, RuntimeError) as error:
        return repr(error)
    return "saved"


def compared():
    one, other = (load_file(f"{name}/model.safetensors") for name in ("direct", "around"))
    same = one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
    return f", {'the same' if same else 'other'} floats"


stated = {
    "quantised while loading": "saved",
    "saved quantised before": """RuntimeError("Invalid device string: 'float32'")""",
    "from a quantised folder": "NotImplementedError()",
    "save_original_format=False": "saved, the same floats",
}
for bits in (4, 8):
    how = BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
    model = Sam2Model.from_pretrained("floats", quantization_config=how)
    seen = {"quantised while loading": save(model, "direct")}
    model = Sam2Model.from_pretrained("floats", quantization_config=how)
    model.save_pretrained("small")
    seen["saved quantised before"] = save(model, "refused")
    model = Sam2Model.from_pretrained("small")
    seen["from a quantised folder"] = save(model, "refused")
    model = Sam2Model.from_pretrained("small")
    around = save(model, "around", save_original_format=False)
    seen["save_original_format=False"] = around + compared()
    for what, outcome in seen.items():
        print(f"{bits} bits, {what:26}  {outcome}")
    if seen != stated:
        sys.exit("changed: another outcome than stated")
PYTHON
