#!/usr/bin/env bash
# onnxruntime 1.32.0: a bicubic `Resize` of a constant is computed anew at each load, and slowly. The
# position embedding of an image encoder (96 x 7 x 7, stretched to 256 x 256) makes a model of 19 KB take a
# second to load, longer than the rest of an encoder of 100 MB. Stretched by two products, with the same
# weights in two small matrices, it has the same values and loads at once.
# Seen (seconds to load, median of five, two cores):
#   Resize, cubic 0.92     two products 0.02; largest difference 7e-06
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnxruntime==1.32.0 onnx==1.23.0 numpy==2.4.6
cd "$folder"
ORT_DISABLE_TELEMETRY=1 venv/bin/python - 2>log <<'PYTHON' || { cat log >&2; exit 1; }
import statistics
import sys
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SMALL, LARGE, A = 96, 7, 256, -0.75
SHAPE = [1, CHANNELS, LARGE, LARGE]


def cubic(distance):
    """Keys' kernel."""
    d = abs(distance)
    if d <= 1:
        return (A + 2) * d**3 - (A + 3) * d**2 + 1
    return A * d**3 - 5 * A * d**2 + 8 * A * d - 4 * A if d < 2 else 0.0


def stretching():
    """The matrix that stretches one axis, with the outermost values repeated beyond the edge."""
    matrix = np.zeros((LARGE, SMALL), np.float32)
    for row in range(LARGE):
        place = (row + 0.5) * SMALL / LARGE - 0.5
        for tap in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            matrix[row, min(max(tap, 0), SMALL - 1)] += cubic(place - tap)
    return matrix


small = np.random.default_rng(0).standard_normal((1, CHANNELS, SMALL, SMALL), np.float32)
ways = {
    "Resize, cubic": (
        [
            helper.make_node(
                "Resize",
                ["small", "", "", "sizes"],
                ["large"],
                mode="cubic",
                cubic_coeff_a=A,
                coordinate_transformation_mode="pytorch_half_pixel",
            )
        ],
        {"small": small, "sizes": np.array(SHAPE)},
    ),
    "two products": (
        [
            helper.make_node("MatMul", ["rows", "small"], ["taller"]),
            helper.make_node("MatMul", ["taller", "columns"], ["large"]),
        ],
        {"small": small, "rows": stretching(), "columns": stretching().T.copy()},
    ),
}
given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)]
made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)]
seconds, values = {}, {}
for name, (nodes, constants) in ways.items():
    added = helper.make_node("Add", ["large", "x"], ["y"])
    weights = [numpy_helper.from_array(array, key) for key, array in constants.items()]
    graph = helper.make_graph([*nodes, added], "stretched", given, made, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    data, taken = model.SerializeToString(), []
    for _ in range(5):
        start = time.perf_counter()
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        taken.append(time.perf_counter() - start)
    seconds[name] = statistics.median(taken)
    (values[name],) = session.run(None, {"x": np.zeros(SHAPE, np.float32)})
    print(f"{name}: {seconds[name]:.2f} s for {len(data) / 1e3:.0f} KB")
slow, fast = ways
difference = np.abs(values[slow] - values[fast]).max()
print(f"largest difference: {difference:.1e}")
if difference > 1e-4 or seconds[slow] < 5 * seconds[fast]:
    sys.exit("changed: both take about the same, or their values differ")
PYTHON
