"""An export is opened quickly, without torch, and what is wrong with it is said."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam21convert import packages
from sam21convert.errors import (
    MissingFileError,
    MissingPackageError,
    RefusedError,
    Sam21ConvertError,
    UnreadableError,
    UsageError,
)
from sam21convert.export.graphs import PromptDecoder, VisionEncoder
from sam21convert.export.runtime import OnnxImagePredictor, OnnxVideoPredictor, load
from sam21convert.export.runtime.layouts import IMAGES, VIDEOS
from sam21convert.export.runtime.masks import fill_holes
from sam21convert.export.video_graphs import VIDEO_GRAPHS
from sam21convert.model.connected_components import fill_holes as fill_holes_of_the_model

from ..support.exports import Exported
from ..support.paths import ROOT
from ..test_architecture import arrows

# Of the model.
ALLOWED = ("config", "memory_bank", "pictures", "stored_squares", "video_files", "video_squares")

BLOCKED = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
"""
RUNS = """
import numpy as np
from sam21convert.export.runtime import OnnxImagePredictor, OnnxVideoPredictor, load
shots = np.random.default_rng(0).integers(0, 256, (3, 90, 120, 3)).astype(np.uint8)
model = load(sys.argv[1], threads=1)
image = OnnxImagePredictor(model)
image.set_image(shots[0])
image.predict(point_coords=[[40, 50]], point_labels=[1])
video = OnnxVideoPredictor(model)
state = video.init_state(shots)
video.add_new_mask(state, 0, 1, shots[0, :, :, 0] > 99)
assert [frame for frame, _, _ in video.propagate_in_video(state)] == [0, 1, 2]
"""
STARTS = """
import sys
from sam21convert.export.runtime import load
load(sys.argv[1])
sys.exit(bool({"onnxruntime", "scipy", "PIL"} & {*sys.modules}))
"""
STARTS_WITH_TORCH = "import torch"
FOUND = f"import sys; sys.path += {[path for path in sys.path if path]!r}\n"  # without site
IMPORTS = """
from sam21convert.export.runtime import load
model = load(sys.argv[1])
allowed = {*sys.stdlib_module_names, "sam21convert", "numpy", "isal", "__main__"}
others = lambda: {name.partition(".")[0] for name in sys.modules} - allowed
first = others()
import numpy as np
model.encode(np.zeros((1, 3, model.image_size, model.image_size), np.float32))
print(sorted(first), sorted(others()))
"""


def seconds(program: str, *words: Path, fails: bool = False) -> float:
    """How long a program computes, which does not depend on other programs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], cwd=ROOT, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert bool(done.returncode) == fails, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_all_of_it_runs_where_torch_cannot_be_imported(newer: Exported) -> None:
    blocked = ["torch", "transformers", "sam2", "onnx", "onnxscript"]
    seconds(BLOCKED.format(blocked=blocked) + RUNS, newer.folder)


HOME = """
import os, sys
from sam21convert.export.runtime import load
import numpy as np
model = load(sys.argv[1])
model.encode(np.zeros((1, 3, model.image_size, model.image_size), np.float32))
sys.exit(bool([name for _, _, names in os.walk(os.environ["HOME"]) for name in names]))
"""


def test_nothing_is_left_in_the_home_of_the_user(
    newer: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    seconds(HOME, newer.folder)


def test_a_package_that_it_needs_is_missed(newer: Exported) -> None:
    seconds(BLOCKED.format(blocked=["onnxruntime"]) + RUNS, newer.folder, fails=True)


def test_it_starts_sooner_than_torch(newer: Exported) -> None:
    assert 2 * seconds(STARTS, newer.folder) < seconds(STARTS_WITH_TORCH)


def test_it_starts_with_onnxruntime_and_nothing_else(newer: Exported) -> None:
    """So that a start takes little longer than that of onnxruntime itself."""
    line = [sys.executable, "-S", "-c", FOUND + IMPORTS, str(newer.folder)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['onnxruntime']"


def test_it_imports_little_of_the_package() -> None:
    here = "sam21convert.export.runtime"
    seen = {
        target.removeprefix("sam21convert.")
        for name, targets in arrows().items()
        if name.startswith(here)
        for target in targets
        if not target.startswith(here)
    }
    assert {name for name in seen if not name.startswith(("io.", "config."))} <= {
        "errors",
        "packages",
        *(f"model.{name}" for name in ALLOWED),
    }
    assert "model.config" in seen


def test_the_layouts_are_those_of_the_graphs() -> None:
    for kind in (VisionEncoder, PromptDecoder, *VIDEO_GRAPHS):
        layout = {**IMAGES, **VIDEOS}[kind.file]
        assert layout.inputs == tuple(one.name for one in kind.inputs)
        if kind is not VisionEncoder:
            assert layout.outputs == tuple(one.name for one in kind.outputs)
    assert {*VIDEOS} == {kind.file for kind in VIDEO_GRAPHS}


@pytest.fixture
def copy(newer: Exported, tmp_path: Path) -> Path:
    others = shutil.ignore_patterns("*_fp16.onnx", "*_quantized.onnx")
    shutil.copytree(newer.folder / "onnx", tmp_path / "onnx", ignore=others)
    return tmp_path


def used(folder: Path, **options: Any) -> None:
    """Use every file once."""
    video = OnnxVideoPredictor(load(folder, threads=1, **options))
    state = video.init_state(np.zeros((2, 30, 40, 3), np.uint8))
    video.add_new_mask(state, 0, 1, np.eye(30, 40))
    list(video.propagate_in_video(state))
    image = OnnxImagePredictor(video.model)
    image.set_image(np.zeros((30, 40, 3), np.uint8))
    image.predict(box=[1, 2, 3, 4])


def failing(folder: Path, kind: type[Sam21ConvertError], said: str, **options: Any) -> str:
    """The hint of the error."""
    with pytest.raises(kind, match=said) as raised:
        used(folder, **options)
    return str(raised.value.hint)


def test_an_unharmed_copy_works(copy: Path) -> None:
    used(copy)
    used(copy, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", ["vision_encoder", "frame_decoder", "memory_encoder"])
def test_a_file_that_is_cut_short(copy: Path, name: str) -> None:
    path = copy / "onnx" / f"{name}.onnx"
    path.write_bytes(path.read_bytes()[:-1000])
    hint = failing(copy, Sam21ConvertError, f"{name}.onnx: ")
    assert "again" in hint


def test_a_file_of_another_kind(copy: Path) -> None:
    (copy / "onnx" / "memory_attention.onnx").write_text("not a graph")
    failing(copy, Sam21ConvertError, r"memory_attention\.onnx: ")


def test_another_graph_under_the_name(copy: Path) -> None:
    home = copy / "onnx"
    shutil.copy(home / "memory_encoder.onnx", home / "vision_encoder.onnx")
    failing(copy, RefusedError, r"vision_encoder\.onnx: expected the inputs pixel_values and")


def test_files_that_are_missing(copy: Path, tmp_path: Path) -> None:
    failing(tmp_path / "gone", MissingFileError, r"config\.json")
    hint = failing(copy, MissingFileError, r"vision_encoder_fp16\.onnx", variant="fp16")
    assert hint == "did you mean `variant=fp32`?"
    (copy / "onnx" / "memory_encoder.onnx").unlink()
    assert "--with-video" in failing(copy, UsageError, "a video needs")
    (copy / "onnx" / "vision_encoder.onnx").unlink()
    failing(copy, MissingFileError, r"vision_encoder\.onnx")


@pytest.mark.parametrize("name", ["model.pt", "vision_encoder.onnx"])
def test_a_file_in_place_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    hint = failing(tmp_path / name, Sam21ConvertError, f"{name}: expected a folder, found a file")
    assert hint == "give the folder that an export was written to"


def test_variants_are_chosen_by_file(copy: Path) -> None:
    """Those for videos exist in full precision only."""
    home = copy / "onnx"
    for name in IMAGES:
        (home / f"{name}.onnx").rename(home / f"{name}_quantized.onnx")
    used(copy, variant="q8")
    failing(copy, MissingFileError, r"vision_encoder\.onnx")


def test_options_that_do_not_exist(copy: Path) -> None:
    failing(copy, UsageError, "variant: expected fp32, fp16, q8, found 'int4'", variant="int4")
    with pytest.raises(UsageError, match="threads: expected at least 1"):
        load(copy, threads=0)
    hint = failing(copy, UsageError, "onnxruntime has no Abacus here", providers=["Abacus"])
    assert "CPUExecutionProvider" in hint


def test_a_config_that_no_model_has(copy: Path) -> None:
    path = copy / "onnx" / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"image_size": 100}))
    failing(copy, Sam21ConvertError, r"config\.json")
    path.write_text("[]")
    failing(copy, UnreadableError, r"config\.json")


def test_tensors_that_are_missing_or_of_another_shape(copy: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = copy / "onnx" / "model.safetensors"
    kept = load_file(path)
    save_file(kept | {"mask_downsample.bias": np.zeros(2, np.float32)}, path)
    failing(copy, RefusedError, r"mask_downsample.bias: expected \[1\], found F32 \[2\]")
    del kept["no_obj_ptr"]
    save_file(kept, path)
    failing(copy, RefusedError, r"no_obj_ptr: expected \[128\]|no_obj_ptr: expected \[1, 128\]")
    path.unlink()
    failing(copy, MissingFileError, r"model\.safetensors")


def test_holes_are_those_of_the_model() -> None:
    import torch

    logits = np.random.default_rng(0).normal(1, 1, (2, 3, 20, 30)).astype(np.float32)
    theirs = fill_holes_of_the_model(torch.from_numpy(logits), 3).numpy()
    assert np.array_equal(fill_holes(logits, 3), theirs)
    assert not np.array_equal(fill_holes(logits, 2), theirs)


@pytest.mark.parametrize("package", ["onnxruntime", "scipy", "PIL"])
def test_a_package_that_is_missing(
    copy: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        packages, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    hint = failing(copy, MissingPackageError, f"needs {package.replace('PIL', 'pillow')}, which")
    assert "[onnx]" in hint
