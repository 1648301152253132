#!/usr/bin/env bash
# PEFT 0.21.2: an OFT adapter of a convolution whose kernel is larger than 1 x 1 computes one
# function while it is an adapter and another once it is merged. As an adapter it takes the picture
# apart into overlapping patches, rotates each, and adds them up again, so that a pixel counts as
# often as there are patches that hold it: 49 times before a kernel of 7 x 7. This is so even where
# nothing was trained and the rotation is the identity. Merged, the weights are rotated, as OFT is
# meant. So what was trained and evaluated is not what the merged file computes, without a word.
# Convolutions of 1 x 1, and LoRA, are right.
# All that has four dimensions is taken for the input of a convolution, too: at the linear layers
# of SAM 2's image encoder, whose input is B x H x W x C, OFT ends in a RuntimeError about a shape.
# Seen with transformers 5.23.0, torch 2.13.0 and a small random Sam2Model, whose patch embedding
# is such a convolution; untrained adapters, and the output's distance from that without one,
# relative to its norm:
#   lora                as an adapter  0.00, merged 0.00
#   oft                 as an adapter 39.97, merged 0.00
#   oft of qkv          RuntimeError
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
from peft import LoraConfig, OFTConfig, get_peft_model
from transformers import Sam2Config, Sam2Model

warnings.simplefilter("ignore")
torch.manual_seed(0)
torch.set_grad_enabled(False)
backbone = dict(
    model_type="sam2_hiera_det_model",
    hidden_size=16,
    embed_dim_per_stage=[16, 32, 64, 128],
    num_attention_heads_per_stage=[1, 2, 4, 8],
    blocks_per_stage=[1, 1, 1, 1],
    global_attention_blocks=[2],
)
vision = dict(backbone_config=backbone, backbone_channel_list=[128, 64, 32, 16])
base = Sam2Model(Sam2Config(vision_config=vision)).eval()
picture = torch.rand(1, 3, 128, 128)


def embedded(model):
    return model.vision_encoder.backbone.patch_embed(picture)


layer = ["patch_embed.projection"]
plain, seen = embedded(base), {}
for name, config in {
    "lora": LoraConfig(r=4, target_modules=layer),
    "oft": OFTConfig(r=0, oft_block_size=7, target_modules=layer),
}.items():
    model = get_peft_model(copy.deepcopy(base), config).eval()
    found = [embedded(model.get_base_model()), embedded(model.merge_and_unload())]
    seen[name] = [float((one - plain).norm() / plain.norm()) for one in found]
    print("{:19} as an adapter {:5.2f}, merged {:4.2f}".format(name, *seen[name]))
model = get_peft_model(
    copy.deepcopy(base), OFTConfig(r=0, oft_block_size=8, target_modules=["qkv"])
)
try:
    model.get_base_model().vision_encoder(torch.rand(1, 3, 1024, 1024))
    sys.exit("changed: OFT runs at layers with an input of four dimensions")
except RuntimeError as error:
    if "shape" not in str(error):
        raise
    print("oft of qkv          RuntimeError")
if max(*seen["lora"], seen["oft"][1]) > 0.001 or seen["oft"][0] < 1:
    sys.exit("changed: OFT of a convolution is the same before and after merging")
PYTHON
