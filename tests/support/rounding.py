"""How far a model comes out from itself when nothing but rounding differs.

Two implementations of one model round at other places, and how far that carries depends on the
weights, the input and the processor. So tolerances are multiples of what is measured here: the same
computation with attention spelled out, with another number of threads, and with every weight moved
to a floating-point neighbour, which is as far as any rounding could have moved it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from sam21convert.comparison.backends.variants import other_threads, plain_attention

MULTIPLE = 5  # of what is measured: another implementation rounds at more places than a variant
SEEDS = range(4)

Model = TypeVar("Model", bound=nn.Module)


def nudged(model: Model, seed: int) -> Model:
    """A copy with every weight moved to the next number above or below."""
    generator = torch.Generator().manual_seed(seed)
    copy = deepcopy(model)
    with torch.no_grad():
        for weights in copy.parameters():
            up = torch.rand(weights.shape, generator=generator) < 0.5
            towards = torch.where(up, torch.inf, -torch.inf)
            weights.copy_(torch.nextafter(weights, towards))
    return copy


def variants(model: Model) -> Iterator[tuple[Model, AbstractContextManager[None]]]:
    """The same model computed by other means, and the circumstances to run it in."""
    yield model, plain_attention()
    yield model, other_threads()
    for seed in SEEDS:
        yield nudged(model, seed), nullcontext()


def relative(mine: Tensor, theirs: Tensor) -> float:
    """Largest difference, in units of the scale of what is compared: its largest magnitude."""
    return float((mine - theirs).abs().max() / theirs.abs().max())


def rounding(model: Model, compute: Callable[[Model], Mapping[str, Tensor]]) -> dict[str, float]:
    """The furthest that a variant comes out, for each result that ``compute`` names."""
    usual = compute(model)
    furthest = dict.fromkeys(usual, torch.finfo(torch.float32).eps)
    for variant, circumstances in variants(model):
        with circumstances:
            found = compute(variant)
        for name, tensor in usual.items():
            furthest[name] = max(furthest[name], relative(found[name], tensor))
    return furthest


def beyond_rounding(
    noise: Mapping[str, float], mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> dict[str, float]:
    """What is further apart than rounding explains: how far, by name."""
    assert noise.keys() == mine.keys() == theirs.keys()
    apart = {name: relative(mine[name], theirs[name]) for name in mine}
    return {name: found for name, found in apart.items() if found > MULTIPLE * noise[name]}
