"""Outputs for timm, MLX and ultralytics, loaded by timm, MLX and ultralytics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner, Result
from packaging.version import Version
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models._hub import save_config_for_hf
from torch import nn

import sam21convert
from sam21convert.checkpoint.remap import CanonicalTensors
from sam21convert.commands.main import main
from sam21convert.config.registry import SHIPPED, shipped_config, shipped_tensors
from sam21convert.config.timm import timm_json
from sam21convert.conversion import write as writing
from sam21convert.dialects import MLX
from sam21convert.dialects.keymap import compile_keymap
from sam21convert.dialects.rules import Dialect
from sam21convert.errors import RefusedError
from sam21convert.io.data.checksums import sha256
from sam21convert.model import SAM2

from ..support.answers import conforms
from ..support.checkpoints import DEBUG, DEBUG_20, official_pt, random_bits
from ..support.official import PUBLISHED
from ..support.paths import ROOT
from ..support.rounding import beyond_rounding, rounding

QUICK = ("sam2.1/sam2.1_hiera_t", "sam2/sam2_hiera_t")
SIZES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in PUBLISHED]
CONFIGS = [shipped.name for shipped in SHIPPED]


def architecture(config: str) -> str:
    return f"sam2_hiera_{next(shipped.size for shipped in SHIPPED if shipped.name == config)}"


class TestTimm:
    @pytest.mark.parametrize("config", [DEBUG, DEBUG_20, *SIZES])
    def test_it_loads_the_trunk_and_computes_the_same(
        self, config: str, checkpoints: Any, tmp_path: Path
    ) -> None:
        source = checkpoints(config)
        sam21convert.convert(source, tmp_path / "trunk", to="timm")
        theirs = timm.create_model(f"local-dir:{tmp_path / 'trunk'}", pretrained=True).eval()
        ours = sam21convert.load_model(source)[0].image_encoder.trunk
        pixels = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
        stages = theirs.forward_intermediates(pixels, intermediates_only=True)
        assert len(stages) == 4
        for mine, stage in zip(ours(pixels), stages, strict=True):
            assert torch.equal(mine, stage)
        tag = theirs.pretrained_cfg["tag"]
        if config in PUBLISHED:
            assert f"{architecture(config)}.{tag}" in timm.list_pretrained("sam2_hiera_*")
            assert tag.endswith("_2pt1") == config.startswith("sam2.1")
        else:
            assert tag == ""

    @pytest.mark.parametrize("config", SIZES)
    def test_it_loads_a_file(self, config: str, checkpoints: Any, tmp_path: Path) -> None:
        file = tmp_path / "trunk.safetensors"
        sam21convert.convert(checkpoints(config), file, to="timm")
        written = load_file(file)
        ways = (
            {"checkpoint_path": str(file)},
            {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}},
        )
        for way in ways:
            model = timm.create_model(architecture(config), num_classes=0, **way)
            loaded = model.state_dict()
            assert loaded.keys() == written.keys()
            assert all(torch.equal(tensor, written[name]) for name, tensor in loaded.items())

    def test_it_would_not_load_one_that_lacks_a_tensor(
        self, checkpoints: Any, tmp_path: Path
    ) -> None:
        sam21convert.convert(checkpoints(DEBUG), tmp_path / "trunk", to="timm")
        file = tmp_path / "trunk" / "model.safetensors"
        tensors = load_file(file)
        del tensors["head.norm.bias"]
        save_file(tensors, file)
        with pytest.raises(RuntimeError, match="head.norm.bias"):
            timm.create_model(f"local-dir:{tmp_path / 'trunk'}", pretrained=True)

    @pytest.mark.skipif(
        Version(timm.__version__) < Version("1.0.31"), reason="timm wrote fewer facts before 1.0.31"
    )
    @pytest.mark.parametrize("config", PUBLISHED)
    def test_its_config_is_the_one_that_timm_writes(self, config: str, tmp_path: Path) -> None:
        """The differences that :func:`timm_json` documents are left out of the comparison."""
        model_config = shipped_config(config)
        mine = json.loads(timm_json(model_config, model_config.generation))
        tag = mine["pretrained_cfg"]["tag"]
        with torch.device("meta"):
            model = timm.create_model(f"{architecture(config)}.{tag}")
        save_config_for_hf(model, tmp_path / "config.json")
        theirs = json.loads((tmp_path / "config.json").read_text())
        del theirs["pretrained_cfg"]["license"]
        theirs["model_args"] = {}
        for content in (mine, theirs):
            side = content["pretrained_cfg"].pop("input_size")[1]
            assert content["pretrained_cfg"].pop("pool_size") == [side // 32] * 2
        assert mine == theirs

    def test_a_folder_tells_the_generation_by_its_tag(
        self, checkpoints: Any, tmp_path: Path
    ) -> None:
        for config in QUICK:
            folder, file = tmp_path / Path(config).name, tmp_path / "trunk.safetensors"
            sam21convert.convert(checkpoints(config), folder, to="timm")
            found = sam21convert.inspect(folder)
            assert (found.dialect, found.task, found.config) == ("timm", "trunk", config)
            (folder / "model.safetensors").rename(file)
            assert sam21convert.inspect(file).generation is None

    @pytest.mark.parametrize("trained", [False, True])
    def test_a_trained_norm_is_reported_when_it_is_left_out(
        self, trained: bool, checkpoints: Any, tmp_path: Path
    ) -> None:
        source = checkpoints(DEBUG)
        sam21convert.convert(source, tmp_path / "trunk.safetensors", to="timm")
        tensors = load_file(tmp_path / "trunk.safetensors")
        tensors["head.norm.weight"][3] += 0.5 * trained
        save_file(tensors, tmp_path / "trunk.safetensors")
        done = sam21convert.convert(
            tmp_path / "trunk.safetensors", tmp_path / "back.pt", base=source
        )
        lost = [note for note in done.notes if "lost" in note]
        assert [note.endswith("other programs use it: head.norm.weight") for note in lost] == [
            True
        ] * trained
        assert sha256(tmp_path / "back.pt") == sha256(source)


class TestParityWithTimm:
    """``timm:SOURCE`` is loaded by timm when its tensors have timm's names."""

    @staticmethod
    def convert(source: Path, out: Path, *options: Any) -> Result:
        arguments = ["convert", source, out, "--parity", "--json", *options]
        return CliRunner().invoke(main, list(map(str, arguments)))

    @pytest.mark.parametrize("name", ["trunk", "trunk.safetensors"])
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_a_conversion_to_timm_is_in_parity(
        self, name: str, dtype: str, checkpoints: Any, tmp_path: Path
    ) -> None:
        done = self.convert(checkpoints(DEBUG), tmp_path / name, "--to", "timm", "--dtype", dtype)
        assert done.exit_code == 0, done.output
        found = conforms(done.stdout)["parity"]
        assert [found[side]["runner"] for side in ("left", "right")] == ["truth", "timm"]
        assert [one["name"] for one in found["scenarios"] if one["outcome"] == "same"] == [
            "encoder"
        ]

    def test_conversions_from_timm_are_in_parity(self, checkpoints: Any, tmp_path: Path) -> None:
        source, folder = checkpoints(DEBUG), tmp_path / "trunk"
        sam21convert.convert(source, folder, to="timm")
        ways = {"back.pt": ("--base", source), "again.safetensors": ("--to", "timm")}
        for name, options in ways.items():
            done = self.convert(folder, tmp_path / name, *options)
            assert done.exit_code == 0, done.output
            assert json.loads(done.stdout)["parity"]["left"]["runner"] == "timm"

    def test_a_wrong_config_leaves_nothing(
        self, checkpoints: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = timm_json
        monkeypatch.setattr(writing, "timm_json", lambda *given: right(*given).replace("6,", "4,"))
        done = self.convert(checkpoints(DEBUG), tmp_path / "trunk", "--to", "timm")
        assert done.exit_code == 1
        assert "differs at trunk.stage2" in done.output
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["trunk", "trunk.safetensors"])
    def test_a_wrong_tensor_leaves_nothing(
        self, name: str, checkpoints: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The fault is in the plan, so reading the output back cannot detect it."""
        right = CanonicalTensors.named_for

        def swapped(*given: Any) -> dict[str, Any]:
            tensors = right(*given)
            one, other = (f"blocks.{k}.mlp.fc1.bias" for k in (3, 4))
            if one not in tensors:  # a side that is loaded under other names
                return tensors
            return tensors | {one: tensors[other], other: tensors[one]}

        monkeypatch.setattr(CanonicalTensors, "named_for", swapped)
        done = self.convert(checkpoints(DEBUG), tmp_path / name, "--to", "timm")
        assert done.exit_code == 1
        assert "blocks.3.mlp.layers.0.bias and image_encoder" in done.output
        assert "two tensors are swapped: " in done.output
        assert list(tmp_path.iterdir()) == []

    def test_a_trunk_of_no_published_size_is_built_from_its_config(self, tmp_path: Path) -> None:
        debug = shipped_config(DEBUG)
        config = replace(debug, trunk=replace(debug.trunk, stages=(1, 1, 4, 2)))
        source = official_pt(tmp_path / "model.pt", SAM2(config).state_dict())
        sam21convert.convert(source, tmp_path / "trunk", to="timm", config=config)
        side = f"timm:{tmp_path / 'trunk'}"
        assert sam21convert.parity(source, side, config=config, scenarios="encoder").ok

    def test_a_missing_tensor_is_refused(self, checkpoints: Any, tmp_path: Path) -> None:
        sam21convert.convert(checkpoints(DEBUG), tmp_path / "trunk.safetensors", to="timm")
        tensors = load_file(tmp_path / "trunk.safetensors")
        del tensors["blocks.3.norm1.bias"]
        save_file(tensors, tmp_path / "trunk.safetensors")
        side = f"timm:{tmp_path / 'trunk.safetensors'}"
        done = CliRunner().invoke(main, ["parity", str(checkpoints(DEBUG)), side])
        assert done.exit_code == 1
        assert "blocks.3.norm1.bias" in done.stderr


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d | nn.ConvTranspose2d]:
    """The convolutions of a model, by the names of their weights."""
    return {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    }


def output_of(pixels: torch.Tensor, module: nn.Module) -> dict[str, torch.Tensor]:
    return {"output": module(pixels)}


def permuted(dialect: Dialect, config: str) -> dict[str, tuple[int, ...]]:
    keymap = compile_keymap(dialect, shipped_tensors(config))
    return {entry.canonical[0]: entry.axes for entry in keymap.entries if entry.axes}


class TestMlx:
    @pytest.mark.parametrize("config", CONFIGS)
    def test_exactly_the_convolutions_are_permuted(self, config: str) -> None:
        with torch.device("meta"):
            found = convolutions(SAM2(shipped_config(config)))
        expected = {
            name: (1, 2, 3, 0) if isinstance(module, nn.ConvTranspose2d) else (0, 2, 3, 1)
            for name, module in found.items()
        }
        assert permuted(MLX, config) == expected
        for permute in MLX.permutes:
            without = replace(MLX, permutes=tuple(p for p in MLX.permutes if p != permute))
            assert permuted(without, config) != expected

    def test_its_convolutions_are_those_of_torch(self, checkpoints: Any, tmp_path: Path) -> None:
        mx: Any = pytest.importorskip("mlx.core")
        file = tmp_path / "model.safetensors"
        sam21convert.convert(checkpoints(DEBUG), file, to="mlx")
        weights = mx.load(str(file))
        keymap = compile_keymap(MLX, shipped_tensors(DEBUG))
        names = {entry.canonical[0]: entry.key for entry in keymap.entries}
        model, _ = sam21convert.load_model(checkpoints(DEBUG))
        generator = torch.Generator().manual_seed(0)
        for name, module in convolutions(model).items():
            pixels = torch.randn(1, module.in_channels, 16, 16, generator=generator)
            expected = output_of(pixels, module)
            noise = rounding(module, partial(output_of, pixels))
            run = mx.conv2d if isinstance(module, nn.Conv2d) else mx.conv_transpose2d
            given = mx.array(pixels.permute(0, 2, 3, 1).contiguous().numpy())
            found = run(
                given,
                weights[names[name]],
                stride=module.stride,
                padding=module.padding,
                groups=module.groups,
            )
            if module.bias is not None:
                found = found + weights[names[name].removesuffix("weight") + "bias"]
            theirs = torch.from_numpy(np.array(found)).permute(0, 3, 1, 2)
            assert not beyond_rounding(noise, expected, {"output": theirs}), name
            assert beyond_rounding(noise, expected, {"output": theirs.flip(-1)})  # mirrored

    def test_the_layout_is_recorded_and_nothing_is_permuted_twice(self, tmp_path: Path) -> None:
        source = random_bits(tmp_path / "source.safetensors", shipped_tensors(DEBUG))
        one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
        sam21convert.convert(source, one, to="mlx")
        sam21convert.convert(one, other, to="mlx")
        assert one.read_bytes() == other.read_bytes()
        with safe_open(one, "np") as file:
            assert file.metadata() == {"format": "mlx", "layout": "channels-last"}
            shape = file.get_slice("vision_encoder.backbone.patch_embed.projection.weight")
            assert shape.get_shape() == [8, 7, 7, 3]

    def test_a_file_without_that_record_is_recognised_by_its_shapes(
        self, checkpoints: Any, tmp_path: Path
    ) -> None:
        file = tmp_path / "model.safetensors"
        sam21convert.convert(checkpoints(DEBUG), file, to="mlx")
        save_file(load_file(file), file)
        assert sam21convert.inspect(file).dialect == "mlx"
        sam21convert.convert(file, tmp_path / "back.pt")
        assert sha256(tmp_path / "back.pt") == sha256(checkpoints(DEBUG))

    def test_a_file_whose_record_contradicts_its_shapes_is_refused(
        self, checkpoints: Any, tmp_path: Path
    ) -> None:
        file = tmp_path / "model.safetensors"
        sam21convert.convert(checkpoints(DEBUG), file, to="hf-video")
        assert sam21convert.inspect(file).dialect == "hf-video"
        save_file(load_file(file), file, {"layout": "channels-last"})
        with pytest.raises(RefusedError, match="records the layout channels-last"):
            sam21convert.inspect(file)


LOADED_BY_ULTRALYTICS = """
import sys
import tests.conftest  # lets torchvision be imported beside a CPU build of torch
import torch
from ultralytics.models.sam.build import build_sam
expected = torch.load(sys.argv[1], weights_only=True)["model"]
found = build_sam(sys.argv[1]).state_dict()
assert list(found) == list(expected)
assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ultralytics, apart from the environment: it needs another OpenCV and more."""
    home = tmp_path_factory.mktemp("ultralytics")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(home)]
    packages = ["ultralytics", "opencv-python-headless"]
    done = subprocess.run([*command, *packages], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install ultralytics: {done.stderr.strip()[-200:]}")
    return home


@pytest.mark.slow
class TestUltralytics:
    @pytest.mark.parametrize("config", PUBLISHED)
    def test_it_loads_all_eight(
        self, config: str, library: Path, checkpoints: Any, tmp_path: Path
    ) -> None:
        done = sam21convert.convert(checkpoints(config), tmp_path, to="ultralytics")
        found = self.run(library, done.destination, tmp_path)
        assert found.returncode == 0, found.stderr

    def test_it_refuses_another_generation(
        self, library: Path, checkpoints: Any, tmp_path: Path
    ) -> None:
        done = sam21convert.convert(checkpoints(QUICK[1]), tmp_path, to="ultralytics")
        renamed = done.destination.rename(tmp_path / "sam2.1_t.pt")
        found = self.run(library, renamed, tmp_path)
        assert "obj_ptr_tpos_proj" in found.stderr

    @staticmethod
    def run(library: Path, file: Path, settings: Path) -> subprocess.CompletedProcess[str]:
        project = ROOT
        paths = {"PYTHONPATH": f"{project}{os.pathsep}{library}", "YOLO_CONFIG_DIR": str(settings)}
        return subprocess.run(
            [sys.executable, "-c", LOADED_BY_ULTRALYTICS, str(file)],
            env=os.environ | paths | {"YOLO_OFFLINE": "true"},
            capture_output=True,
            text=True,
        )
