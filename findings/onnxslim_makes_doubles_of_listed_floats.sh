#!/usr/bin/env bash
# OnnxSlim 0.1.98: a Constant whose numbers stand in the attribute `value_floats`, which ONNX 1.23
# defines as 32-bit floats, becomes an initialiser of 64-bit ones. Slimming says nothing, and what
# it writes is no valid model, which onnxruntime does not load. torch.onnx.export with
# optimize=False, which keeps the weights apart, spells the factors of an upsampling by nearest
# neighbours that way, such as that in the neck of SAM 2. Lists of integers keep their type.
# Seen, with onnx 1.23.2 and onnxruntime 1.32.0:
#   value           slimmed to FLOAT    onnxruntime loads it
#   value_floats    slimmed to DOUBLE   INVALID_GRAPH
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnxslim==0.1.98 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
ORT_DISABLE_TELEMETRY=1 venv/bin/python 2>log - <<'PYTHON' || { cat log >&2; exit 1; }
import sys

import onnx
import onnxruntime
import onnxslim
from onnx import TensorProto, helper

FACTORS = [1.0, 1.0, 2.0, 2.0]
spellings = {
    "value": {"value": helper.make_tensor("factors", TensorProto.FLOAT, [4], FACTORS)},
    "value_floats": {"value_floats": FACTORS},
}
found = {}
for name, attribute in spellings.items():
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["factors"], **attribute),
            helper.make_node("Resize", ["x", "", "factors"], ["y"], mode="nearest"),
        ],
        "upsampling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4, 4])],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnxruntime.InferenceSession(model.SerializeToString())
    slimmed = onnxslim.slim(model)
    [factors] = slimmed.graph.initializer
    kind = TensorProto.DataType.Name(factors.data_type)
    try:
        onnxruntime.InferenceSession(slimmed.SerializeToString())
        said = "onnxruntime loads it"
    except Exception as error:
        said = "INVALID_GRAPH" if "INVALID_GRAPH" in str(error) else str(error)
    found[name] = kind, said
    print(f"{name:15} slimmed to {kind:8} {said}")
if found["value"] != ("FLOAT", "onnxruntime loads it"):
    sys.exit("changed: a tensor of floats is not kept")
if found["value_floats"] != ("DOUBLE", "INVALID_GRAPH"):
    sys.exit("changed: a list of floats is kept")
PYTHON
