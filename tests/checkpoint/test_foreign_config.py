"""A ``config.json`` of another program beside the tensors of a SAM 2: noted, and not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sam21convert import convert, inspect, validate
from sam21convert.errors import RefusedError

from ..support.checkpoints import official_pt, state_dict

SA2VA = "grounding_encoder.sam2_model."  # before the names of its SAM 2


def folder(path: Path, config: Any, prefix: str = SA2VA) -> Path:
    """Sharded, as repositories of large models are."""
    path.mkdir()
    tensors = {f"{prefix}{name}": tensor for name, tensor in state_dict().items()}
    tensors["language_model.lm_head.weight"] = torch.zeros(3)
    weight_map: dict[str, str] = {}
    for number in (1, 2):
        shard = f"model-{number:05d}-of-00002.safetensors"
        part = dict([*tensors.items()][number - 1 :: 2])
        save_file(part, path / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model_type": "sa2va_chat", "vision_config": {"image_size": 448}}, "sa2va_chat"),
        ({"model_type": "evf"}, "evf"),
        ({"model_type": "a\nb"}, "another program"),
        ({"backbone": "hiera"}, "another program"),  # as PyTorchModelHubMixin writes it
    ],
)
def test_the_tensors_decide(tmp_path: Path, config: Any, named: str) -> None:
    found = inspect(folder(tmp_path / "large", config))
    assert (found.dialect, found.config) == ("official", "debug/sam2.1_debug")
    assert found.image_size is None
    assert f"config.json is of {named}: not read" in found.notes


def test_it_converts_like_the_file_it_holds(tmp_path: Path) -> None:
    large = folder(tmp_path / "large", {"model_type": "sa2va_chat"})
    convert(large, tmp_path / "out.safetensors")
    convert(official_pt(tmp_path / "plain.pt"), tmp_path / "plain.safetensors")
    out, plain = tmp_path / "out.safetensors", tmp_path / "plain.safetensors"
    assert out.read_bytes() == plain.read_bytes()
    assert validate(large).exit_code == 0


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "edgetam"}, "found edgetam"),  # only looks like SAM 2
        ({"model_type": "x", "mask_decoder_config": {}, "prompt_encoder_config": {}}, "found x"),
        ({"model_type": "sam2_video", "image_size": "large"}, "image_size"),
    ],
)
def test_a_faulty_config_and_that_of_a_lookalike_stay_refused(
    tmp_path: Path, config: Any, says: str
) -> None:
    with pytest.raises(RefusedError, match=says):
        inspect(folder(tmp_path / "large", config))


def test_without_a_sam2_the_model_type_is_named(tmp_path: Path) -> None:
    large = folder(tmp_path / "large", {"model_type": "llama"}, prefix="")
    for path in large.glob("*.safetensors*"):
        path.unlink()
    save_file({"layers.0.weight": torch.zeros(2)}, large / "model.safetensors")
    with pytest.raises(RefusedError, match="expected sam2_video or sam2, found llama"):
        inspect(large)
