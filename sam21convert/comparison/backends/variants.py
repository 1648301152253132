"""Who speaks in a comparison: two sides, and variants of the ground truth that measure its noise.

A variant computes the same by other means: its attention by another kernel, with another number of
threads, in double precision. How far it comes out from the ground truth is rounding, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...io.tensor import DType
from ...model.sam2 import ImageFeatures
from ..activations import Activations
from .base import Backend
from .truth import Truth, in_double

_AFFORDABLE = 60e6 * 256**2  # parameters times pixels, for double precision on a CPU


@dataclass(frozen=True)
class Arithmetic:
    """Where and in what type to compute. Half precision is autocast's, as officially in use."""

    device: str
    dtype: DType

    @property
    def floor(self) -> float:
        """The last place of the type."""
        return float(torch.finfo(getattr(torch, self.dtype)).eps)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Compute so, without gradients and, in float32, without TF32."""
        kinds: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
        before = [kind.allow_tf32 for kind in kinds]
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self.dtype != "float32":
                kind = getattr(torch, self.dtype)
                stack.enter_context(torch.autocast(torch.device(self.device).type, dtype=kind))
            for one in kinds:
                one.allow_tf32 = False
            try:
                yield
            finally:
                for one, was in zip(kinds, before, strict=True):
                    one.allow_tf32 = was


@dataclass(frozen=True)
class NumericalVariant:
    """A backend, and the circumstances in which it speaks."""

    name: str
    backend: Backend
    circumstances: Callable[[], AbstractContextManager[None]] = nullcontext


def variants(
    truth: Truth, arithmetic: Arithmetic, *, video: bool = False
) -> list[NumericalVariant]:
    """Ways to compute the same as ``truth``; double precision where it takes no minutes."""
    variants = [NumericalVariant("another attention kernel", truth.twin(), plain_attention)]
    if arithmetic.dtype == "float32":
        if arithmetic.device != "cpu" or _work(truth) <= _AFFORDABLE:
            variants.append(NumericalVariant("float64", truth.in_float64()))
        elif not video:
            variants.append(NumericalVariant("float64 after the encoder", _ExactPrompts(truth)))
    elif arithmetic.device == "cpu":
        variants.append(NumericalVariant("another number of threads", truth.twin(), other_threads))
    return variants


class _ExactPrompts(Truth):
    """The ground truth in double precision, shown what another has encoded last."""

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth.source, in_double(truth.model), images_only=True)
        self._encoded_by = truth

    def encode(self, pixels: Tensor) -> Activations:
        """Take over the features."""
        found = self._encoded_by.features
        assert found is not None
        fine, middle = found.high_res
        self.features = ImageFeatures(found.embedding.double(), (fine.double(), middle.double()))
        return {}


def _work(truth: Truth) -> float:
    return sum(p.numel() for p in truth.model.parameters()) * float(truth.config.image_size**2)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention spelled out, rather than by the kernel that torch would pick."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def other_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
