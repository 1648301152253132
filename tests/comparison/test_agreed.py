"""Where rounding decides, both sides of a comparison go on with the same value.

A memory of a prompted frame is made of the signs of a mask. Where one model finds a logit of 1e-6
and another -1e-6, the memories would differ by hundredths, and every frame after that too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sam21convert
from sam21convert.comparison.activations import Activations, Recorder
from sam21convert.comparison.backends.sam2 import Official
from sam21convert.comparison.backends.transformers import Transformers
from sam21convert.comparison.backends.truth import Truth
from sam21convert.comparison.metrics import relative

from ..support.backends import asked, loaded
from ..support.checkpoints import DEBUG

SEEN = 1e-3  # of the scale: what a few signs change at least


def turned(mask: Tensor) -> Tensor:
    """The mask with other signs, where that is less than a bfloat16 step away."""
    near = 2 * mask.abs() <= torch.finfo(torch.bfloat16).eps * mask.abs().amax()
    return torch.where(near, -mask, mask)


def check(truth: Any, backend: Any, scenario: str) -> None:
    """A backend goes on with agreed signs where rounding may have turned its own, only there."""
    name, memory = (f"frame0.object1.memory_encoder.{one}" for one in ("mask", "output"))
    mine = asked(truth, scenario)
    mask = mine[name]
    assert 0 < (turned(mask) != mask).sum() < mask.numel() / 10
    usual, other, opposite = (
        asked(backend, scenario, agreed=agreed)
        for agreed in (mine, {name: turned(mask)}, {name: -mask})
    )
    assert torch.equal(usual[name], other[name])  # recorded as it was computed
    assert relative(usual[memory], other[memory]) > SEEN
    expected = asked(truth, scenario, agreed={name: turned(mask)})
    assert relative(expected[memory], other[memory]) < SEEN / 10
    # Of the opposite mask, the signs near 0 are agreed as well, and no others.
    assert relative(other[memory], opposite[memory]) < SEEN / 10


@pytest.mark.parametrize("kind", [Truth, Official, Transformers])
def test_signs_that_rounding_turns_are_agreed(kind: Any, tmp_path: Path) -> None:
    source = tmp_path / "seen.pt"
    sam21convert.sample(source, DEBUG, seed=3)  # by chance, its object is there
    check(loaded(Truth, source), loaded(kind, source), "video-point")


class TestRecorder:
    def test_what_is_near_takes_the_agreed_sign(self) -> None:
        agreed = torch.tensor([-10.0, 1e-6, -1e-6, 0.0, 1.0])
        own = torch.tensor([-10.5, -1e-6, 1e-6, 1e-6, 0.9])
        recorder = Recorder({"memory_encoder.mask": agreed})
        kept = recorder.remember_signs(own)
        assert kept.tolist() == pytest.approx([-10.5, 1e-6, -1e-6, 0.0, 0.9])
        assert torch.equal(recorder["memory_encoder.mask"], own)

    @pytest.mark.parametrize("agreed", [{}, {"memory_encoder.mask": torch.ones(3)}])
    def test_without_a_mask_to_agree_with_it_is_left(self, agreed: Activations) -> None:
        own = torch.tensor([-1.0, 1e-6])
        assert torch.equal(Recorder(agreed).remember_signs(own), own)

    def test_one_that_is_far_keeps_its_sign(self) -> None:
        agreed, own = torch.tensor([10.0, 0.1]), torch.tensor([10.0, -0.1])
        kept = Recorder({"memory_encoder.mask": agreed}).remember_signs(own)
        assert torch.equal(kept, own)
