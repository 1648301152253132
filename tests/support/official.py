"""The official SAM 2 code and random weights for it, to compare with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from sam2.build_sam import build_sam2
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sam21convert.config.registry import SHIPPED
from sam21convert.config.skeleton import undrawn
from sam21convert.prediction.backends.sam2_build import build_base as build_official
from sam21convert.prediction.backends.sam2_build import build_predictor as build_official_predictor
from sam21convert.prediction.backends.sam2_build import image_predictor as official_predictor

__all__ = ["build_official", "build_official_predictor", "official_predictor"]

PUBLISHED = tuple(shipped.name for shipped in SHIPPED if shipped.size != "debug")
DEBUG = tuple(shipped.name for shipped in SHIPPED if shipped.size == "debug")
# For long tests that gain little from another generation.
SAM2_IS_SLOW = tuple(
    pytest.param(one.name, marks=() if one.generation == "2.1" else pytest.mark.slow)
    for one in SHIPPED
    if one.size == "debug"
)


def build_published(name: str) -> Any:
    """A published model as the official builder makes it from the official YAML."""
    return build_sam2(f"configs/{name}.yaml", device="meta")


@contextmanager
def on_meta() -> Iterator[None]:
    """Build official models without memory; a ``linspace`` whose values they read stays real."""
    with undrawn(), _RealLinspace():
        yield


class _RealLinspace(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        real = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **(kwargs or {}), **real)


def randomise(target: nn.Module | Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Random values for every tensor, such that activations stay of order one; a model gets them.

    The same names and shapes get the same values, whoever they belong to.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, tensor in (target.state_dict() if isinstance(target, nn.Module) else target).items():
        centre, spread = _distribution(name, tuple(tensor.shape))
        drawn[name] = centre + spread * torch.randn(tensor.shape, generator=generator)
    if isinstance(target, nn.Module):
        target.load_state_dict(drawn)
    return drawn


def _distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    last = name.rpartition(".")[2]
    if len(shape) == 1:
        return (1.0, 0.1) if last in ("weight", "gamma") else (0.0, 0.1)
    if last != "weight" or re.search(r"(_embed|_embeddings\.\d|_tokens?)\.weight$", name):
        return 0.0, 1.0 if "gaussian" in name else 0.5
    inputs = shape[0] if "output_upscaling" in name else int(torch.Size(shape[1:]).numel())
    # Random attention is flat, and what looks at an image through it would see only its mean.
    sharper = 2.0 if "token_to_image.q_proj" in name or "token_to_image.k_proj" in name else 1.0
    return 0.0, sharper / inputs**0.5


def _plain(value: Any) -> Any:
    """Sequences as tuples and mappings as dicts: Hydra has classes of its own for them."""
    if isinstance(value, Mapping):
        return dict(value)
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _settings_of(module: nn.Module) -> dict[str, Any]:
    plain = (bool, int, float, str, type(None), tuple, dict)
    own = {k: _plain(v) for k, v in vars(module).items() if not k.startswith("_")}
    return {name: value for name, value in own.items() if isinstance(value, plain)}


def settings(model: nn.Module) -> dict[str, tuple[str, dict[str, Any]]]:
    """Class and plain attributes of every module, by its name."""
    return {name: (type(m).__name__, _settings_of(m)) for name, m in model.named_modules()}
