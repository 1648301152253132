"""Where rounding decides a gradient, the tolerance knows; elsewhere it stays as it is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sam21convert.comparison.gradients.corners import Corners, MovedCorners, shares_of
from sam21convert.comparison.gradients.noise import jumps_of
from sam21convert.comparison.metrics import MULTIPLE

EPSILON = torch.finfo(torch.float32).eps


def gradient(values: torch.Tensor, side: int, share: float = 1e-6) -> torch.Tensor:
    with torch.enable_grad(), MovedCorners([share], side):
        leaf = values.clone().requires_grad_()
        F.relu(leaf).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return leaf.grad


def test_the_corner_of_relu_is_moved_to_both_sides() -> None:
    values = torch.tensor([-1.0, -1e-7, 0.0, 1e-7, 1.0])
    assert gradient(values, -1).tolist() == [0, 1, 1, 1, 1]
    assert gradient(values, 1).tolist() == [0, 0, 0, 0, 1]


def test_what_is_not_near_a_corner_keeps_its_gradient() -> None:
    values = torch.tensor([-1.0, -1e-5, 1e-5, 1.0])
    assert torch.equal(gradient(values, -1), gradient(values, 1))


def test_places_that_are_as_large_are_told_apart_both_ways() -> None:
    values = torch.ones(1, 1, 2, 2)
    with torch.enable_grad():
        found = []
        for side in (-1, 1):
            leaf = values.clone().requires_grad_()
            with MovedCorners([1e-6], side):
                F.max_pool2d(leaf, 2).sum().backward()  # type: ignore[no-untyped-call]
            assert leaf.grad is not None
            found.append(leaf.grad)
    assert not torch.equal(*found)
    assert [float(one.sum()) for one in found] == [1, 1]


def test_the_noise_of_inputs_is_measured_call_by_call() -> None:
    runs = []
    for apart in (0.0, 1e-4):
        with Corners() as seen:
            F.relu(torch.tensor([2.0 + apart, -1.0]))
            F.max_pool2d(torch.ones(1, 1, 2, 2), 2)
        runs.append(seen)
    first, second = shares_of(runs, EPSILON)
    assert first == pytest.approx(MULTIPLE * 1e-4 / 2, rel=1e-2)
    assert second == MULTIPLE * EPSILON
    assert shares_of(runs[:1], EPSILON) == [MULTIPLE * EPSILON] * 2  # where one variant is all


def test_jumps_to_either_side_add_up() -> None:
    usual, less, more = ({"x.grad": torch.tensor([4.0, one])} for one in (1.0, 0.0, 3.0))
    assert jumps_of(usual, less, more) == {"x.grad": 0.25 + 0.5}
    assert jumps_of(usual, usual, usual) == {"x.grad": 0.0}
