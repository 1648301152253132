"""transformers.js in Node loads an exported folder, and gives the logits of our model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

from sam21convert.model.image_predictor import pixels_of
from sam21convert.prediction.draw import scene

from .conftest import SIDE

VERSION = "4.3.2"  # of @huggingface/transformers
PROGRAM = """
import { readFileSync, writeFileSync } from "node:fs";
import { Sam2Model, Tensor, env } from "@huggingface/transformers";

const [home, name, side, ...point] = process.argv.slice(2);
Object.assign(env, { allowRemoteModels: false, localModelPath: home });
const model = await Sam2Model.from_pretrained(name, { dtype: "fp32" });
const pixels = new Float32Array(readFileSync("pixels.bin").buffer);
const shape = [1, 3, Number(side), Number(side)];
const output = await model({
  pixel_values: new Tensor("float32", pixels, shape),
  input_points: new Tensor("float32", Float32Array.from(point.map(Number)), [1, 1, 1, 2]),
  input_labels: new Tensor("int64", BigInt64Array.from([1n]), [1, 1, 1]),
});
writeFileSync("logits.bin", output.pred_masks.data);
console.log(JSON.stringify([output.pred_masks.dims, [...output.iou_scores.data]]));
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Node finds the library."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine")
    folder = tmp_path_factory.mktemp("node")
    line = [npm, "install", "--no-audit", "--no-fund", f"@huggingface/transformers@{VERSION}"]
    # Else a script of onnxruntime-node downloads files for CUDA.
    settings = os.environ | {"ONNXRUNTIME_NODE_INSTALL": "skip"}
    done = subprocess.run(line, cwd=folder, env=settings, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot install it: {done.stderr.strip().splitlines()[:1]}")
    return folder


@pytest.mark.network
def test_the_logits_are_those_of_our_model(exported: Path, home: Path) -> None:
    expected = json.loads((exported / "golden" / "expected.json").read_text())
    pixels_of(scene(SIDE), SIDE).numpy().astype("<f4").tofile(home / "pixels.bin")
    (home / "run.mjs").write_text(PROGRAM)
    (point,) = expected["points"]
    line = ["node", "run.mjs", f"{exported.parent}/", exported.name, SIDE, *point]
    done = subprocess.run([*map(str, line)], cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shape, ious = json.loads(done.stdout.splitlines()[-1])
    assert shape == [1, 1, *expected["logits"]["shape"]]
    found = np.fromfile(home / "logits.bin", "<f4")
    wanted = np.frombuffer(b64decode(expected["logits"]["float32"]), "<f4")
    scale = np.abs(wanted).max()
    assert np.abs(found - wanted).max() / scale < 1e-5
    assert ious == pytest.approx(expected["iou_scores"], abs=1e-5)
    assert np.abs(found[::-1] - wanted).max() / scale > 1e-2  # what another answer would give
