"""The variants of the ground truth that measure the noise of a comparison.

A variant computes the same by other means: with the sums of attention in another order, another
number of threads, or in double precision. Its difference from the ground truth is nothing but
rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..model.sam2 import ImageFeatures
from ..prediction.arithmetic import Arithmetic
from ..prediction.backends.replaced import replaced
from .activations import Activations, Watch
from .backends.base import Backend
from .backends.truth import Truth, in_double
from .metrics import least_unit, relative

_SCORES = 2**21  # of attention at a time: 8 MB, which processors keep near
_AFFORDABLE = 60e6 * 256**2  # parameters times pixels that take seconds in float64 on a CPU


@dataclass(frozen=True)
class NumericalVariant:
    """A variant of the ground truth.

    Attributes:
        name: How it computes, for the report.
        backend: The backend to run.
        context: Makes the context in which it must be run.
    """

    name: str
    backend: Backend
    context: Callable[[], AbstractContextManager[None]] = nullcontext


def variants(truth: Truth, arithmetic: Arithmetic) -> list[NumericalVariant]:
    """Ways to compute the same as the ground truth.

    Args:
        truth: The ground truth.
        arithmetic: Where to compute, and in which type. On a CPU, double precision takes minutes
            for a large model. Then only what follows the encoder of an image is computed in it, and
            the variant does not run videos.

    Returns:
        One or two variants.
    """
    found = [NumericalVariant("attention summed backwards", truth.variant(), backward_attention)]
    if arithmetic.dtype == "float32" and arithmetic.device.startswith("mps"):
        return found  # there is no float64
    if arithmetic.dtype == "float32":
        if arithmetic.device != "cpu" or affordable(truth):
            found.append(NumericalVariant("float64", truth.variant(in_double(truth.model))))
        else:
            found.append(NumericalVariant("float64 after the encoder", _ExactPrompts(truth)))
    elif arithmetic.device == "cpu":
        found.append(NumericalVariant("another number of threads", truth.variant(), other_threads))
    return found


class _ExactPrompts(Truth):
    """The ground truth in double precision, with the image features of another backend."""

    def __init__(self, truth: Truth) -> None:
        model = in_double(truth.model, encoder=False)
        super().__init__(truth.source, model, images_only=True)
        self._encoded_by = truth

    def encode(self, pixels: Tensor) -> Activations:
        """Take over the features of the other backend."""
        found = self._encoded_by.features
        assert found is not None
        fine, middle = found.high_res
        self.features = ImageFeatures(found.embedding.double(), (fine.double(), middle.double()))
        return {}


def affordable(truth: Truth) -> bool:
    """Whether a model is small enough to compute in double precision on a CPU, in seconds.

    Args:
        truth: The ground truth.

    Returns:
        Whether it is, at its image size.
    """
    weights = sum(parameter.numel() for parameter in truth.model.parameters())
    return weights * float(truth.config.image_size**2) <= _AFFORDABLE


@contextmanager
def backward_attention() -> Iterator[None]:
    """A context in which attention adds everything up in the opposite order.

    Channels and keys are given to the kernel from the last to the first, which changes nothing but
    rounding, and takes as long as usual.

    Yields:
        Nothing.
    """
    attend = F.scaled_dot_product_attention

    def turned(q: Tensor, k: Tensor, v: Tensor, *mask: Any, **options: Any) -> Tensor:
        if mask or options.keys() - {"dropout_p"}:  # a mask would have to be turned as well
            return attend(q, k, v, *mask, **options)
        return attend(q.flip(-1), k.flip(-1, -2), v.flip(-2), **options)

    with replaced(F, scaled_dot_product_attention=turned):
        yield


@contextmanager
def plain_attention() -> Iterator[None]:
    """A context in which attention is computed step by step, not by a fused kernel of torch.

    All scores of some queries are in memory at a time: those of all queries would need a gigabyte.

    Yields:
        Nothing.
    """
    attend = F.scaled_dot_product_attention

    def in_slices(q: Tensor, k: Tensor, v: Tensor, *others: Any, **options: Any) -> Tensor:
        if others or options:  # such as a mask, which would have to be cut as well
            return attend(q, k, v, *others, **options)
        rows = max(1, _SCORES // (q[..., 0, 0].numel() * k.shape[-2]))
        return torch.cat([attend(some, k, v) for some in torch.split(q, rows, dim=-2)], dim=-2)

    with sdpa_kernel(SDPBackend.MATH), replaced(F, scaled_dot_product_attention=in_slices):
        yield


@contextmanager
def other_threads() -> Iterator[None]:
    """A context in which torch uses another number of threads: 1, or 2 if it used 1.

    Yields:
        Nothing.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def measuring(reference: Activations, found: dict[str, float]) -> Watch:
    """Make a watcher that measures how far activations are from those of a reference.

    Args:
        reference: Activations of the ground truth.
        found: Gets the difference of each, relative to its scale as in :func:`relative`.

    Returns:
        A watcher after which no activation is kept: those of a large picture take 135 MB.
    """

    def watch(name: str, activation: Tensor) -> bool:
        if name in reference:
            found[name] = relative(reference[name], activation, least_unit(name))
        return True

    return watch


def noise_of(
    reference: Iterable[str], variants: Iterable[Mapping[str, float]], floor: float
) -> dict[str, float]:
    """The noise of each activation: the largest difference of a variant from the reference.

    Rounding errors carry over, so the noise of an activation is never smaller than the noise of the
    activations before it.

    Args:
        reference: Names of the activations of the ground truth, in the order of computation.
        variants: How far those of the same model are, computed by other means, as
            :func:`measuring` finds it. Some may be missing.
        floor: The smallest noise, which is the machine epsilon of the arithmetic.

    Returns:
        The noise by name of the activation, relative to its scale.
    """
    runs, noise, largest = list(variants), {}, floor
    for name in reference:
        noise[name] = largest = max([largest, *(run[name] for run in runs if name in run)])
    return noise
