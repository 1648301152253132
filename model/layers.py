"""Layers that several parts of the model share; none of them knows about images or prompts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")

# Where a method puts its intermediate results, by name; None if nobody asks for them.
Activations = dict[str, Tensor] | None


def drop_path(x: Tensor, rate: float) -> Tensor:
    """Leave out samples at random, and make the others larger by as much.

    Stochastic depth (arXiv 1603.09382), for the branch of a residual connection. Follows
    ``DropPath`` of ``modeling/sam2_utils.py``.

    Args:
        x: ``B x ...``.
        rate: Share of the samples that are left out, below 1.

    Returns:
        The same shape, in which samples are zero.
    """
    ones = x.new_ones(len(x), *(1 for _ in x.shape[1:]))  # B, 1, ...
    return x * F.dropout(ones, rate)


def compute(recompute: bool, function: Callable[..., Result], *inputs: Any) -> Result:
    """Call a function, whose intermediate results may be forgotten until gradients need them.

    Args:
        recompute: Whether they are forgotten, and computed once more; less memory, more time.
        function: The function.
        *inputs: Its arguments.

    Returns:
        What it returns.
    """
    if not recompute:
        return function(*inputs)
    result: Result = checkpoint(function, *inputs, use_reentrant=False)
    return result


class MLP(nn.Module):
    """Linear layers with an activation between every two of them.

    Follows ``modeling/sam2_utils.py``.

    Args:
        inputs: Width of the input.
        hidden: Width of every layer but the last.
        outputs: Width of the output.
        depth: Number of linear layers.
        activation: What is applied after every layer but the last.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        depth: int,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (depth - 1), outputs]
        self.layers = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers.

        Args:
            x: ``... x inputs``.

        Returns:
            ``... x outputs``.
        """
        first, *others = self.layers
        x = first(x)  # ..., hidden
        # For gradients a GELU keeps what it was given, beside what it gave to the next layer: the
        # latter is wide and cheap to compute once more.
        again = self.training and self.activation is F.gelu
        for layer in others:
            x = compute(again, self._through, layer, x)
        return x  # ..., outputs

    def _through(self, layer: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = layer(self.activation(x))
        return y


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of each place, for channels-first tensors.

    Written out as in ``modeling/sam2_utils.py``: ``F.layer_norm`` on transposed data rounds
    differently.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every place.

        Args:
            x: ``B x C x H x W``.

        Returns:
            The same shape.
        """
        mean = x.mean(1, keepdim=True)  # B, 1, H, W
        # The difference is taken twice as in the official code: gradients are summed along the way.
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        unit = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * unit + self.bias[:, None, None]


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than that of its tokens.

    Follows ``modeling/sam/transformer.py``.

    Args:
        width: Width of the queries and of the output.
        heads: Number of heads.
        inner: Width of the attention itself, over all heads; ``width`` by default.
        kv_width: Width of the keys and values; ``width`` by default.
    """

    def __init__(
        self, width: int, heads: int, *, inner: int | None = None, kv_width: int | None = None
    ) -> None:
        super().__init__()
        inner, kv_width = inner or width, kv_width or width
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(kv_width, inner)
        self.v_proj = nn.Linear(kv_width, inner)
        self.out_proj = nn.Linear(inner, width)

    def split_heads(self, x: Tensor) -> Tensor:
        """Give every head its share of the channels.

        Args:
            x: ``B x N x inner``.

        Returns:
            ``B x heads x N x inner/heads``.
        """
        x = x.reshape(*x.shape[:2], self.heads, -1)  # B, N, heads, inner/heads
        return x.transpose(1, 2)  # B, heads, N, inner/heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to ``M`` tokens.

        Args:
            q: Queries, ``B x N x width``.
            k: Keys, ``B x M x kv_width``.
            v: Values, ``B x M x kv_width``.

        Returns:
            ``B x N x width``.
        """
        mixed = F.scaled_dot_product_attention(
            self.split_heads(self.q_proj(q)),
            self.split_heads(self.k_proj(k)),
            self.split_heads(self.v_proj(v)),
        )
        y: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))  # B, N, width
        return y
