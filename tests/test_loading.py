from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sam21convert import convert, load_model
from sam21convert.errors import MismatchError, RefusedError

from .making import DEBUG, DEBUG_20, official_pt, state_dict

pytestmark = pytest.mark.usefixtures("small_pieces")


@pytest.mark.parametrize("config", [DEBUG, DEBUG_20])
@pytest.mark.parametrize("form", ["m.pt", "x.safetensors", "hf"])
def test_every_form_loads_the_same_weights(tmp_path: Path, config: str, form: str) -> None:
    tensors = state_dict(config)
    official_pt(tmp_path / "m.pt", tensors)
    if form != "m.pt":
        convert(tmp_path / "m.pt", tmp_path / form)
    model, report = load_model(tmp_path / form)
    loaded = model.state_dict()
    assert list(loaded) == list(tensors)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert not model.training
    assert report.tensors == len(tensors)


def test_a_strided_tensor_loads(tmp_path: Path) -> None:
    tensors = state_dict()
    name = "memory_attention.layers.0.linear1.weight"
    expected = tensors[name]
    tensors[name] = expected.t().contiguous().t()
    model, _ = load_model(official_pt(tmp_path / "m.pt", tensors))
    assert torch.equal(model.state_dict()[name], expected)


def test_the_type_is_that_of_the_weights_unless_given(tmp_path: Path) -> None:
    official_pt(tmp_path / "m.pt")
    convert(tmp_path / "m.pt", tmp_path / "half.safetensors", dtype="bfloat16")
    assert load_model(tmp_path / "half.safetensors")[0].no_obj_ptr.dtype == torch.bfloat16
    model, _ = load_model(tmp_path / "half.safetensors", dtype=torch.float32)
    assert model.no_obj_ptr.dtype == torch.float32


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    pt = official_pt(tmp_path / "m.pt")
    with pytest.raises(MismatchError, match="does not fit"):
        load_model(pt, DEBUG_20)
    convert(pt, tmp_path / "image", to="hf-image")
    with pytest.raises(RefusedError, match="is an image model"):
        load_model(tmp_path / "image")
