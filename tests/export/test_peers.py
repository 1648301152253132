"""Other programs run the graphs, in an environment of their own, and give the model's answers."""

from __future__ import annotations

import json
import subprocess
import venv
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sam21convert
from sam21convert.export.check import BOUND, relative
from sam21convert.model.image_predictor import pixels_of
from sam21convert.prediction.draw import scene

from ..support.exports import Exported

# samexporter asks for one version of torch, which its runner does not import.
ALONE = ("samexporter==0.5.0",)
PACKAGES = (
    *("numpy", "onnxruntime", "opencv-python-headless", "openvino==2026.4.1"),
    *("onnxslim==0.1.98", "onnxsim==0.8.1"),
)

SAMEXPORTER = """
import sys
import cv2
import numpy as np
from samexporter.sam2_onnx import SegmentAnything2ONNX

folder, out = sys.argv[1:]
graphs = [f"{folder}/sam2.1_debug.{name}.onnx" for name in ("encoder", "decoder")]
runner = SegmentAnything2ONNX(*graphs)
found = runner.encode(cv2.imread("picture.png"))
point = {"type": "point", "data": [45, 79], "label": 1}
box = {"type": "rectangle", "data": [20, 40, 90, 110]}
levels = found["image_embedding"], found["high_res_feats_0"], found["high_res_feats_1"]
kept = {f"best{n}": runner.predict_masks(found, [one])[0, 0] for n, one in enumerate((point, box))}
given = [np.array([[45, 79]], np.float32), np.array([[20, 40], [90, 110]], np.float32)]
labels = [np.array([1], np.float32), np.array([2, 3], np.float32)]
masks, ious = runner.decoder.infer(runner.decoder.prepare_inputs(*levels, given, labels))
np.savez(out, masks=masks, ious=ious, **kept)
"""

OPENVINO = """
import sys
import numpy as np
import openvino

folder, out, *point = sys.argv[1:]
core = openvino.Core()
encoder, decoder = (
    core.compile_model(f"{folder}/onnx/{name}.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for name in ("vision_encoder", "prompt_encoder_mask_decoder")
)
features = encoder({"pixel_values": np.load("pixels.npy")})
levels = {f"image_embeddings.{n}": features[f"image_embeddings.{n}"] for n in range(3)}
found = decoder({
    "input_points": np.array(point, np.float32).reshape(1, 1, 1, 2),
    "input_labels": np.ones((1, 1, 1), np.int64),
    "input_boxes": np.zeros((1, 0, 4), np.float32),
    **levels,
})
np.savez(out, masks=found["pred_masks"], ious=found["iou_scores"])
"""

REWRITTEN = """
import sys
import numpy as np
import onnx
import onnxruntime
import onnxsim
import onnxslim

folder, out, *names = sys.argv[1:]

def answers(model):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    draw = np.random.default_rng(0)
    given = {}
    for one in session.get_inputs():
        shape = [axis if isinstance(axis, int) else 2 for axis in one.shape]
        whole = one.type == "tensor(int64)"
        numbers = draw.integers(0, 2, shape) if whole else draw.standard_normal(shape, np.float32)
        given[one.name] = numbers
    return session.run(None, given)

found = {}
for name in names:
    model = onnx.load(f"{folder}/onnx/{name}.onnx")
    simple, sound = onnxsim.simplify(model)
    assert sound
    slim = onnxslim.slim(onnx.load(f"{folder}/onnx/{name}.onnx"))
    for program, rewritten in (("as it is", model), ("onnxslim", slim), ("onnxsim", simple)):
        for number, array in enumerate(answers(rewritten)):
            found[f"{name} {number} {program}"] = array
np.savez(out, **found)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the other programs."""
    home = tmp_path_factory.mktemp("peers")
    venv.create(home, with_pip=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q"]
    for words in (["--no-deps", *ALONE], PACKAGES):
        done = subprocess.run([*pip, *words], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"pip cannot install {words[-1]}: {done.stderr.strip().splitlines()[-1]}")
    return home / "bin" / "python"


def answers(python: Path, program: str, home: Path, *words: object) -> dict[str, Any]:
    """What a program saves."""
    line = [str(python), "-c", program, str(words[0]), "out.npz", *map(str, words[1:])]
    done = subprocess.run(line, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(home / "out.npz") as file:
        return dict(file)


@pytest.mark.slow
def test_the_runner_of_samexporter(newer: Exported, python: Path, tmp_path: Path) -> None:
    """It sends a flag for each object, which its own files do not take."""
    config = newer.model.config
    sam21convert.export_onnx(
        newer.weights, tmp_path / "out", layout="samexporter", variants=("fp32",), config=config
    )
    side = newer.model.image_size
    Image.fromarray(scene(side)).save(tmp_path / "picture.png")
    found = answers(python, SAMEXPORTER, tmp_path, tmp_path / "out")
    points = torch.tensor([[[45.0, 79], [0, 0]], [[20, 40], [90, 110]]])
    labels = torch.tensor([[1, -1], [2, 3]])
    with torch.inference_mode():
        features = newer.model.encode_image(pixels_of(scene(side), side))
        wanted = newer.model.predict_masks(features, points, labels)
    masks, ious = wanted.logits.clamp(-32, 32).numpy(), wanted.iou.numpy()
    assert relative(masks, found["masks"]) < BOUND
    assert relative(ious, found["ious"]) < BOUND
    assert relative(masks, found["masks"][:, ::-1]) > 100 * BOUND
    for number, count in ((0, 1), (1, 2)):
        rows = slice(number, number + 1)
        with torch.inference_mode():
            own = newer.model.predict_masks(features, points[rows, :count], labels[rows, :count])
        best = own.logits[:, int(own.iou[0].argmax())].clamp(-32, 32)[None]  # 1, 1, S/4, S/4
        large = torch.nn.functional.interpolate(best, size=(side, side), mode="bilinear")
        assert relative(large[0, 0].numpy(), found[f"best{number}"]) < BOUND


@pytest.mark.slow
def test_openvino(newer: Exported, python: Path, tmp_path: Path) -> None:
    expected = json.loads((newer.folder / "golden" / "expected.json").read_text())
    side = newer.model.image_size
    np.save(tmp_path / "pixels.npy", pixels_of(scene(side), side).numpy())
    found = answers(python, OPENVINO, tmp_path, newer.folder, *expected["points"][0])
    logits = np.frombuffer(b64decode(expected["logits"]["float32"]), "<f4")
    logits = logits.reshape(expected["logits"]["shape"])
    assert relative(logits, found["masks"][0, 0]) < BOUND
    assert relative(np.array(expected["iou_scores"]), found["ious"][0, 0]) < BOUND
    assert relative(logits, found["masks"][0, 0, ::-1]) > 100 * BOUND


@pytest.mark.slow
@pytest.mark.parametrize("program", ["onnxslim", "onnxsim"])
def test_programs_that_rewrite_graphs(
    newer: Exported, python: Path, tmp_path: Path, program: str
) -> None:
    names = sorted(path.stem for path in (newer.folder / "onnx").glob("*.onnx"))
    names = [name for name in names if not name.endswith(("_fp16", "_quantized"))]
    found = answers(python, REWRITTEN, tmp_path, newer.folder, *names)
    as_is = {name: found[name] for name in found if name.endswith("as it is")}
    assert len({name.split()[0] for name in as_is}) == len(names) == 5
    for name, wanted in as_is.items():
        rewritten = found[name.replace("as it is", program)]
        assert relative(wanted, rewritten) < BOUND, name
        assert relative(wanted, rewritten[..., ::-1]) > BOUND or wanted.shape[-1] == 1, name
