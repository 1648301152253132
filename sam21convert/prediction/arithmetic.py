"""In which type a model computes, and on which device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..io.tensor import DType


@dataclass(frozen=True)
class Arithmetic:
    """Where to compute, and in which type.

    Attributes:
        device: Device of both models.
        dtype: Type to compute in. Half precision means autocast, as the official code is used.
    """

    device: str
    dtype: DType

    @property
    def floor(self) -> float:
        """The machine epsilon of the type."""
        return float(torch.finfo(getattr(torch, self.dtype)).eps)

    @contextmanager
    def in_force(self, *, gradients: bool = False) -> Iterator[None]:
        """A context for running models: autocast in half precision, and no TF32.

        Args:
            gradients: Whether autograd records what is computed.

        Yields:
            Nothing.
        """
        switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
        before = [switch.allow_tf32 for switch in switches]
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(not gradients))
            stack.enter_context(torch.set_grad_enabled(gradients))
            if self.dtype != "float32":
                half = getattr(torch, self.dtype)
                stack.enter_context(torch.autocast(torch.device(self.device).type, dtype=half))
            for switch in switches:
                switch.allow_tf32 = False
            try:
                yield
            finally:
                for switch, allowed in zip(switches, before, strict=True):
                    switch.allow_tf32 = allowed
