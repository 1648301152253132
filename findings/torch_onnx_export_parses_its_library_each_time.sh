#!/usr/bin/env bash
# torch 2.13.0 with onnxscript 0.7.2: each call of torch.onnx.export reads the source of all 500
# functions of the library of operators again and parses it, whatever the model needs of them, and
# keeps nothing for the next call. For a small graph that is two thirds of the export. A model
# that is exported in parts, as SAM 2 has to be (encoder, decoder, memory), pays it for each part.
# Seen (on a CPU; the share is of processor time):
#   export 1: 501 functions parsed
#   export 2: 501 functions parsed
#   export 3: 501 functions parsed
#   share of it in an export of one linear layer: 0.66 to 0.72
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export CUDA_VISIBLE_DEVICES=""
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnx-ir==1.1.0
cd "$folder"
venv/bin/python - 2>log <<'PYTHON' || { cat log >&2; exit 1; }
import ast
import sys
import time

import torch
from torch.onnx._internal.exporter import _registration

model, inputs = torch.nn.Linear(2, 2).eval(), (torch.zeros(1, 2),)
torch.onnx.export(model, inputs, dynamo=True, verbose=False)  # imports what it needs

parse, registry = ast.parse, _registration.ONNXRegistry.from_torchlib
parsed, spent = [], [0.0]


def counting(source, *more, **options):
    tree = parse(source, *more, **options)
    parsed.extend(one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef))
    return tree


def timed(*_, **options):
    began = time.process_time()
    found = registry(**options)
    spent[0] += time.process_time() - began
    return found


ast.parse = counting
seen = []
for number in range(3):
    parsed.clear()
    torch.onnx.export(model, inputs, dynamo=True, verbose=False)
    seen.append(len(parsed))
    print(f"export {number + 1}: {seen[-1]} functions parsed")
ast.parse = parse
_registration.ONNXRegistry.from_torchlib = timed
began = time.process_time()
torch.onnx.export(model, inputs, dynamo=True, verbose=False)
share = spent[0] / (time.process_time() - began)
print(f"share of it in an export of one linear layer: {share:.2f}")
if min(seen[1:]) < 100:
    sys.exit("changed: later exports parse little")
if share < 0.3:
    sys.exit("changed: it is a small part of an export")
PYTHON
