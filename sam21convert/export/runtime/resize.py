"""Resize bilinearly as torch does, with the same float32 arithmetic, in numpy.

Equal to ``torch.nn.functional.interpolate`` with ``mode="bilinear"`` and ``align_corners=False``
but for the rounding of the last sum. Both axes are resized one after the other, the width first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_HALF, _ONE = np.float32(0.5), np.float32(1)


class _Taps(NamedTuple):
    """Which places of an axis are added up for each of the new places, ``new x taps`` each."""

    places: NDArray[np.int64]
    weights: Floats


def resize(x: Floats, height: int, width: int, *, antialias: bool = False) -> Floats:
    """Resize planes.

    Args:
        x: ``... x H x W``.
        height: The new height in pixels.
        width: The new width in pixels.
        antialias: Whether all old pixels count where the size shrinks, not the nearest two only.

    Returns:
        ``... x height x width``.
    """
    taps = _wide_taps if antialias else _two_taps
    if x.shape[-1] != width:
        x = _along(x, -1, *taps(x.shape[-1], width))
    if x.shape[-2] != height:
        places, weights = taps(x.shape[-2], height)
        x = _along(x, -2, places, weights[..., None])
    return np.ascontiguousarray(x)


def _along(x: Floats, axis: int, places: NDArray[np.int64], weights: Floats) -> Floats:
    """Resize an axis; one tap at a time, so that the sum is added up as in torch."""
    total = x.take(places[:, 0], axis) * weights[:, 0]
    for tap in range(1, places.shape[1]):
        term = x.take(places[:, tap], axis)
        term *= weights[:, tap]
        total += term
    return total


def _two_taps(old: int, new: int) -> _Taps:
    """The two neighbours of each new place."""
    scale = np.float32(old) / np.float32(new)
    # Rounded to float32 once, as by the fused multiplication and subtraction of the processor.
    exact = np.float64(scale) * (np.arange(new) + 0.5) - 0.5
    source = np.maximum(exact.astype(np.float32), np.float32(0))
    before = np.minimum(source.astype(np.int64), old - 1)
    share = np.clip(source - before.astype(np.float32), np.float32(0), _ONE)
    after = np.minimum(before + 1, old - 1)
    return _Taps(np.stack((before, after), 1), np.stack((_ONE - share, share), 1))


def _wide_taps(old: int, new: int) -> _Taps:
    """All places under a triangle that is as wide as two new pixels, or two old ones if larger."""
    scale = np.float32(old) / np.float32(new)
    reach = np.maximum(scale, _ONE)
    centre = scale * (np.arange(new, dtype=np.float32) + _HALF)
    first = np.maximum((centre - reach + _HALF).astype(np.int64), 0)
    end = np.minimum((centre + reach + _HALF).astype(np.int64), old)
    places = first[:, None] + np.arange((end - first).max())  # new, taps
    distance = places.astype(np.float32) - centre[:, None] + _HALF
    weights = np.maximum(_ONE - np.abs(distance * (_ONE / reach)), np.float32(0))
    weights[places >= end[:, None]] = 0
    total = np.add.accumulate(weights, axis=1)[:, -1:]  # one by one, not in pairs
    return _Taps(np.minimum(places, old - 1), weights / total)
