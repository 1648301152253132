"""How far the elements of two tensors are apart, in a few megabytes of memory. Imports numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..tensor import DTYPES, WEIGHT_DTYPES, Tensor, TensorRef
from .cast import from_float32, to_float, to_float32
from .copy import Files, payload, read_chunks

_STEP = 1 << 15  # elements that are compared at a time: what fits a cache

Floats = NDArray[np.floating]


@dataclass
class Gap:
    """What sets two tensors of one shape apart.

    ``largest`` and ``mean`` are of the absolute differences, ``scale`` is the largest magnitude in
    either; all over what is finite on both sides. ``unmatched`` counts the elements that are NaN or
    infinite on one side and not the same on the other. ``casts`` holds the pairs of types, wider
    and narrower, for which the one cast is the other.
    """

    largest: float = 0.0
    mean: float = 0.0
    scale: float = 0.0
    unmatched: int = 0
    casts: list[tuple[str, str]] = field(default_factory=list)


def identical(files: Files, one: TensorRef, other: TensorRef) -> bool:
    """Whether type, shape and every bit are the same."""
    pieces = zip(_pieces(files, one), _pieces(files, other), strict=False)
    return one.spec == other.spec and all(ours == theirs for ours, theirs in pieces)


def measurable(one: TensorRef, other: TensorRef) -> bool:
    """Whether :func:`gap` can compare the two."""
    same_shape = one.spec.shape == other.spec.shape
    return same_shape and {one.spec.dtype, other.spec.dtype} <= WEIGHT_DTYPES


def gap(files: Files, one: TensorRef, other: TensorRef) -> Gap:
    """Compare two tensors of floats and of one shape, piece by piece.

    Raises :class:`~sam21convert.errors.UnreadableError` where a file ends too early.
    """
    found = Gap(casts=_casts(one.spec.dtype, other.spec.dtype))
    for raw in zip(_pieces(files, one), _pieces(files, other), strict=True):
        pieces = dict(zip((one.spec.dtype, other.spec.dtype), raw, strict=True))
        found.casts = [cast for cast in found.casts if _is_cast(pieces, *cast)]
        ours, theirs = (
            _widest(piece, ref.spec.dtype) for piece, ref in zip(raw, (one, other), strict=True)
        )
        _measure(found, ours, theirs, one.spec.numel)
    return found


def _casts(one: str, other: str) -> list[tuple[str, str]]:
    """From wider to narrower; both ways where neither is wider."""
    if one == other:
        return []
    ways = [(one, other), (other, one)]
    return [(wide, narrow) for wide, narrow in ways if DTYPES[wide] >= DTYPES[narrow]]


def _is_cast(pieces: dict[str, bytes], wide: str, narrow: str) -> bool:
    """Whether the elements of one type, rounded to nearest even, are those of the other."""
    cast = from_float32(to_float32(pieces[wide], wide), narrow)
    if cast == pieces[narrow]:
        return True
    values, there = to_float(cast, narrow), to_float(pieces[narrow], narrow)
    kind = f"V{DTYPES[narrow]}"
    same_bits = np.frombuffer(cast, kind) == np.frombuffer(pieces[narrow], kind)
    return bool(np.all(same_bits | (np.isnan(values) & np.isnan(there))))


def _widest(raw: bytes, dtype: str) -> Floats:
    with np.errstate(invalid="ignore"):  # signalling NaN
        return to_float(raw, dtype).astype(np.float64)


def _measure(found: Gap, one: Floats, other: Floats, numel: int) -> None:
    """Take a piece of each into account."""
    finite = np.isfinite(one) & np.isfinite(other)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    found.unmatched += int(np.count_nonzero(~finite & ~same))
    one, other = one[finite], other[finite]
    if one.size:
        with np.errstate(over="ignore"):
            apart = np.minimum(np.abs(one - other), np.finfo(np.float64).max)
        magnitude = max(float(np.abs(one).max()), float(np.abs(other).max()))
        found.scale = max(found.scale, magnitude)
        found.largest = max(found.largest, float(apart.max()))
        found.mean += float((apart / numel).sum())


def _pieces(files: Files, ref: TensorRef) -> Iterator[bytes]:
    """The elements in row-major order, ``_STEP`` of them at a time."""
    size, end = DTYPES[ref.spec.dtype], ref.spec.nbytes
    strided = ref.stride is not None
    whole = b"".join(payload(files, Tensor(ref.spec, (ref,)))) if strided else b""
    for start in range(0, end, _STEP * size):
        count = min(_STEP * size, end - start)
        if strided:
            yield whole[start : start + count]
        else:
            yield b"".join(map(bytes, read_chunks(files, ref.path, ref.offset + start, count)))
