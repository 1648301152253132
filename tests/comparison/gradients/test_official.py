"""``SAM2Train`` and the official losses give the same to the last bit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import training.loss_fns
import training.model.sam2

from sam21convert.comparison.gradients.scenarios import ALL
from sam21convert.errors import MissingPackageError

from ...support.checkpoints import DEBUG
from ...support.official import DEBUG as GENERATIONS
from .test_gradients import Checkpoints, truth, with_gradients

assert training.loss_fns, training.model.sam2  # this module is skipped where they are not there


@pytest.mark.parametrize("name", GENERATIONS)
def test_every_loss_and_every_gradient(name: str, checkpoints: Checkpoints) -> None:
    exactly_equal(checkpoints(name), len(truth(checkpoints(name)).model.state_dict()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam2.1/sam2.1_hiera_t", "sam2/sam2_hiera_t"])
def test_of_tiny(name: str, checkpoints: Checkpoints) -> None:
    exactly_equal(checkpoints(name), 400, image_size=256)


def test_another_weight_is_seen_and_named(checkpoints: Checkpoints, tmp_path: Path) -> None:
    tensors = torch.load(checkpoints(DEBUG))
    tensors["model"]["memory_encoder.out_proj.bias"][0] += 0.01
    torch.save(tensors, tmp_path / "other.pt")
    found = with_gradients(checkpoints(DEBUG), f"sam2:{tmp_path / 'other.pt'}", scenarios="quick")
    assert [one.status for one in found.scenarios] == ["same", "differs"]
    assert any("memory_encoder.out_proj.bias" in text for text in found.problems)


def exactly_equal(path: Path, least: int, **options: Any) -> None:
    found = with_gradients(path, f"sam2:{path}", **options)
    assert found.ok, str(found)
    assert found.exact
    assert [one.name for one in found.scenarios] == [one.name for one in ALL]
    compared = set()
    for scenario in found.scenarios:
        assert scenario.status == "same"
        assert {one.relative for one in scenario.activations} == {0.0}
        assert {one.side for one in scenario.without_gradient} == {"both"}
        compared |= {one.name for one in scenario.activations if one.name.endswith(".grad")}
    # Everything is reached by some scenario, but for the parameter that nothing reads.
    assert len(compared) >= least - 3
    for control in found.negative_controls:
        assert control.detected, control
    assert [control.detached for control in found.negative_controls] == [True, True, False]


@pytest.mark.parametrize(
    ("gone", "message", "hint"),
    [
        ("tensordict", "its training code needs tensordict, not installed here", "tensordict"),
        ("training", "its training code, the package `training`, is not installed", "PYTHONPATH"),
    ],
)
def test_what_is_missing_is_named(
    gone: str, message: str, hint: str, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] in ("training", gone)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, gone, None)
    with pytest.raises(MissingPackageError) as caught:
        with_gradients(checkpoints(DEBUG), f"sam2:{checkpoints(DEBUG)}", scenarios="train-box")
    assert message in str(caught.value)
    assert hint in (caught.value.hint or "")
