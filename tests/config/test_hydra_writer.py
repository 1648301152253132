"""A written official YAML reads back equal, and the official builder accepts it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from sam2.build_sam import build_sam2

from sam21convert.config.hydra_writer import to_hydra
from sam21convert.config.plain_yaml import load_yaml
from sam21convert.config.registry import SHIPPED, shipped_config
from sam21convert.model import SAM2
from sam21convert.model.config import MemoryEncoderConfig, ModelConfig

from ..support.checkpoints import DEBUG, DEBUG_20
from ..support.official import on_meta

NAMES = [shipped.name for shipped in SHIPPED]
OTHERS = {
    "image_size": 256,
    "memory_encoder": MemoryEncoderConfig(out_dim=32, fuser_layers=3),
    "fpn_top_down_levels": (1, 2, 3),
    "num_maskmem": 5,
    "max_obj_ptrs_in_encoder": 4,
    "sigmoid_scale_for_mem_enc": 2.0,
    "sigmoid_bias_for_mem_enc": 1e-7,
    "multimask_output_in_sam": False,
    "multimask_output_for_tracking": False,
    "multimask_min_pt_num": 1,
    "multimask_max_pt_num": 3,
}


def written(home: Path, config: ModelConfig) -> Path:
    (home / "a.yaml").write_text(to_hydra(config))
    return home / "a.yaml"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_reads_back(name: str, tmp_path: Path) -> None:
    assert load_yaml(written(tmp_path, shipped_config(name))) == shipped_config(name)


@pytest.mark.parametrize("field", OTHERS)
def test_every_setting_is_written(field: str, tmp_path: Path) -> None:
    other = replace(shipped_config(DEBUG), **{field: OTHERS[field]})  # type: ignore[arg-type]
    assert other != shipped_config(DEBUG)
    assert load_yaml(written(tmp_path, other)) == other


@pytest.mark.parametrize("name", [DEBUG, DEBUG_20, "sam2.1/sam2.1_hiera_b+"])
def test_the_official_builder_makes_the_same_model(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, shipped_config(name))
    GlobalHydra.instance().clear()
    try:
        initialize_config_dir(str(tmp_path), version_base="1.2")
        with on_meta():
            theirs = build_sam2(path.name, device="meta").state_dict()
    finally:
        GlobalHydra.instance().clear()
        initialize_config_module("sam2", version_base="1.2")
    with torch.device("meta"):
        ours = SAM2(shipped_config(name)).state_dict()
    assert [(k, t.shape) for k, t in theirs.items()] == [(k, t.shape) for k, t in ours.items()]
