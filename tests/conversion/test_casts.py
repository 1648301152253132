"""A type that is too small for a number does not make it infinite: the cast is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sam21convert import convert, validate
from sam21convert.errors import RefusedError

from ..support.checkpoints import official_pt, state_dict

NAME = "sam_mask_decoder.iou_token.weight"


def with_value(path: Path, value: float, kind: torch.dtype = torch.float32) -> Path:
    tensors = state_dict()
    tensors[NAME] = torch.full_like(tensors[NAME], value, dtype=torch.float64)
    tensors = {name: tensor.to(kind) for name, tensor in tensors.items()}
    if path.suffix == ".pt":
        return official_pt(path, tensors)
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("value", "kind", "target", "fits"),
    [
        (1e5, torch.float32, "float16", 65504.0),
        (-1e5, torch.bfloat16, "float16", -65280.0),
        (2.0**40, torch.float8_e8m0fnu, "float16", 2.0**15),
        (1e39, torch.float64, "float32", 1e38),
        (1e39, torch.float64, "bfloat16", 1e38),
        (3.4e38, torch.float32, "bfloat16", 3.38e38),
    ],
)
@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_what_would_be_infinite_is_refused(
    tmp_path: Path, value: float, kind: torch.dtype, target: Any, fits: float, ending: str
) -> None:
    source, out = with_value(tmp_path / f"large{ending}", value, kind), tmp_path / f"out{ending}"
    with pytest.raises(RefusedError, match=rf"{NAME} has numbers that are too large") as caught:
        convert(source, out, dtype=target)
    assert not out.exists()
    assert "dtype" in str(caught.value.hint)
    convert(source, out, dtype="float32" if target == "float16" else None)  # the hint
    convert(with_value(tmp_path / f"fits{ending}", fits, kind), out, dtype=target, overwrite=True)


def test_a_sum_that_would_be_infinite_is_refused(tmp_path: Path) -> None:
    """Neither factor nor weight is; what they make is."""
    layer = "image_encoder.trunk.blocks.0.attn.qkv"
    tensors = {name: tensor.half() for name, tensor in state_dict().items()}
    for end in ("weight", "bias"):
        tensors[f"{layer}.base_layer.{end}"] = tensors.pop(f"{layer}.{end}")
    rows, columns = tensors[f"{layer}.base_layer.weight"].shape
    tensors[f"{layer}.lora_A.default.weight"] = torch.full((2, columns), 3e2).half()
    tensors[f"{layer}.lora_B.default.weight"] = torch.full((rows, 2), 3e2).half()
    source = official_pt(tmp_path / "lora.pt", tensors)
    with pytest.raises(RefusedError, match=rf"{layer}\.weight has numbers that are too large"):
        convert(source, tmp_path / "out.pt", lora_alpha=2)
    convert(source, tmp_path / "out.pt", lora_alpha=2, dtype="float32")
    convert(source, tmp_path / "small.pt", lora_alpha=0.5)


def test_what_is_infinite_already_stays_so(tmp_path: Path) -> None:
    source = with_value(tmp_path / "inf.pt", float("inf"))
    convert(source, tmp_path / "out.pt", dtype="float16")
    assert validate(tmp_path / "out.pt").inf == (NAME,)
