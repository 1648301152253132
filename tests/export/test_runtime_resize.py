"""Planes are resized as torch resizes them, at any size."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from sam21convert.export.runtime import resize as ours
from sam21convert.export.runtime.resize import resize

from ..support.rounding import EPSILON, MULTIPLE

SIZES = [
    ((1080, 1920), (1024, 1024)),
    ((128, 128), (1080, 1920)),
    ((32, 32), (128, 128)),
    ((257, 333), (128, 128)),
    ((427, 640), (1024, 1024)),
    ((1024, 1024), (256, 256)),
    ((97, 61), (53, 777)),
    ((1501, 2003), (128, 192)),
    ((1, 5), (32, 32)),
    ((256, 256), (100, 90)),
    ((64, 64), (64, 64)),
    ((64, 64), (64, 65)),
    ((3, 2), (1, 1)),
]


def drawn(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((2, height, width)).astype(np.float32)


def apart(size: tuple[int, int], new: tuple[int, int], *, antialias: bool) -> float:
    """The largest difference, in roundings of the largest value."""
    planes = drawn(*size)
    theirs = F.interpolate(
        torch.from_numpy(planes)[None], size=new, mode="bilinear", antialias=antialias
    )[0].numpy()
    mine = resize(planes, *new, antialias=antialias)
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    return float(np.abs(mine - theirs).max() / np.abs(planes).max() / EPSILON)


def rounded_twice(old: int, new: int) -> ours._Taps:
    """The two neighbours of each new place, as kernels find them that cannot fuse operations."""
    scale = np.float32(old) / np.float32(new)
    middle = scale * (np.arange(new, dtype=np.float32) + np.float32(0.5))
    source = np.maximum(middle - np.float32(0.5), np.float32(0))
    before = np.minimum(source.astype(np.int64), old - 1)
    share = np.clip(source - before.astype(np.float32), np.float32(0), np.float32(1))
    places = np.stack((before, np.minimum(before + 1, old - 1)), 1)
    return ours._Taps(places, np.stack((np.float32(1) - share, share), 1))


@pytest.mark.parametrize(("size", "new"), SIZES)
@pytest.mark.parametrize("antialias", [False, True])
def test_equal_but_for_rounding(
    size: tuple[int, int], new: tuple[int, int], antialias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The oldest kernels of torch for x86 round a place twice. That this is all is what is shown.
    if platform.machine() == "x86_64" and torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        monkeypatch.setattr(ours, "_two_taps", rounded_twice)
    assert apart(size, new, antialias=antialias) < MULTIPLE


def test_places_that_are_not_rounded_as_in_torch_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def exact(old: int, new: int) -> ours._Taps:
        source = np.maximum(old / new * (np.arange(new) + 0.5) - 0.5, 0)
        before = np.minimum(source.astype(np.int64), old - 1)
        share = (source - before).astype(np.float32)
        places = np.stack((before, np.minimum(before + 1, old - 1)), 1)
        return ours._Taps(places, np.stack((1 - share, share), 1))

    monkeypatch.setattr(ours, "_two_taps", exact)
    assert apart((128, 128), (1080, 1920), antialias=False) > MULTIPLE


def test_the_wrong_filter_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_wide_taps", ours._two_taps)
    assert apart((257, 333), (128, 128), antialias=True) > MULTIPLE
