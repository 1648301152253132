"""State dicts in lists are read like those in dicts, where there are none in dicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sam21convert
from sam21convert.errors import RefusedError
from sam21convert.io.open import open_source
from sam21convert.io.sequences import with_lists_read

from ..support.checkpoints import official_pt, state_dict

Tensors = dict[str, torch.Tensor]
HELD: dict[str, tuple[Callable[[Tensors], Any], tuple[str, ...]]] = {
    "a list": (lambda t: [t], ("0",)),
    "a tuple with more": (lambda t: (t, {"epoch": 3}), ("0",)),
    "a list under a key": (lambda t: {"models": [t], "epoch": 3}, ("models", "0")),
    "a list of lists": (lambda t: [3, [t]], ("1", "0")),
    "pairs": (lambda t: list(t.items()), ()),
    "pairs in a tuple": (lambda t: tuple(t.items()), ()),
    "a pair of a key and a state dict": (lambda t: ("model", t), ("1",)),
    "pairs under a key": (lambda t: {"model": [list(pair) for pair in t.items()]}, ("model",)),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_pt(tmp_path_factory.mktemp("plain") / "plain.pt")


@pytest.mark.parametrize("how", HELD)
def test_state_dicts_in_lists_are_read(how: str, tmp_path: Path, plain: Path) -> None:
    make, wrappers = HELD[how]
    zipped = how != "a list"
    torch.save(make(state_dict()), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert sam21convert.inspect(tmp_path / "a.pt").wrappers == wrappers
    assert sam21convert.diff(tmp_path / "a.pt", plain).exit_code == 0


def test_one_of_several_is_chosen_by_its_number(tmp_path: Path, plain: Path) -> None:
    torch.save([state_dict(seed=1), state_dict()], tmp_path / "two.pt")
    with pytest.raises(RefusedError, match="holds 2 SAM 2 state dicts") as caught:
        sam21convert.inspect(tmp_path / "two.pt")
    assert "weights=1)`" in str(caught.value.hint)
    sam21convert.convert(tmp_path / "two.pt", tmp_path / "out.pt", weights="1")
    assert sam21convert.diff(tmp_path / "out.pt", plain).exit_code == 0


def test_modules_in_lists_are_read(tmp_path: Path, plain: Path) -> None:
    model, _ = sam21convert.load_model(plain)
    torch.save((model, 3), tmp_path / "whole.pt")
    assert sam21convert.diff(tmp_path / "whole.pt", plain).exit_code == 0
    torch.save([model.image_encoder, model.sam_mask_decoder], tmp_path / "parts.pt")
    found = sam21convert.inspect(tmp_path / "parts.pt")
    assert found.parts == ("image encoder", "mask decoder")


def test_lists_beside_a_state_dict_are_left_as_they_are(tmp_path: Path) -> None:
    tensors = state_dict()
    root = {"model": tensors, "history": [state_dict(seed=1)], "values": [1, 2]}
    torch.save(root, tmp_path / "a.pt")
    assert sam21convert.inspect(tmp_path / "a.pt").wrappers == ("model",)
    assert isinstance(open_source(tmp_path / "a.pt").root["history"], list)
    assert with_lists_read(few := [{"lr": 1, "step": tensors["no_mem_embed"]}]) is few
    twice = [*tensors.items(), *tensors.items()]
    torch.save(twice, tmp_path / "twice.pt")
    with pytest.raises(RefusedError, match="no tensors by name"):
        sam21convert.inspect(tmp_path / "twice.pt")


@pytest.mark.parametrize(
    ("root", "what"),
    [
        (torch.zeros(3), "is a single tensor, without a name"),
        ([torch.zeros(3)] * 20, "is a list of tensors, without their names"),
        ({"epoch": 3}, "holds no tensors by name"),
    ],
)
def test_what_has_no_names_is_said_to_have_none(root: Any, what: str, tmp_path: Path) -> None:
    torch.save(root, tmp_path / "a.pt")
    with pytest.raises(RefusedError, match=what) as caught:
        sam21convert.inspect(tmp_path / "a.pt")
    assert "torch.save(model.state_dict()" in str(caught.value.hint)
