"""State dicts in memory: the same names and bits as a file that is converted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sam21convert import (
    MismatchError,
    RefusedError,
    UsageError,
    convert,
    convert_state_dict,
    load_model,
    load_state_dict,
)

from ..support.checkpoints import DEBUG, state_dict

DIALECTS = ("official", "hf-video", "hf-image", "mlx", "timm", "ultralytics", "comfyui")


@pytest.fixture(scope="module")
def model(checkpoints: Callable[[str], Path]) -> Path:
    return checkpoints(DEBUG)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("dialect", ["hf-video", "hf-image", "mlx", "timm"])
def test_names_and_bits_are_those_of_the_converted_file(
    model: Path, tmp_path: Path, dialect: str
) -> None:
    convert(model, tmp_path / "out.safetensors", to=dialect)
    written = load_file(tmp_path / "out.safetensors")
    assert same(load_state_dict(model, dialect), written)
    assert same(convert_state_dict(load_state_dict(model), to=dialect), written)


@pytest.mark.parametrize("dialect", ["official", "hf-video", "mlx"])
def test_there_and_back_changes_nothing(dialect: str) -> None:
    official = state_dict()
    there = convert_state_dict(official, to=dialect)
    assert same(convert_state_dict(there), official)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tensors_are_contiguous(model: Path, dialect: str) -> None:
    assert all(tensor.is_contiguous() for tensor in load_state_dict(model, dialect).values())


def test_the_input_is_not_changed_and_wrappers_come_off() -> None:
    official = state_dict()
    wrapped = {f"module.{name}": tensor for name, tensor in official.items()}
    before = {name: tensor.clone() for name, tensor in wrapped.items()}
    assert same(convert_state_dict(wrapped), official)
    assert same(wrapped, before)


def test_a_model_takes_what_was_loaded(model: Path) -> None:
    loaded, _ = load_model(model)
    assert not any(loaded.load_state_dict(load_state_dict(model), strict=True))


def test_types_stay(model: Path) -> None:
    half = {name: tensor.half() for name, tensor in load_state_dict(model).items()}
    renamed = convert_state_dict(half, to="hf-video")
    assert {tensor.dtype for tensor in renamed.values()} == {torch.float16}


def test_parts_of_several_types_are_not_joined() -> None:
    official = state_dict()
    name = "sam_prompt_encoder.point_embeddings.0.weight"
    official[name] = official[name].half()
    assert convert_state_dict(official)[name].dtype == torch.float16
    with pytest.raises(MismatchError, match="different types\nhint: cast them first"):
        convert_state_dict(official, to="hf-video")


def test_memory_is_shared_where_no_element_moves() -> None:
    official = state_dict()
    renamed = convert_state_dict(official, to="hf-video")
    at = official["no_mem_embed"].data_ptr()
    assert renamed["no_memory_embedding"].data_ptr() == at
    twice = [tensor.data_ptr() for tensor in renamed.values()]
    assert len({*twice}) < len(twice)


def test_a_missing_tensor_is_named() -> None:
    official = state_dict()
    del official["memory_encoder.out_proj.bias"]
    with pytest.raises(MismatchError, match=r"memory_encoder\.out_proj\.bias"):
        convert_state_dict(official, to="hf-video")


def test_an_image_model_has_no_memory_to_give() -> None:
    image = convert_state_dict(state_dict(), to="hf-image")
    with pytest.raises(RefusedError, match="hf-video needs"):
        convert_state_dict(image, to="hf-video")


def test_copies_that_differ_are_refused() -> None:
    renamed = convert_state_dict(state_dict(), to="hf-video")
    name = next(name for name in renamed if name.startswith("prompt_encoder.shared_embedding"))
    renamed[name] = renamed[name] + 1
    with pytest.raises(MismatchError, match="should be equal and differ"):
        convert_state_dict(renamed)


def test_what_is_no_sam_2_is_refused() -> None:
    with pytest.raises(MismatchError, match="does not fit any dialect"):
        convert_state_dict({"weight": torch.ones(2)})
    with pytest.raises(UsageError, match="no dialect is called 'onnx'"):
        convert_state_dict(state_dict(), to="onnx")


@pytest.mark.parametrize(
    ("extra", "message", "hint"),
    [
        ({"model": {"a": torch.ones(2)}}, "found 'model': dict", "give what is under 'model'"),
        ({"epoch": 5}, "found 'epoch': int", "leave out what is no tensor"),
        ({"a": np.ones(2)}, "found 'a': ndarray", "torch.from_numpy"),
        ({7: torch.ones(2)}, "found 7: Tensor", "leave out"),
        ({"a": torch.ones(2).to_sparse()}, "a is sparse", "to_dense"),
    ],
)
def test_what_is_no_tensor_is_refused_by_name(
    extra: dict[Any, Any], message: str, hint: str
) -> None:
    with pytest.raises(RefusedError, match=message) as caught:
        convert_state_dict({**state_dict(), **extra})
    assert hint in str(caught.value.hint)
