"""From pixels to features: the Hiera trunk and the feature pyramid on top of it.

Hiera (arXiv 2306.00989) is a vision transformer in four stages. Most of its blocks attend within
windows. The first block of each later stage halves the grid by pooling the queries of its
attention, and doubles the channels. The trunk works on ``B x H x W x C``, the pyramid on
``B x C x H x W``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import TrunkConfig
from .layers import MLP, Activations, compute, drop_path

_NORM_EPS = 1e-6
_MLP_RATIO = 4
_POOL = 2  # factor by which a new stage shrinks the grid


def split_windows(x: Tensor, window: int) -> Tensor:
    """Cut grids into square windows; :func:`join_windows` puts them back together.

    Args:
        x: ``B x H x W x C``. Zeros are added at the bottom and right where a window does not fit.
        window: Side of a window, in tokens.

    Returns:
        ``B*windows x window x window x C``, image by image, each in reading order.
    """
    b, h, w, c = x.shape
    rows, cols = -(-h // window), -(-w // window)  # rounded up
    if h % window or w % window:
        x = F.pad(x, (0, 0, 0, cols * window - w, 0, rows * window - h))
    x = x.reshape(b, rows, window, cols, window, c)  # B, rows, window, cols, window, C
    return x.transpose(2, 3).reshape(-1, window, window, c)  # B*rows*cols, window, window, C


def join_windows(windows: Tensor, h: int, w: int) -> Tensor:
    """Put windows back together and drop the padding.

    Args:
        windows: ``B*windows x window x window x C``, in the order of :func:`split_windows`.
        h: Height of the grid without padding, in tokens.
        w: Width of the grid without padding, in tokens.

    Returns:
        ``B x h x w x C``.
    """
    side, c = windows.shape[1], windows.shape[3]
    rows, cols = -(-h // side), -(-w // side)
    x = windows.reshape(-1, rows, cols, side, side, c)  # B, rows, cols, side, side, C
    x = x.transpose(2, 3)  # B, rows, side, cols, side, C
    x = x.reshape(-1, rows * side, cols * side, c)  # B, padded H, padded W, C
    return x[:, :h, :w]  # B, H, W, C


def max_pool(x: Tensor) -> Tensor:
    """Halve a grid, keeping the largest of every four values.

    Args:
        x: ``B x H x W x C``.

    Returns:
        ``B x H/2 x W/2 x C``.
    """
    pooled = F.max_pool2d(x.permute(0, 3, 1, 2), _POOL)  # B, C, H/2, W/2
    return pooled.permute(0, 2, 3, 1)  # B, H/2, W/2, C


class PatchEmbed(nn.Module):
    """Embeds overlapping patches of 7x7 pixels, one every 4 pixels.

    Args:
        width: Channels of the result.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=7, stride=4, padding=3)

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed the patches.

        Args:
            pixels: ``B x 3 x S x S``.

        Returns:
            ``B x S/4 x S/4 x C``.
        """
        x: Tensor = self.proj(pixels)  # B, C, H, W
        return x.permute(0, 2, 3, 1)  # B, H, W, C


class MultiScaleAttention(nn.Module):
    """Self-attention among all places of a grid, which may halve the grid.

    Follows ``MultiScaleAttention`` of ``modeling/backbones/hieradet.py``.

    Args:
        width: Channels of the input.
        width_out: Channels of the output.
        heads: Number of attention heads.
        pool: Whether the queries are pooled, which halves the grid. Keys and values never are.
    """

    def __init__(self, width: int, width_out: int, heads: int, *, pool: bool) -> None:
        super().__init__()
        self.heads = heads
        self.pool = pool
        self.qkv = nn.Linear(width, 3 * width_out)
        self.proj = nn.Linear(width_out, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: ``B x H x W x width``.

        Returns:
            ``B x H x W x width_out``, or half the ``H`` and ``W`` with pooling.
        """
        b, h, w, _ = x.shape
        qkv = self.qkv(x).reshape(b, h * w, 3, self.heads, -1)  # B, H*W, 3, heads, C/heads
        q, k, v = qkv.unbind(2)  # each B, H*W, heads, C/heads
        if self.pool:
            q = max_pool(q.reshape(b, h, w, -1))  # B, H/2, W/2, C
            h, w = q.shape[1:3]
            q = q.reshape(b, h * w, self.heads, -1)  # B, H/2*W/2, heads, C/heads
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # B, heads, places, C/heads
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)  # B, H*W, heads, C/heads
        y: Tensor = self.proj(mixed.reshape(b, h, w, -1))  # B, H, W, C
        return y


class MultiScaleBlock(nn.Module):
    """A transformer block on a grid.

    A block that changes the width begins a stage and halves the grid as well. Follows
    ``MultiScaleBlock`` of ``modeling/backbones/hieradet.py``.

    Args:
        width: Channels of the input.
        width_out: Channels of the output.
        heads: Number of attention heads.
        window: Side of the attention windows, in tokens of the input; 0 for attention to the whole
            grid.

    Attributes:
        drop_path: In training, the share of images for which each half of the block is left out.
    """

    def __init__(self, width: int, width_out: int, heads: int, window: int) -> None:
        super().__init__()
        self.drop_path = 0.0
        self.begins_stage = width != width_out
        self.window = window
        self.norm1 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.attn = MultiScaleAttention(width, width_out, heads, pool=self.begins_stage)
        self.norm2 = nn.LayerNorm(width_out, eps=_NORM_EPS)
        self.mlp = MLP(width_out, _MLP_RATIO * width_out, width_out, 2, activation=F.gelu)
        if self.begins_stage:
            self.proj = nn.Linear(width, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: ``B x H x W x width``.

        Returns:
            ``B x H x W x width_out``, or half the ``H`` and ``W`` at the beginning of a stage.
        """
        x = self.attend(x)
        refined: Tensor = self.mlp(self.norm2(x))
        return x + self._dropped(refined)

    def attend(self, x: Tensor) -> Tensor:
        """Apply the attention half of the block, with its residual connection.

        Args:
            x: ``B x H x W x width``.

        Returns:
            As :meth:`forward`.
        """
        normed = self.norm1(x)
        if self.begins_stage:
            # The shortcut starts from the normalised input here, in the official code too.
            x = max_pool(self.proj(normed))  # B, H/2, W/2, width_out
        if self.window:
            h, w = x.shape[1:3]
            normed = split_windows(normed, self.window)  # B*windows, window, window, width
            # Pooling shrinks the windows as well, so those that come back fit the smaller grid.
            attended = join_windows(self.attn(normed), h, w)
        else:
            attended = self.attn(normed)
        return x + self._dropped(attended)

    def _dropped(self, x: Tensor) -> Tensor:
        return drop_path(x, self.drop_path) if self.training and self.drop_path else x


class Hiera(nn.Module):
    """The trunk of the image encoder. Follows ``modeling/backbones/hieradet.py``.

    Args:
        config: Widths, stages and windows.

    Attributes:
        recompute: Whether what a block computes is computed once more for the gradients.
    """

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.recompute = False
        width, window = config.embed_dim, config.window_spec[0]
        background = config.window_pos_embed_bkg_spatial_size
        self.pos_embed = nn.Parameter(torch.zeros(1, width, *background))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, width, window, window))
        self.patch_embed = PatchEmbed(width)
        self.blocks = nn.ModuleList()
        self.stages = config.stages
        for stage, count in enumerate(config.stages):
            for position in range(count):
                # The first block of a stage reads the grid of the previous stage, in windows of
                # the previous stage, and pools it.
                before = max(stage - 1, 0) if position == 0 else stage
                everywhere = len(self.blocks) in config.global_att_blocks
                self.blocks.append(
                    MultiScaleBlock(
                        config.dims[before],
                        config.dims[stage],
                        config.heads[stage],
                        0 if everywhere else config.window_spec[before],
                    )
                )

    def position(self, h: int, w: int) -> Tensor:
        """Compute the position embedding that is added to the patches.

        A coarse embedding stretched over the image plus a fine one repeated in every window of the
        first stage (arXiv 2311.05613).

        Args:
            h: Height of the grid of patches, a multiple of the window of the first stage.
            w: Width of the grid, likewise.

        Returns:
            ``1 x h x w x C``.
        """
        coarse = F.interpolate(self.pos_embed, size=(h, w), mode="bicubic")
        window = self.pos_embed_window.shape[-1]
        fine = self.pos_embed_window.tile(1, 1, h // window, w // window)  # 1, C, H, W
        return (coarse + fine).permute(0, 2, 3, 1)  # 1, H, W, C

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Encode images.

        Args:
            pixels: ``B x 3 x S x S``.

        Returns:
            The output of each stage: ``B x C x S/4 x S/4``, ``B x 2C x S/8 x S/8``, ...
        """
        x: Tensor = self.patch_embed(pixels)
        x = x + self.position(x.shape[1], x.shape[2])
        outputs, blocks = [], iter(self.blocks)
        for count in self.stages:
            for _ in range(count):
                x = compute(self.recompute, next(blocks), x)
            outputs.append(x.permute(0, 3, 1, 2))  # B, C, H, W
        return outputs


class FpnNeck(nn.Module):
    """Brings the outputs of all stages to one width; coarse levels are added to finer ones.

    Follows ``FpnNeck`` of ``modeling/backbones/image_encoder.py``.

    Args:
        widths: Channels of each stage, finest first.
        width: Channels of every level of the result.
        top_down: Levels, 0 being the finest, to which the next coarser one is added after its grid
            was doubled.
    """

    def __init__(self, widths: Sequence[int], width: int, top_down: Sequence[int]) -> None:
        super().__init__()
        self.top_down = frozenset(top_down)
        self.convs = nn.ModuleList(  # the coarsest level comes first
            nn.Sequential(OrderedDict(conv=nn.Conv2d(channels, width, kernel_size=1)))
            for channels in reversed(widths)
        )

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Build the feature pyramid.

        Args:
            stages: The output of each stage, ``B x C x H x W``, finest first.

        Returns:
            One level of ``B x width x H x W`` per stage, finest first.
        """
        levels: list[Tensor] = []
        for conv, stage, level in zip(
            self.convs, reversed(stages), reversed(range(len(stages))), strict=True
        ):
            x: Tensor = conv(stage)
            if levels and level in self.top_down:
                # The sum is taken in float32, also under autocast, and kept in the weights' type.
                coarser = F.interpolate(levels[0].float(), scale_factor=2.0, mode="nearest")
                x = (x + coarser).to(conv.get_parameter("conv.weight").dtype)
            levels.insert(0, x)
        return levels


class ImageEncoder(nn.Module):
    """Trunk and neck; the coarsest level is dropped after it was added to the next finer one.

    Follows ``ImageEncoder`` of ``modeling/backbones/image_encoder.py``, whose ``scalp`` is 1 in
    every published config.

    Args:
        trunk: Config of the trunk.
        width: Channels of every level of the result.
        top_down: Levels to which the next coarser one is added.
    """

    def __init__(self, trunk: TrunkConfig, width: int, top_down: Sequence[int]) -> None:
        super().__init__()
        self.trunk = Hiera(trunk)
        self.neck = FpnNeck(trunk.dims, width, top_down)

    def forward(
        self, pixels: Tensor, activations: Activations = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode images.

        Args:
            pixels: ``B x 3 x S x S``, normalised.
            activations: Receives ``trunk.stage0`` to ``3`` and ``neck.level0`` to ``2``, finest
                first.

        Returns:
            Three levels, finest first: ``B x C x S/4 x S/4``, ``B x C x S/8 x S/8`` and
            ``B x C x S/16 x S/16``.
        """
        stages = self.trunk(pixels)
        fine, middle, coarse, _ = levels = self.neck(stages)
        if activations is not None:
            activations.update((f"trunk.stage{i}", x) for i, x in enumerate(stages))
            activations.update((f"neck.level{i}", x) for i, x in enumerate(levels[:3]))
        return fine, middle, coarse
