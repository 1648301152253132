"""Encodings that tell the model where, or when, something is.

They are computed whenever they are needed and never stored, so that a model can be built on the
meta device, moved, cast and compiled freely. Only the random frequencies of the prompt encoder are
part of a checkpoint.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_SINE_BASE = 10000  # from "Attention Is All You Need" (arXiv 1706.03762), section 3.5


def _wavelengths(count: int, device: torch.device | str | None) -> Tensor:
    """Divisors of a position, each one twice: for the sine and for the cosine."""
    index = torch.arange(count, dtype=torch.float32, device=device)
    return _SINE_BASE ** (2 * (index // 2) / count)


def sine_grid(channels: int, height: int, width: int, device: torch.device | str) -> Tensor:
    """Encode the places of a grid by sines and cosines.

    Rows and columns are counted from 1 and scaled so that the last one is at 2 pi. Used for the
    image features that attend to memories, and for memories. The encoding of DETR (arXiv
    2005.12872), as in ``PositionEmbeddingSine`` of ``modeling/position_encoding.py``.

    Args:
        channels: Number of channels.
        height: Height of the grid.
        width: Width of the grid.
        device: Where to compute.

    Returns:
        ``1 x channels x height x width``, float32: the row in the first half of the channels, the
        column in the second.
    """

    def axis(length: int) -> Tensor:
        place = torch.arange(1, length + 1, dtype=torch.float32, device=device)
        angle = place / (place[-1:] + 1e-6) * (2 * math.pi)
        angle = angle[:, None] / _wavelengths(channels // 2, device)  # length, channels/2
        waves = torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2)
        return waves.flatten(1)  # length, channels/2

    rows = axis(height)[:, None].expand(-1, width, -1)  # H, W, channels/2
    columns = axis(width)[None].expand(height, -1, -1)  # H, W, channels/2
    return torch.cat((rows, columns), dim=2).permute(2, 0, 1)[None]  # 1, channels, H, W


def sine_ages(ages: Tensor, channels: int) -> Tensor:
    """Encode ages by sines and cosines.

    Used for how far back in time an object pointer lies. Follows ``get_1d_sine_pe`` of
    ``modeling/sam2_utils.py``.

    Args:
        ages: Distances in time, as fractions of the longest one; of any shape.
        channels: Number of channels.

    Returns:
        The shape of ``ages`` with a last axis of ``channels``: all sines, then all cosines.
    """
    angle = ages[..., None] / _wavelengths(channels // 2, ages.device)  # ..., channels/2
    return torch.cat((angle.sin(), angle.cos()), dim=-1)  # ..., channels


def rotary_grid(
    channels: int, height: int, width: int, base: float, device: torch.device | str
) -> Tensor:
    """Compute the rotations of an axial rotary embedding, for :func:`turn`.

    Used by the attention of a frame to its memories. Axial RoPE (arXiv 2403.13298), as in
    ``compute_axial_cis`` of ``modeling/position_encoding.py``.

    Args:
        channels: Number of channels to rotate, in pairs.
        height: Height of the grid.
        width: Width of the grid.
        base: Base of the frequencies.
        device: Where to compute.

    Returns:
        Complex numbers of magnitude 1, ``height*width x channels/2``, complex64; places are in
        reading order. The first half rotates with the column, the second with the row.
    """
    index = torch.arange(0, channels, 4, dtype=torch.float32, device=device)
    speed = 1.0 / base ** (index[: channels // 4] / channels)
    rows = torch.arange(height, dtype=torch.float32, device=device).repeat_interleave(width)  # H*W
    columns = torch.arange(width, dtype=torch.float32, device=device).repeat(height)  # H*W
    angle = torch.cat((torch.outer(columns, speed), torch.outer(rows, speed)), dim=1)
    return torch.polar(torch.ones_like(angle), angle)  # H*W, channels/2


def turn(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate neighbouring pairs of channels.

    Computed in float32 whatever the type of ``x``. Follows ``apply_rotary_enc`` of
    ``modeling/position_encoding.py``.

    Args:
        x: ``... x N x channels``.
        turns: Rotations, ``N x channels/2``, complex.

    Returns:
        The shape and type of ``x``.
    """
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))  # ..., N, channels/2
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)  # ..., N, channels


class PositionEmbeddingRandom(nn.Module):
    """Random Fourier features of places in the unit square (arXiv 2006.10739).

    The frequencies were drawn once, before training, and belong to the checkpoint. Used for points,
    box corners and the image embedding. Follows ``PositionEmbeddingRandom`` of
    ``modeling/position_encoding.py``.

    Args:
        channels: Number of channels.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, channels // 2))

    def forward(self, places: Tensor) -> Tensor:
        """Encode places.

        Args:
            places: Pairs (x, y), ``... x 2``, 0 to 1 from edge to edge. In float32 whatever the
                type of the weights: in bfloat16 neighbouring pixels of a large image would be the
                same number.

        Returns:
            ``... x channels``, in the type of the weights.
        """
        frequencies = self.positional_encoding_gaussian_matrix
        angle = 2 * math.pi * ((2 * places - 1) @ frequencies.to(places.dtype))
        return torch.cat((angle.sin(), angle.cos()), dim=-1).to(frequencies.dtype)  # ..., channels

    def grid(self, side: int) -> Tensor:
        """Encode the centres of the cells of a square grid.

        Args:
            side: Number of cells along a side.

        Returns:
            ``1 x channels x side x side``.
        """
        device = self.positional_encoding_gaussian_matrix.device
        centre = (torch.arange(side, dtype=torch.float32, device=device) + 0.5) / side
        x, y = centre.expand(side, side), centre[:, None].expand(side, side)
        encoded: Tensor = self(torch.stack((x, y), dim=-1))  # side, side, channels
        return encoded.permute(2, 0, 1)[None]  # 1, channels, side, side
