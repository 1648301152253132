#!/usr/bin/env bash
# torch 2.13.0, torch.distributed.checkpoint: HuggingFaceStorageWriter with enable_consolidation
# writes every tensor without axes (a learned temperature, the weight of a loss) as zero into the
# file that is to be loaded, and says nothing. The shards that it is put together from are right,
# and so is a file that is written without that step. Whoever trains a head with such a parameter
# in several processes and publishes the consolidated file has lost it.
# Seen:
#   tensor       saved     shard     consolidated
#   scale        3.5       3.5       0.0
#   one axis     3.5       3.5       3.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export CUDA_VISIBLE_DEVICES=""
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 safetensors==0.8.0 numpy==2.4.6
cd "$folder"
venv/bin/python 2>log - <<'PYTHON' || { cat log >&2; exit 1; }
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import HuggingFaceStorageWriter, save

saved = {"scale": torch.tensor(3.5), "one axis": torch.tensor([3.5]), "weight": torch.ones(2, 3)}
writer = HuggingFaceStorageWriter("out", save_distributed=True, enable_consolidation=True)
save(saved, storage_writer=writer, no_dist=True)
[shard], [whole] = (map(load_file, Path(at).glob("*.safetensors")) for at in ("out/sharded", "out"))
print(f"{'tensor':13}{'saved':10}{'shard':10}consolidated")
for name in ("scale", "one axis"):
    values = [f"{one[name].item():<10}" for one in (saved, shard, whole)]
    print(f"{name:13}{''.join(values)}".rstrip())
if not all(torch.equal(shard[name], saved[name]) for name in saved):
    sys.exit("changed: the shards are not what was saved")
if not torch.equal(whole["one axis"], saved["one axis"]):
    sys.exit("changed: tensors with axes are wrong as well")
if whole["scale"].item() != 0:
    sys.exit("changed: a tensor without axes keeps its value")
PYTHON
