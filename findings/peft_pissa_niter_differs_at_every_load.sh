#!/usr/bin/env bash
# PEFT 0.21.2: an adapter trained with `init_lora_weights="pissa_niter_16"` (the quick one of the
# two ways to start as PiSSA) has no meaning of its own. The start, a part of the weight, is taken
# off the base again whenever the adapter is loaded; it comes from a randomised SVD, and neither
# its result nor a seed is saved. So the same file on the same base gives other weights than were
# trained, and at the next load others again, without a word. Who merges it makes another model.
# Saved with `path_initial_model_for_weight_conversion` it is a plain LoRA, and right.
# Seen with transformers 5.23.0, torch 2.13.0 and a small random Sam2Model of rank 4; the worst
# layer, relative to the norm of its weight:
#   plain LoRA                 changed by training 0.15, loaded 0.00 off, loads differ by 0.00
#   pissa                      changed by training 0.14, loaded 0.00 off, loads differ by 0.00
#   pissa_niter_16             changed by training 0.14, loaded 0.39 off, loads differ by 0.34
#   pissa_niter_16, converted  changed by training 0.14, loaded 0.00 off, loads differ by 0.00
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


def load(adapter):
    return PeftModel.from_pretrained(copy.deepcopy(base), adapter).merge_and_unload().state_dict()


def worst(one, other):
    before = base.state_dict()
    return max(float((one[n] - other[n]).norm() / before[n].norm()) for n in layers)


seen = {}
starts = {"plain LoRA": True, "pissa": "pissa", "pissa_niter_16": "pissa_niter_16"}
for what, start in starts.items():
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["qkv"], init_lora_weights=start)
    model = get_peft_model(copy.deepcopy(base), config)
    model.peft_config["default"].init_lora_weights = True  # as PEFT's guide to PiSSA says
    model.save_pretrained("start")
    model.peft_config["default"].init_lora_weights = start
    with torch.no_grad():  # instead of a training
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01 * torch.randn_like(parameter))
    trained = copy.deepcopy(model).merge_and_unload().state_dict()
    layers = [n for n in trained if n.endswith("qkv.weight")]
    model.save_pretrained("adapter")
    folders = {what: "adapter"}
    if what == "pissa_niter_16":
        model.save_pretrained("converted", path_initial_model_for_weight_conversion="start")
        folders["pissa_niter_16, converted"] = "converted"
    for name, folder in folders.items():
        first, second = load(folder), load(folder)
        change = worst(trained, base.state_dict())
        seen[name] = [worst(first, trained), worst(first, second)]
        print(f"{name:25}  changed by training {change:.2f}", end=", ")
        print("loaded {:.2f} off, loads differ by {:.2f}".format(*seen[name]))
for name, numbers in seen.items():
    if name == "pissa_niter_16" and min(numbers) < 0.1:
        sys.exit("changed: this adapter has a meaning now")
    if name != "pissa_niter_16" and max(numbers) > 0.001:
        sys.exit(f"changed: {name} is not loaded as it was trained")
PYTHON
