"""The variants of the ground truth that measure the noise of a comparison.

A variant computes the same by other means: with another attention kernel, another number of
threads, or in double precision. Its difference from the ground truth is nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..model.sam2 import ImageFeatures
from ..prediction.arithmetic import Arithmetic
from .activations import Activations
from .backends.base import Backend
from .backends.truth import Truth, in_double
from .metrics import least_unit, relative

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


def variants(
    truth: Truth, arithmetic: Arithmetic, *, video: bool = False
) -> list[NumericalVariant]:
    """Ways to compute the same as the ground truth.

    Args:
        truth: The ground truth.
        arithmetic: Where to compute, and in which type.
        video: Whether the variants will run videos. On a CPU, double precision takes minutes for a
            large model. It is then left out for videos, and for images only what follows the
            encoder is computed in it.

    Returns:
        One or two variants.
    """
    found = [NumericalVariant("another attention kernel", truth.twin(), plain_attention)]
    if arithmetic.dtype == "float32" and arithmetic.device.startswith("mps"):
        return found  # there is no float64
    if arithmetic.dtype == "float32":
        if arithmetic.device != "cpu" or _work(truth) <= _AFFORDABLE:
            found.append(NumericalVariant("float64", truth.in_float64))
        elif not video:
            found.append(NumericalVariant("float64 after the encoder", _ExactPrompts(truth)))
    elif arithmetic.device == "cpu":
        found.append(NumericalVariant("another number of threads", truth.twin(), other_threads))
    return found


class _ExactPrompts(Truth):
    """The ground truth in double precision, with the image features of another backend."""

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth.source, in_double(truth.model), images_only=True)
        self._encoded_by = truth

    def encode(self, pixels: Tensor) -> Activations:
        """Take over the features of the other backend."""
        found = self._encoded_by.features
        assert found is not None
        fine, middle = found.high_res
        self.features = ImageFeatures(found.embedding.double(), (fine.double(), middle.double()))
        return {}


def _work(truth: Truth) -> float:
    return sum(p.numel() for p in truth.model.parameters()) * float(truth.config.image_size**2)


@contextmanager
def plain_attention() -> Iterator[None]:
    """A context in which attention is computed step by step, not by a fused kernel of torch.

    Yields:
        Nothing.
    """
    with sdpa_kernel(SDPBackend.MATH):
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


def noise_of(
    reference: Activations, variants: Iterable[Activations], floor: float
) -> dict[str, float]:
    """The noise of each activation: the largest difference of a variant from the reference.

    Rounding errors carry over, so the noise of an activation is never smaller than the noise of the
    activations before it.

    Args:
        reference: Activations of the ground truth, in the order of computation.
        variants: Activations of the same model, computed by other means. Some may be missing.
        floor: The smallest noise, which is the machine epsilon of the arithmetic.

    Returns:
        The noise by name of the activation, relative to its scale as in :func:`relative`.
    """
    runs, noise, largest = list(variants), {}, floor
    for name, activation in reference.items():
        found = (relative(activation, run[name], least_unit(name)) for run in runs if name in run)
        noise[name] = largest = max([largest, *found])
    return noise
