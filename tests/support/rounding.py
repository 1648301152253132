"""How far a model is from itself when nothing but rounding differs.

Two implementations of one model round in different places, and how much that matters depends on the
weights, the input and the processor. So tolerances are multiples of what is measured here, in the
same run: the same computation with other kernels, with another number of threads, and with every
weight moved to a neighbouring floating-point number, which is as far as rounding can move it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from sam21convert.comparison.noise import other_threads, plain_attention

MULTIPLE = 5  # tolerance over noise: another implementation rounds in more places than a variant
SEEDS = range(2)
EPSILON = torch.finfo(torch.float32).eps

Model = TypeVar("Model", bound=nn.Module)


def nudged(model: Model, seed: int) -> Model:
    """A copy of a model with every weight moved to the next number above or below.

    Args:
        model: The model.
        seed: Decides the direction for each weight.

    Returns:
        The copy.
    """
    generator = torch.Generator().manual_seed(seed)
    copy = deepcopy(model)
    with torch.no_grad():
        for weights in copy.parameters():
            up = torch.rand(weights.shape, generator=generator) < 0.5
            towards = torch.where(up, torch.inf, -torch.inf)
            weights.copy_(torch.nextafter(weights, towards))
    return copy


@contextmanager
def plain_convolutions() -> Iterator[None]:
    """A context in which torch convolves by its own kernels, not by those of oneDNN.

    Yields:
        Nothing.
    """
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


def variants(model: Model) -> Iterator[tuple[Model, AbstractContextManager[None]]]:
    """The same model, computed by other means.

    Args:
        model: The model.

    Yields:
        A model, and the context in which to run it.
    """
    yield model, plain_attention()
    yield model, plain_convolutions()
    yield model, other_threads()
    for seed in SEEDS:
        yield nudged(model, seed), nullcontext()


def relative(mine: Tensor, theirs: Tensor) -> float:
    """The largest difference, divided by the largest magnitude.

    Args:
        mine: One tensor.
        theirs: The other tensor, which gives the scale.

    Returns:
        The relative difference.
    """
    return float((mine - theirs).abs().max() / theirs.abs().max())


def rounding(
    model: Model, *computations: Callable[[Model], Mapping[str, Tensor]]
) -> dict[str, float]:
    """The noise of a model's results: the largest difference of a variant, for any input.

    Args:
        model: The model.
        *computations: Each runs a model on another input and returns its results by name.

    Returns:
        The noise by name of the result, at least the machine epsilon of float32.
    """
    usual = [compute(model) for compute in computations]
    noise = {name: EPSILON for results in usual for name in results}
    for variant, context in variants(model):
        with context:
            for compute, results in zip(computations, usual, strict=True):
                found = compute(variant)
                for name, tensor in results.items():
                    noise[name] = max(noise[name], relative(found[name], tensor))
    return noise


def beyond_rounding(
    noise: Mapping[str, float], mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> dict[str, float]:
    """The results that differ by more than rounding explains.

    Args:
        noise: The noise by name of the result.
        mine: Our results.
        theirs: The results of another implementation.

    Returns:
        The relative difference of each of those results, by name.
    """
    assert noise.keys() == mine.keys() == theirs.keys()
    apart = {name: relative(mine[name], theirs[name]) for name in mine}
    return {name: found for name, found in apart.items() if found > MULTIPLE * noise[name]}
