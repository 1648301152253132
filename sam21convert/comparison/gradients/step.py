"""One step of training on one side: forward, loss, backward; and why a weight got no gradient."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...prediction.arithmetic import Arithmetic
from ...training.losses import Losses, LossSettings
from ..backends.base import CannotRun
from .inputs import Example


class Weight(NamedTuple):
    """A weight by its canonical name: a parameter of a package, or some rows of one.

    Attributes:
        parameter: The parameter, which gets the gradient.
        rows: The rows that are this weight.
    """

    parameter: nn.Parameter
    rows: slice = slice(None)


class NoGradients(CannotRun):
    """A package's forward is cut off from autograd; the message says by what."""


class Trainee(Protocol):
    """One side of a comparison of gradients."""

    @property
    def weights(self) -> Mapping[str, Weight]:
        """Its weights by canonical name."""

    def part(self, path: str) -> nn.Module:
        """A submodule.

        Args:
            path: Its dotted path in the ground truth.

        Returns:
            The module that computes the same.
        """

    def losses(self, example: Example, settings: LossSettings) -> Losses:
        """Run the forward of a training step, without dropout.

        Args:
            example: The clip and the prompts.
            settings: Weights of the losses.

        Returns:
            The losses, which gradients can be computed of.

        Raises:
            NoGradients: When the package lets no gradient through.
            CannotRun: When it cannot do what the example asks for.
        """


@dataclass(frozen=True)
class Outcome:
    """What a step of training gave.

    Attributes:
        losses: The losses by name, ``loss`` first, which is their weighted sum; no axes.
        gradients: Gradients by canonical name, in the main memory. They come in the order in which
            the backward pass completed them: those nearest to the loss first.
    """

    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]


def take_step(
    trainee: Trainee, example: Example, settings: LossSettings, arithmetic: Arithmetic
) -> Outcome:
    """Run forward and backward; no weight changes.

    Args:
        trainee: Who learns.
        example: From what.
        settings: Weights of the losses.
        arithmetic: Where to compute, and in which type; the backward follows the forward in it.

    Returns:
        Losses and gradients.

    Raises:
        NoGradients: When no gradient can be computed.
        CannotRun: When the side cannot do what the example asks for.
    """
    weights = trainee.weights
    with arithmetic.in_force(gradients=True):
        found = trainee.losses(example, settings)
    if not found.total.requires_grad:
        raise NoGradients("the loss is cut off from every parameter")
    with (
        replace(arithmetic, dtype="float32").in_force(gradients=True),  # no autocast, as usual
        _noting(weights) as order,
    ):
        found.total.backward()  # type: ignore[no-untyped-call]
        gradients = {
            name: parameter.grad[rows].detach().to("cpu", copy=True)
            for name, (parameter, rows) in sorted(
                weights.items(), key=lambda item: order.get(id(item[1].parameter), -1)
            )
            if parameter.grad is not None
        }
    names = ("loss", *(f"loss.{part}" for part in found._fields[1:]))
    return Outcome(
        {n: loss.detach().to("cpu") for n, loss in zip(names, found, strict=True)}, gradients
    )


@contextmanager
def _noting(weights: Mapping[str, Weight]) -> Iterator[dict[int, int]]:
    """Yield the order in which parameters get their gradients, which are removed at the end."""
    order: dict[int, int] = {}

    def arrived(parameter: Tensor) -> None:
        order[id(parameter)] = len(order)

    parameters = {id(weight.parameter): weight.parameter for weight in weights.values()}
    with ExitStack() as stack:
        for parameter in parameters.values():
            parameter.grad = None
            if parameter.requires_grad:
                hook = parameter.register_post_accumulate_grad_hook(arrived)  # type: ignore[no-untyped-call]
                stack.callback(hook.remove)
        try:
            yield order
        finally:
            for parameter in parameters.values():
                parameter.grad = None


def reasons(
    trainee: Trainee,
    example: Example,
    settings: LossSettings,
    arithmetic: Arithmetic,
    names: Collection[str],
) -> dict[str, str]:
    """Find out why weights got no gradient: the forward is run again, and watched.

    Args:
        trainee: Who learns.
        example: From what.
        settings: Weights of the losses.
        arithmetic: Where to compute, and in which type.
        names: Canonical names of the weights.

    Returns:
        A reason for each name.
    """
    weights = trainee.weights
    uses = _Uses({id(weights[name].parameter) for name in names if name in weights})
    with arithmetic.in_force(gradients=True), uses:
        trainee.losses(example, settings)
    return {name: _reason(weights.get(name), uses) for name in names}


class _Uses(TorchFunctionMode):
    """Notes in which mode of autograd each of some parameters is used."""

    def __init__(self, watched: Collection[int]) -> None:
        super().__init__()
        self._watched = watched
        self.modes: dict[int, set[str]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, (Tensor, tuple, list)):  # anything else is a question about a tensor
            for tensor in _tensors((args, kwargs)):
                if id(tensor) in self._watched:
                    self.modes.setdefault(id(tensor), set()).add(_mode())
        return found


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, (tuple, list)):
        for one in given:
            yield from _tensors(one)
    elif isinstance(given, dict):
        yield from _tensors([*given.values()])


def _mode() -> str:
    if torch.is_inference_mode_enabled():
        return "used under torch.inference_mode"
    return "" if torch.is_grad_enabled() else "used under torch.no_grad"


def _reason(weight: Weight | None, uses: _Uses) -> str:
    if weight is None:
        return "not a parameter there"
    if not weight.parameter.requires_grad:
        return "frozen: requires_grad is False"
    modes = uses.modes.get(id(weight.parameter), set())
    if not modes:
        return "not reached: nothing was computed from it"
    if "" in modes:
        return "detached: it was used, but autograd does not lead to it from the loss"
    return " and ".join(sorted(modes))
