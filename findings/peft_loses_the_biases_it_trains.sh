#!/usr/bin/env bash
# PEFT 0.20.0: LoraConfig(bias="lora_only") trains the biases of the layers that get a LoRA, and
# save_pretrained leaves them out of adapter_model.safetensors. It looks for them under the name that
# they had before the layer was wrapped. Nothing is said when the adapter is saved or loaded; the
# loaded model has the biases of the base, and is not the one that was trained. With bias="all" they
# are saved. 0.21.0 saves them in both cases.
# Seen with transformers 5.23.0, torch 2.13.0 and a small random Sam2Model:
#   peft 0.20.0 lora_only: biases trained 4, in the file 0, loaded as trained: False
#   peft 0.20.0 all      : biases trained 4, in the file 4, loaded as trained: True
#   peft 0.21.0 lora_only: biases trained 4, in the file 4, loaded as trained: True
#   peft 0.21.0 all      : biases trained 4, in the file 4, loaded as trained: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export CUDA_VISIBLE_DEVICES="" HF_HUB_OFFLINE=1
python3 -m venv "$folder/venv"
cat > "$folder/look.py" <<'PYTHON'
import copy
import warnings

import peft
import torch
from safetensors.torch import load_file
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
for bias in ("lora_only", "all"):
    settings = peft.LoraConfig(r=4, target_modules=["qkv"], bias=bias)
    model = peft.get_peft_model(copy.deepcopy(base), settings)
    with torch.no_grad():  # instead of a training
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    names = [n for n, _ in base.named_parameters() if n.endswith("qkv.bias")]
    model.save_pretrained(bias)
    trained = model.merge_and_unload().state_dict()
    moved = sum(not torch.equal(trained[n], base.state_dict()[n]) for n in names)
    saved = sum(n.endswith(("qkv.bias", "qkv.base_layer.bias"))
                for n in load_file(f"{bias}/adapter_model.safetensors"))
    again = peft.PeftModel.from_pretrained(copy.deepcopy(base), bias)
    loaded = again.merge_and_unload().state_dict()
    same = all(torch.equal(loaded[n], trained[n]) for n in names)
    print(f"peft {peft.__version__} {bias:9}: biases trained {moved}, in the file {saved}, "
          f"loaded as trained: {same}")
PYTHON
for version in 0.20.0 0.21.0; do
    "$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 "peft==$version" \
        accelerate==1.15.0 safetensors==0.8.0
    (cd "$folder" && venv/bin/python look.py)
done | tee "$folder/seen"
sed -n 's/^#   \(peft .*\)/\1/p' "$0" | diff - "$folder/seen" || {
    echo "changed: other output than stated" >&2
    exit 1
}
