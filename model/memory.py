"""What gives SAM 2 its memory of a video: the tensors of it, which cannot run yet.

The memory encoder turns a frame and its mask into a memory; memory attention conditions a later
frame on those (SAM 2 paper, arXiv 2408.00714, section 4).
"""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor, nn

from .config import MemoryAttentionConfig, MemoryEncoderConfig
from .layers import Attention, LayerNorm2d

_HEADS = 1
_MASK_STAGES = 4  # each halves the mask and gives it four times the channels
_FUSER_RATIO = 4


def _cannot_run(part: str) -> NoReturn:
    raise NotImplementedError(f"{part} holds weights but cannot run yet; images do not need it")


class RotaryAttention(Attention):
    """Attention whose queries and keys are turned according to their places.

    Follows ``RoPEAttention`` of ``modeling/sam/transformer.py``.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Raises NotImplementedError."""
        _cannot_run("rotary attention")


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

    def forward(self, *_: Tensor) -> Tensor:
        """Raises NotImplementedError."""
        _cannot_run("a layer of memory attention")


class MemoryAttention(nn.Module):
    """Conditions a frame's features on memories and object pointers.

    Follows ``modeling/memory_attention.py``.
    """

    def __init__(self, width: int, memory_width: int, config: MemoryAttentionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MemoryAttentionLayer(width, memory_width, config.dim_feedforward)
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, *_: Tensor) -> Tensor:
        """Raises NotImplementedError."""
        _cannot_run("memory attention")


class MaskDownSampler(nn.Module):
    """A mask to features a sixteenth as fine: ``B x 1 x S x S -> B x width x S/16 x S/16``.

    Follows ``modeling/memory_encoder.py``.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential()
        channels = 1
        for _ in range(_MASK_STAGES):
            wider = 4 * channels
            self.encoder.append(nn.Conv2d(channels, wider, kernel_size=3, stride=2, padding=1))
            self.encoder.append(LayerNorm2d(wider))
            self.encoder.append(nn.GELU())
            channels = wider
        self.encoder.append(nn.Conv2d(channels, width, kernel_size=1))

    def forward(self, masks: Tensor) -> Tensor:
        """Raises NotImplementedError."""
        _cannot_run("the mask downsampler")


class FuserBlock(nn.Module):
    """A ConvNeXt block (arXiv 2201.03545) on ``B x C x H x W``.

    Follows ``CXBlock`` of ``modeling/memory_encoder.py``.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, kernel_size=7, padding=3, groups=width)
        self.norm = LayerNorm2d(width)
        self.pwconv1 = nn.Linear(width, _FUSER_RATIO * width)
        self.pwconv2 = nn.Linear(_FUSER_RATIO * width, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Raises NotImplementedError."""
        _cannot_run("a block of the fuser")


class Fuser(nn.Module):
    """The blocks that mix a frame with its mask. Follows ``modeling/memory_encoder.py``."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FuserBlock(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Raises NotImplementedError."""
        _cannot_run("the fuser")


class MemoryEncoder(nn.Module):
    """Turns a frame's features and its mask into a memory.

    Follows ``modeling/memory_encoder.py``.
    """

    def __init__(self, width: int, config: MemoryEncoderConfig) -> None:
        super().__init__()
        self.mask_downsampler = MaskDownSampler(width)
        self.pix_feat_proj = nn.Conv2d(width, width, kernel_size=1)
        self.fuser = Fuser(width, config.fuser_layers)
        if config.out_dim != width:
            self.out_proj = nn.Conv2d(width, config.out_dim, kernel_size=1)

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """Raises NotImplementedError."""
        _cannot_run("the memory encoder")
