"""Conditions a frame on what is remembered (SAM 2 paper, arXiv 2408.00714, section 4).

A transformer in which the places of the frame attend to each other, then to all memories. Queries
and keys are turned according to their places in the picture; object pointers, which have none, are
not.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .config import MemoryAttentionConfig
from .layers import Attention
from .position_encoding import rotary_grid, sine_grid, turn

_HEADS = 1
_POSITION_SCALE = 0.1  # of the frame's own encoding, which is added before the first layer


class RotaryAttention(Attention):
    """Attention whose queries and keys are turned according to their places.

    Follows ``RoPEAttention`` of ``modeling/sam/transformer.py``.
    """

    def forward(  # type: ignore[override]  # what it attends to has places
        self, q: Tensor, k: Tensor, v: Tensor, q_turns: Tensor, k_turns: Tensor
    ) -> Tensor:
        """``q`` is ``B x N x width``, as is the result; ``k``, ``v`` are ``B x M x kv_width``.

        ``q_turns`` (N x width/heads/2, complex) belongs to the places of the queries, ``k_turns``
        to those of the first keys; keys beyond have no place.
        """
        q, k, v = (
            self.split_heads(layer(x))  # B, heads, N or M, width/heads
            for layer, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        q, placed = turn(q, q_turns), len(k_turns)
        k[:, :, :placed] = turn(k[:, :, :placed], k_turns)
        mixed = F.scaled_dot_product_attention(q, k, v)
        y: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))  # B, N, width
        return y


class MemoryAttentionLayer(nn.Module):
    """A frame attends to itself, then to its memories.

    Follows ``modeling/memory_attention.py``.
    """

    def __init__(self, width: int, memory_width: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = RotaryAttention(width, _HEADS)
        self.cross_attn_image = RotaryAttention(width, _HEADS, kv_width=memory_width)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, keys: Tensor, memory: Tensor, turns: Tensor, memory_turns: Tensor
    ) -> Tensor:
        """``B x N x C`` frame to the same; ``keys`` are ``memory`` (B x M x K) with positions."""
        normed = self.norm1(x)
        x = x + self.self_attn(normed, normed, normed, turns, turns)
        x = x + self.cross_attn_image(self.norm2(x), keys, memory, turns, memory_turns)
        refined: Tensor = self.linear2(F.relu(self.linear1(self.norm3(x))))
        return x + refined


class MemoryAttention(nn.Module):
    """Conditions a frame's features on memories and object pointers.

    Follows ``modeling/memory_attention.py``.
    """

    def __init__(self, width: int, memory_width: int, config: MemoryAttentionConfig) -> None:
        super().__init__()
        self.rope_theta = config.rope_theta
        self.layers = nn.ModuleList(
            MemoryAttentionLayer(width, memory_width, config.dim_feedforward)
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, frame: Tensor, memory: Tensor, position: Tensor, pointers: int) -> Tensor:
        """``B x C x H x W`` features to the same, conditioned.

        ``memory`` is ``B x M x K``, as is its ``position``: the places of one or more spatial
        memories (H*W each, in reading order), then ``pointers`` tokens of object pointers.
        """
        _, c, h, w = frame.shape
        own = sine_grid(c, h, w, frame.device).to(frame.dtype)
        x = frame + _POSITION_SCALE * own
        x = x.flatten(2).transpose(1, 2)  # B, H*W, C
        turns = rotary_grid(c // _HEADS, h, w, self.rope_theta, frame.device)  # H*W, C/2
        grids = (memory.shape[1] - pointers) // (h * w)
        memory_turns = turns.repeat(grids, 1)  # grids*H*W, C/2
        keys = memory + position
        for layer in self.layers:
            x = layer(x, keys, memory, turns, memory_turns)
        normed: Tensor = self.norm(x)
        return normed.transpose(1, 2).reshape(-1, c, h, w)  # B, C, H, W
