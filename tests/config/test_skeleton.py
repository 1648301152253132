"""A model without values: every tensor of the config is there, and nothing is drawn for it."""

from __future__ import annotations

import torch

from sam21convert.config.registry import shipped_config, shipped_tensors
from sam21convert.config.skeleton import skeleton
from sam21convert.model import SAM2

from ..support.checkpoints import DEBUG


def test_tensors_have_shapes_and_no_values() -> None:
    tensors = skeleton(lambda: SAM2(shipped_config(DEBUG))).state_dict()
    assert {tensor.device.type for tensor in tensors.values()} == {"meta"}
    expected = {name: spec.shape for name, spec in shipped_tensors(DEBUG).items()}
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == expected


def test_no_initial_value_is_drawn() -> None:
    def make() -> torch.nn.Module:
        torch.randn(2, device="cpu")
        return torch.nn.Linear(2, 2, device="cpu")

    before = torch.get_rng_state()
    skeleton(make)
    assert torch.equal(torch.get_rng_state(), before)
    make()
    assert not torch.equal(torch.get_rng_state(), before)
