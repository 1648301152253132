"""transformers.js in Node loads an exported folder, and gives the logits of our model."""

from __future__ import annotations

import json
import re
import subprocess
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sam21convert
from sam21convert.model.image_predictor import pixels_of
from sam21convert.prediction.draw import scene
from sam21convert.workflows.publish.repository import Repository

from .conftest import SIDE

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


@pytest.mark.network
def test_the_logits_are_those_of_our_model(exported: Path, node: Path) -> None:
    expected = json.loads((exported / "golden" / "expected.json").read_text())
    pixels_of(scene(SIDE), SIDE).numpy().astype("<f4").tofile(node / "pixels.bin")
    (node / "run.mjs").write_text(PROGRAM)
    (point,) = expected["points"]
    line = ["node", "run.mjs", f"{exported.parent}/", exported.name, SIDE, *point]
    done = subprocess.run([*map(str, line)], cwd=node, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shape, ious = json.loads(done.stdout.splitlines()[-1])
    assert shape == [1, 1, *expected["logits"]["shape"]]
    found = np.fromfile(node / "logits.bin", "<f4")
    wanted = np.frombuffer(b64decode(expected["logits"]["float32"]), "<f4")
    scale = np.abs(wanted).max()
    assert np.abs(found - wanted).max() / scale < 1e-5
    assert ious == pytest.approx(expected["iou_scores"], abs=1e-5)
    assert np.abs(found[::-1] - wanted).max() / scale > 1e-2  # what another answer would give


@pytest.mark.network
def test_the_program_of_a_card_runs(published: Repository, node: Path) -> None:
    """With the config.json of the model for transformers, which is one for videos."""
    (program,) = re.findall(r"```js\n(.*?)```", (published.folder / "README.md").read_text(), re.S)
    local = program.replace(published.repo_id, published.folder.name)
    settings = {"allowRemoteModels": False, "localModelPath": f"{published.folder.parent}/"}
    first = (
        'import { env } from "@huggingface/transformers";\n'
        f"Object.assign(env, {json.dumps(settings)});\n"
    )
    told = "console.log(JSON.stringify([iou_scores.dims, masks[0].dims, [...iou_scores.data]]));"
    (node / "card.mjs").write_text(f"{first}{local}\n{told}\n")
    Image.fromarray(scene(480)).save(node / "picture.jpg", quality=95)
    done = subprocess.run(["node", "card.mjs"], cwd=node, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    scores, masks, ious = json.loads(done.stdout.splitlines()[-1])
    assert (scores, masks) == ([1, 1, 3], [1, 3, 480, 480])
    prompts = [sam21convert.Point(210, 350)]
    found = sam21convert.predict_image(node / "picture.jpg", published.folder, prompts=prompts)
    # Its processor shrinks pictures in another way.
    assert ious == pytest.approx([mask.iou for mask in found.details], abs=0.05)
