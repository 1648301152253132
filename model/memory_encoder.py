"""From a frame and its mask to a memory (SAM 2 paper, arXiv 2408.00714, section 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import MemoryEncoderConfig
from .layers import LayerNorm2d

_MASK_STAGES = 4  # each halves the mask and gives it four times the channels
_FUSER_RATIO = 4


class MaskDownSampler(nn.Module):
    """Turns a mask into features at a sixteenth of its resolution.

    Follows ``modeling/memory_encoder.py``.

    Args:
        width: Channels of the features.
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
        """Downsample masks.

        Args:
            masks: ``B x 1 x S x S``.

        Returns:
            ``B x width x S/16 x S/16``.
        """
        features: Tensor = self.encoder(masks)
        return features  # B, width, S/16, S/16


class FuserBlock(nn.Module):
    """A ConvNeXt block (arXiv 2201.03545).

    Follows ``CXBlock`` of ``modeling/memory_encoder.py``.

    Args:
        width: Number of channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, kernel_size=7, padding=3, groups=width)
        self.norm = LayerNorm2d(width)
        self.pwconv1 = nn.Linear(width, _FUSER_RATIO * width)
        self.pwconv2 = nn.Linear(_FUSER_RATIO * width, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: ``B x C x H x W``.

        Returns:
            The same shape.
        """
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)  # B, H, W, C
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        mixed: Tensor = x + y.permute(0, 3, 1, 2)  # B, C, H, W
        return mixed


class Fuser(nn.Module):
    """The blocks that mix a frame with its mask. Follows ``modeling/memory_encoder.py``.

    Args:
        width: Number of channels.
        depth: Number of blocks.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FuserBlock(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks.

        Args:
            x: ``B x C x H x W``.

        Returns:
            The same shape.
        """
        for layer in self.layers:
            x = layer(x)
        return x


class MemoryEncoder(nn.Module):
    """Turns the features of a frame and its mask into a memory.

    Follows ``modeling/memory_encoder.py``.

    Args:
        width: Channels ``C`` of the frame.
        config: Channels of a memory and number of blocks.
    """

    def __init__(self, width: int, config: MemoryEncoderConfig) -> None:
        super().__init__()
        self.mask_downsampler = MaskDownSampler(width)
        self.pix_feat_proj = nn.Conv2d(width, width, kernel_size=1)
        self.fuser = Fuser(width, config.fuser_layers)
        # Where a memory is as wide as a frame, the official code has no such tensor either.
        same = config.out_dim == width
        self.out_proj = nn.Identity() if same else nn.Conv2d(width, config.out_dim, kernel_size=1)

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """Make memories.

        Args:
            features: Features of frames, ``B x C x H x W``.
            masks: Their masks, scaled as the config says, ``B x 1 x 16H x 16W``.

        Returns:
            ``B x out_dim x H x W``.
        """
        # Features may arrive with channels last in memory; the depthwise convolutions would then
        # round differently than those of the official code.
        projected = self.pix_feat_proj(features.contiguous())
        fused = self.fuser(projected + self.mask_downsampler(masks))
        memory: Tensor = self.out_proj(fused)
        return memory  # B, out_dim, H, W
