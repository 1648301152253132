#!/usr/bin/env bash
# PEFT 0.21.2: with LoraConfig(bias="all", modules_to_save=[...]) each bias inside such a module
# stands three times in adapter_model.safetensors: under its own name, under
# `modules_to_save.default`, and under `original_module`, which is the value from before the
# training. Weights stand there once. Of the three, PEFT reads only the first: a changed value under
# `modules_to_save.default`, where the trained module itself lies in memory, has no effect.
# Who cuts out what PEFT inserted gets several values for one tensor, and may take the old one.
# Seen with transformers 5.23.0, torch 2.13.0 and a small random Sam2Model, for the bias
# mask_decoder.iou_prediction_head.proj_in.bias:
#   own name         is the value after training; read by PEFT: True
#   modules_to_save  is the value after training; read by PEFT: False
#   original_module  is the value before training; read by PEFT: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export CUDA_VISIBLE_DEVICES="" HF_HUB_OFFLINE=1
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 peft==0.21.2 \
    accelerate==1.15.0 safetensors==0.8.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import copy
import sys
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Sam2Config, Sam2Model

warnings.simplefilter("ignore")
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
base = Sam2Model(Sam2Config(vision_config=vision))
HEAD = "mask_decoder.iou_prediction_head"
config = LoraConfig(
    r=4, target_modules=["qkv"], bias="all", modules_to_save=["iou_prediction_head"]
)
model = get_peft_model(copy.deepcopy(base), config)
with torch.no_grad():  # instead of a training
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn_like(parameter))
trained = copy.deepcopy(model).merge_and_unload().state_dict()[f"{HEAD}.proj_in.bias"]
before = base.state_dict()[f"{HEAD}.proj_in.bias"]
model.save_pretrained("adapter")
file = "adapter/adapter_model.safetensors"
tensors = load_file(file)
if sum(HEAD in name and name.endswith("proj_in.weight") for name in tensors) != 1:
    sys.exit("changed: the weight stands there more than once")


def merged():
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), "adapter")
    return loaded.merge_and_unload().state_dict()[f"{HEAD}.proj_in.bias"]


seen = []
for what, inserted in (
    ("own name", ""),
    ("modules_to_save", ".modules_to_save.default"),
    ("original_module", ".original_module"),
):
    name = f"base_model.model.{HEAD}{inserted}.proj_in.bias"
    value = tensors[name]
    when = [w for w, t in (("after", trained), ("before", before)) if torch.equal(value, t)]
    save_file({**tensors, name: value + 1}, file, metadata={"format": "pt"})
    read = not torch.equal(merged(), trained)
    seen.append((*when, read))
    print(f"{what:15}  is the value {' '.join(when)} training; read by PEFT: {read}")
if seen != [("after", True), ("after", False), ("before", False)]:
    sys.exit("changed: other values than stated")
PYTHON
