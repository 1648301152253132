#!/usr/bin/env bash
# onnxruntime 1.32.0: the arrays that `run` returns are not copies. Each keeps the whole memory that its
# session has computed in, also when the session is deleted. So features of a picture that are kept for
# later prompts, or the masks of a video, hold as much as the largest run of the encoder, however small
# they are; deleting them, or keeping copies, gives it back.
# Seen (a graph with 200 MB in between, whose result is one number; MB of the process above its start):
#   result kept, session deleted   400 or more; less than 50 once the result is deleted
#   copy kept, session deleted     less than 50
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnxruntime==1.32.0 onnx==1.23.0 numpy==2.4.6
cd "$folder"
ORT_DISABLE_TELEMETRY=1 venv/bin/python - 2>log <<'PYTHON' || { cat log >&2; exit 1; }
import gc
import resource
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

# The mean of the roots of one number, repeated 50 million times.
wide = helper.make_tensor("wide", TensorProto.INT64, [1], [50_000_000])
graph = helper.make_graph(
    [
        helper.make_node("Expand", ["x", "wide"], ["many"]),
        helper.make_node("Sqrt", ["many"], ["roots"]),
        helper.make_node("ReduceMean", ["roots"], ["mean"], keepdims=1),
    ],
    "mean",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
    [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1])],
    [wide],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def megabytes():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def held(keep):
    """Above the start: with what is kept, and without it."""
    before = megabytes()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (mean,) = session.run(None, {"x": np.full(1, 4, np.float32)})
    kept = keep(mean)
    del session, mean
    gc.collect()
    found = [megabytes() - before]
    assert kept == [2]
    del kept
    return [*found, megabytes() - before]


held(np.copy)  # what is loaded once
for name, keep in (("result", lambda array: array), ("copy", np.copy)):
    with_it, without = held(keep)
    print(f"{name:6} kept, session deleted: {with_it:.0f} MB; deleted too: {without:.0f} MB")
    if without > 50 or (with_it > 150) is not (name == "result"):
        sys.exit("changed: something else is held")
PYTHON
