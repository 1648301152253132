"""Conditions a frame on memories (SAM 2 paper, arXiv 2408.00714, section 4).

A transformer in which the places of a frame attend to each other, then to all memories. Queries and
keys are rotated according to their places in the picture (rotary position embedding). Object
pointers have no place and are not rotated.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .config import MemoryAttentionConfig
from .layers import Attention, compute
from .position_encoding import rotary_grid, sine_grid, turn

_HEADS = 1
_POSITION_SCALE = 0.1  # factor of the frame's own position encoding, as in the official code


class RotaryAttention(Attention):
    """Attention whose queries and keys are rotated according to their places.

    Follows ``RoPEAttention`` of ``modeling/sam/transformer.py``.

    Attributes:
        dropout: In training, the share of attention that is left out.
    """

    dropout = 0.0

    def forward(  # type: ignore[override]  # it needs the places as well
        self, q: Tensor, k: Tensor, v: Tensor, q_turns: Tensor, k_turns: Tensor
    ) -> Tensor:
        """Attend to ``M`` tokens, of which the first ones have places.

        Args:
            q: Queries, ``B x N x width``.
            k: Keys, ``B x M x kv_width``.
            v: Values, ``B x M x kv_width``.
            q_turns: Rotations of the queries, ``N x width/heads/2``, complex.
            k_turns: Rotations of the first keys, with at most ``M`` rows; the keys after them are
                not rotated.

        Returns:
            ``B x N x width``.
        """
        q, k, v = (
            self.split_heads(layer(x))  # B, heads, N or M, width/heads
            for layer, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        q, placed = turn(q, q_turns), len(k_turns)
        k[:, :, :placed] = turn(k[:, :, :placed], k_turns)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        y: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))  # B, N, width
        return y


class MemoryAttentionLayer(nn.Module):
    """A frame attends to itself, then to its memories.

    Follows ``modeling/memory_attention.py``.

    Args:
        width: Channels ``C`` of the frame.
        memory_width: Channels ``K`` of a memory.
        hidden: Hidden width of the feed-forward network.

    Attributes:
        dropout: In training, the share of values of every branch that is left out.
    """

    def __init__(self, width: int, memory_width: int, hidden: int) -> None:
        super().__init__()
        self.dropout = 0.0
        self.self_attn = RotaryAttention(width, _HEADS)
        self.cross_attn_image = RotaryAttention(width, _HEADS, kv_width=memory_width)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, memory: Tensor, position: Tensor, turns: Tensor, memory_turns: Tensor
    ) -> Tensor:
        """Apply the layer.

        Args:
            x: The frame, ``B x N x C``.
            memory: The memories, ``B x M x K``.
            position: Their positions, ``B x M x K``.
            turns: Rotations of the places of the frame, ``N x C/2``, complex.
            memory_turns: Rotations of the first places of the memories; see
                :meth:`RotaryAttention.forward`.

        Returns:
            ``B x N x C``.
        """
        normed = self.norm1(x)
        x = x + self._dropped(self.self_attn(normed, normed, normed, turns, turns))
        keys = memory + position
        attended = self.cross_attn_image(self.norm2(x), keys, memory, turns, memory_turns)
        x = x + self._dropped(attended)
        hidden = self._dropped(F.relu(self.linear1(self.norm3(x))))
        return x + self._dropped(self.linear2(hidden))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class MemoryAttention(nn.Module):
    """Conditions a frame's features on memories and object pointers.

    Follows ``modeling/memory_attention.py``.

    Args:
        width: Channels ``C`` of a frame.
        memory_width: Channels ``K`` of a memory.
        config: Number and width of the layers.

    Attributes:
        recompute: Whether what a layer computes is computed once more for the gradients.
    """

    def __init__(self, width: int, memory_width: int, config: MemoryAttentionConfig) -> None:
        super().__init__()
        self.rope_theta = config.rope_theta
        self.recompute = False
        self.layers = nn.ModuleList(
            MemoryAttentionLayer(width, memory_width, config.dim_feedforward)
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, frame: Tensor, memory: Tensor, position: Tensor, pointers: int) -> Tensor:
        """Condition a frame on memories.

        Args:
            frame: Features of the frame, ``B x C x H x W``.
            memory: ``B x M x K``: the places of one or more spatial memories (``H*W`` each, in
                reading order), then the tokens of object pointers.
            position: Position encoding of ``memory``, ``B x M x K``.
            pointers: Number of tokens of object pointers.

        Returns:
            ``B x C x H x W``.
        """
        _, c, h, w = frame.shape
        own = sine_grid(c, h, w, frame.device).to(frame.dtype)
        x = frame + _POSITION_SCALE * own
        x = x.flatten(2).transpose(1, 2)  # B, H*W, C
        turns = rotary_grid(c // _HEADS, h, w, self.rope_theta, frame.device)  # H*W, C/2
        grids = (memory.shape[1] - pointers) // (h * w)
        memory_turns = turns.repeat(grids, 1)  # grids*H*W, C/2
        for layer in self.layers:
            x = compute(self.recompute, layer, x, memory, position, turns, memory_turns)
        normed: Tensor = self.norm(x)
        return normed.transpose(1, 2).reshape(-1, c, h, w)  # B, C, H, W
