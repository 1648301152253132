#!/usr/bin/env bash
# torch 2.13.0 with onnxscript 0.7.2: a model with `x.repeat_interleave(n, dim=0)`, where `n` is the size
# of a free axis of another input, is exported to ONNX without an error or a warning. The file then
# runs only if x has one row or n is 1: with the very example that it was traced with, onnxruntime 1.32.0
# stops in an Expand node. The same rows by `x[:, None].expand(-1, n, -1).reshape(...)` are right at
# every size. This is how mask decoders repeat the features of an image for each object, so an export
# that was tried with one image works, and fails with two.
# Seen (rows of x, n):
#   repeat_interleave   (2, 3) refused   (1, 5) right   (3, 2) refused   (2, 1) right
#   expand and reshape  (2, 3) right   (1, 5) right   (3, 2) right   (2, 1) right
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export CUDA_VISIBLE_DEVICES="" ORT_DISABLE_TELEMETRY=1
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
cd "$folder"
venv/bin/python - 2>log <<'PYTHON' || { cat log >&2; exit 1; }
import sys

import numpy as np
import onnxruntime
import torch
from torch.export import Dim

SIZES = (2, 3), (1, 5), (3, 2), (2, 1)


class Repeat(torch.nn.Module):
    def forward(self, x, labels):
        return x.repeat_interleave(labels.shape[1], dim=0)


class Expand(torch.nn.Module):
    def forward(self, x, labels):
        return x[:, None].expand(-1, labels.shape[1], -1).reshape(-1, x.shape[1])


def results(model):
    torch.onnx.export(
        model,
        (torch.randn(2, 4), torch.zeros(2, 3)),
        "model.onnx",
        dynamo=True,
        external_data=False,
        input_names=["x", "labels"],
        output_names=["y"],
        dynamic_shapes=({0: Dim.AUTO}, {0: Dim.AUTO, 1: Dim.AUTO}),
        verbose=False,
    )
    session = onnxruntime.InferenceSession("model.onnx")
    found = []
    for rows, n in SIZES:
        x, labels = torch.randn(rows, 4), torch.zeros(rows, n)
        try:
            (y,) = session.run(None, {"x": x.numpy(), "labels": labels.numpy()})
        except Exception:
            found.append("refused")
        else:
            found.append("right" if np.array_equal(y, model(x, labels).numpy()) else "wrong")
    return found


seen = [results(Repeat()), results(Expand())]
for name, found in zip(("repeat_interleave", "expand and reshape"), seen):
    print(f"{name:19}", "   ".join(f"{size} {what}" for size, what in zip(SIZES, found)))
if seen != [["refused", "right", "refused", "right"], ["right"] * 4]:
    sys.exit("changed: the files run otherwise than stated")
PYTHON
