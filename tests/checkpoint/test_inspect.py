"""A checkpoint is identified from its header alone."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam21convert import convert, inspect
from sam21convert.config.registry import SHIPPED, Shipped, shipped_tensors
from sam21convert.dialects import DIALECTS
from sam21convert.dialects.keymap import compile_keymap
from sam21convert.errors import RefusedError, UnreadableError

from ..support.checkpoints import DEBUG, official_pt, sparse, state_dict

KEYS = {
    *("schema", "advice"),
    *(
        "ok",
        "exit_code",
        "path",
        "container",
        "dialect",
        "generation",
        "size",
        "config",
        "task",
        "image_size",
    ),
    *("parts", "wrappers", "tensors", "parameters", "bytes", "dtypes", "extras", "placeholders"),
    *("problems", "notes", "safety", "pickle", "doubts", "not_scanned", "unreadable"),
    *("other_entries", "fail_on"),
}


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda s: s.name)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_every_dialect_size_and_generation_is_recognised(
    tmp_path: Path, dialect: Any, shipped: Shipped
) -> None:
    """With sparse files: a header, and a hole in place of the data."""
    found = inspect(
        sparse(
            tmp_path / "sparse.safetensors",
            compile_keymap(dialect, shipped_tensors(shipped.name)).key,
        )
    )
    naming = "official" if dialect.file else dialect.name
    assert (found.dialect, found.size, found.problems) == (naming, shipped.size, ())
    if dialect.task != "video":
        assert (found.generation, found.config, found.task) == (None, None, dialect.task)
    else:
        expected = (shipped.generation, shipped.name, "video")
        assert (found.generation, found.config, found.task) == expected
    assert found.image_size is None


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [
        ("sam2/sam2_hiera_t", 468, 38_946_242),
        ("sam2/sam2_hiera_l", 900, 224_430_386),
        ("sam2.1/sam2.1_hiera_s", 519, 46_060_610),
        ("sam2.1/sam2.1_hiera_b+", 615, 80_850_434),
    ],
)
def test_counts_are_those_of_the_published_models(
    tmp_path: Path, name: str, tensors: int, parameters: int
) -> None:
    found = inspect(sparse(tmp_path / "sparse.safetensors", shipped_tensors(name)))
    assert (found.tensors, found.parameters, found.bytes) == (tensors, parameters, 4 * parameters)


def test_the_json_has_the_documented_keys(tmp_path: Path) -> None:
    report = json.loads(inspect(official_pt(tmp_path / "m.pt")).to_json())
    assert set(report) == KEYS
    listed = json.loads(inspect(tmp_path / "m.pt", tensors=True).to_json())
    assert listed["inventory"][0] == {
        "name": "maskmem_tpos_enc",
        "dtype": "F32",
        "shape": [7, 1, 1, 64],
    }


def test_a_training_checkpoint_is_opened_and_its_extras_are_listed(tmp_path: Path) -> None:
    content = {
        "model": state_dict(),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []},
        "epoch": 7,
        "best_meter_values": {"iou": np.float64(0.5)},
        "args": argparse.Namespace(lr=1e-4),
        "out": Path("runs"),
    }
    torch.save(content, tmp_path / "train.pt")
    found = inspect(tmp_path / "train.pt")
    assert (found.dialect, found.config, found.problems) == ("official", DEBUG, ())
    assert found.wrappers == ("model",)
    assert set(found.extras) == {"optimizer", "epoch", "best_meter_values", "args", "out"}
    assert any("scalar" in name for name in found.placeholders)
    assert "argparse.Namespace" in found.placeholders


def test_the_config_of_a_folder_tells_image_size_and_generation(tmp_path: Path) -> None:
    pt = official_pt(tmp_path / "m.pt")
    for dialect in ("hf-video", "hf-image"):
        convert(pt, tmp_path / dialect, to=dialect)
        found = inspect(tmp_path / dialect)
        assert (found.dialect, found.generation, found.config) == (dialect, "2.1", DEBUG)
        assert found.image_size == 128
        assert found.container == "transformers folder"


def test_what_no_tensor_tells_is_unknown(tmp_path: Path) -> None:
    text = str(inspect(official_pt(tmp_path / "m.pt")))
    assert "image size  unknown" in text
    assert "guess" not in text


def test_a_folder_whose_config_is_for_another_model_has_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    convert(official_pt(tmp_path / "m.pt"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["enable_occlusion_spatial_embedding"] = False
    config["enable_temporal_pos_encoding_for_object_pointers"] = False
    (folder / "config.json").write_text(json.dumps(config))
    [problem] = inspect(folder).problems
    assert "occlusion_spatial_embedding_parameter" in problem
    assert inspect(folder).generation == "2.0"


def test_another_model_is_not_a_sam2(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    found = inspect(tmp_path / "other.safetensors")
    assert (found.dialect, found.size, found.exit_code) == (None, None, 1)


def test_a_missing_file_and_an_empty_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="No such file"):
        inspect(tmp_path / "gone.pt")
    with pytest.raises(RefusedError, match="holds no checkpoint"):
        inspect(tmp_path)


@pytest.mark.parametrize("command", ["inspect", "validate", "convert"])
def test_torch_is_not_imported(tmp_path: Path, command: str) -> None:
    pt = official_pt(tmp_path / "m.pt")
    rest = {"inspect": "", "validate": "", "convert": f", {str(tmp_path / 'out')!r}"}[command]
    program = (
        f"import sys, sam21convert; sam21convert.{command}({str(pt)!r}{rest}); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
