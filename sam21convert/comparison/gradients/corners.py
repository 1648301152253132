"""Where rounding decides a gradient: at the corner of ReLU, and between the places of max pooling.

There a loss goes on smoothly and its gradient jumps. An input that lies within rounding of a corner
may be on either side of it, so two models that compute the same may take different gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..metrics import MULTIPLE

_EACH = 97  # of the elements of an input, one is kept: enough to know how noisy it is
_RELU, _POOL = "relu", "max_pool2d"


class Corners(TorchFunctionMode):
    """A context in which the inputs of corners are noted, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if _corner(func):
            some = args[0].detach().flatten()[::_EACH]
            self.inputs.append(some.to("cpu", torch.float64, copy=True))
        return func(*args, **(kwargs or {}))


class MovedCorners(TorchFunctionMode):
    """A context in which corners lie a little to one side; values change by rounding errors only.

    Args:
        shares: By how much, in units of the largest magnitude of the input, for each call in turn.
        side: 1 or -1: to which side.
    """

    def __init__(self, shares: Sequence[float], side: int) -> None:
        super().__init__()
        self._shares = iter(shares)
        self._side = side

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kind = _corner(func)
        if not kind:
            return func(*args, **(kwargs or {}))
        given, *others = args
        move = self._side * next(self._shares) * given.detach().abs().amax()
        if kind == _RELU:
            return torch.where(given > move, given, 0)
        generator = torch.Generator().manual_seed(0)
        drawn = torch.rand(given.shape, generator=generator).to(given) * 2 - 1
        return func(given + move * drawn, *others, **(kwargs or {}))


def _corner(func: Any) -> str:
    name = getattr(func, "__name__", "")
    return next((kind for kind in (_RELU, _POOL) if name.lstrip("_") == kind), "")


def shares_of(runs: Sequence[Corners], floor: float) -> list[float]:
    """By how much rounding may move the inputs of corners.

    Args:
        runs: What was noted of numerical variants, with the same calls.
        floor: The smallest noise; all there is with a single variant.

    Returns:
        For each call, a multiple of the noise of its input, in units of its largest magnitude.
    """
    first, last = runs[0].inputs, runs[-1].inputs
    return [
        MULTIPLE * max(floor, float((one - two).abs().amax() / one.abs().amax().clamp(min=1e-30)))
        for one, two in zip(first, last, strict=True)
    ]
