"""Layers that several parts of the model share. None of them knows of images or prompts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activations = (
    dict[str, Tensor] | None
)  # named intermediate results, for whoever wants to look inside


class MLP(nn.Module):
    """``depth`` linear layers with an activation between every two of them.

    All hidden widths are equal. Follows ``modeling/sam2_utils.py``.
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
        """``... x inputs`` to ``... x outputs``."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))  # ..., hidden
        y: Tensor = last(x)  # ..., outputs
        return y


class LayerNorm2d(nn.Module):
    """Layer normalisation over channels that come first, at each place by itself.

    Spelled out rather than by ``F.layer_norm`` on transposed data, whose rounding differs. Follows
    ``modeling/sam2_utils.py``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        """``B x C x H x W`` to the same."""
        centred = x - x.mean(1, keepdim=True)
        variance = centred.pow(2).mean(1, keepdim=True)  # B, 1, H, W
        unit = centred / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * unit + self.bias[:, None, None]


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than that of its tokens.

    Follows ``modeling/sam/transformer.py``.
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
        """``B x N x inner`` to ``B x heads x N x inner/heads``."""
        x = x.reshape(*x.shape[:2], self.heads, -1)  # B, N, heads, inner/heads
        return x.transpose(1, 2)  # B, heads, N, inner/heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``q`` is ``B x N x width``, as is the result; ``k``, ``v`` are ``B x M x kv_width``."""
        mixed = F.scaled_dot_product_attention(
            self.split_heads(self.q_proj(q)),
            self.split_heads(self.k_proj(k)),
            self.split_heads(self.v_proj(v)),
        )
        y: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))  # B, N, width
        return y
