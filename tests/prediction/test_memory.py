"""The peak of what tensors take is that of those that are there at the same time."""

from __future__ import annotations

import torch

from sam21convert.prediction.memory import PeakMemory

COUNT, BYTES = 1000, 4000  # float32


def test_what_is_gone_does_not_count() -> None:
    with PeakMemory() as memory:
        first = torch.zeros(COUNT)
        second = first + 1
        del first
        third = second * 2
    assert memory.peak == 2 * BYTES
    assert float(third[0]) == 2


def test_what_is_kept_counts_and_so_does_what_was_there_before() -> None:
    before = torch.ones(COUNT)
    with PeakMemory() as memory:
        first = before + 1
        second = first + 1
        view = second[1:] * 1
    assert memory.peak == 4 * BYTES - 4
    assert len(view) == COUNT - 1


def test_a_view_and_a_change_in_place_take_nothing() -> None:
    with PeakMemory() as memory:
        torch.zeros(COUNT).view(10, 100).add_(1).mul_(2)
    assert memory.peak == BYTES
