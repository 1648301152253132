"""Measure how much two tensors differ, in a few megabytes of memory. Imports numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..tensor import DTYPES, WEIGHT_DTYPES, Tensor, TensorRef
from .cast import from_float32, to_float, to_float32
from .copy import Files, payload, read_chunks

_STEP = 1 << 15  # elements compared at a time, few enough for the cache

Floats = NDArray[np.floating]


@dataclass
class Gap:
    """The difference between two tensors of the same shape.

    Attributes:
        largest: Largest absolute difference, among elements that are finite in both tensors.
        mean: Sum of these absolute differences, divided by the number of all elements.
        scale: Largest magnitude in either tensor, among the same elements.
        unmatched: Number of elements that are NaN or infinite in one tensor and something else in
            the other.
        casts: Pairs of element types (wider, narrower) such that casting one tensor gives the
            other.
    """

    largest: float = 0.0
    mean: float = 0.0
    scale: float = 0.0
    unmatched: int = 0
    casts: list[tuple[str, str]] = field(default_factory=list)


def identical(files: Files, one: TensorRef, other: TensorRef) -> bool:
    """Whether two tensors are equal in type, shape and every bit.

    Args:
        files: Opens the files.
        one: A tensor.
        other: The other.

    Returns:
        True if they are equal.
    """
    pieces = zip(_pieces(files, one), _pieces(files, other), strict=False)
    return one.spec == other.spec and all(left == right for left, right in pieces)


def measurable(one: TensorRef, other: TensorRef) -> bool:
    """Whether :func:`gap` can compare two tensors.

    Args:
        one: A tensor.
        other: The other.

    Returns:
        True if the shapes are equal and both types are floating types of weights.
    """
    same_shape = one.spec.shape == other.spec.shape
    return same_shape and {one.spec.dtype, other.spec.dtype} <= WEIGHT_DTYPES


def gap(files: Files, one: TensorRef, other: TensorRef) -> Gap:
    """Compare two tensors piece by piece.

    Args:
        files: Opens the files.
        one: A tensor of floats.
        other: Another of the same shape; its type may differ.

    Returns:
        The difference between them.

    Raises:
        UnreadableError: If a file ends too early or cannot be read.
    """
    found = Gap(casts=_casts(one.spec.dtype, other.spec.dtype))
    for raw in zip(_pieces(files, one), _pieces(files, other), strict=True):
        pieces = dict(zip((one.spec.dtype, other.spec.dtype), raw, strict=True))
        found.casts = [cast for cast in found.casts if _is_cast(pieces, *cast)]
        left, right = (
            _widest(piece, ref.spec.dtype) for piece, ref in zip(raw, (one, other), strict=True)
        )
        _measure(found, left, right, one.spec.numel)
    return found


def _casts(one: str, other: str) -> list[tuple[str, str]]:
    """Pairs of types (wider, narrower) to try; both orders if the sizes are equal."""
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
    with np.errstate(invalid="ignore"):  # a signalling NaN is no error
        return to_float(raw, dtype).astype(np.float64)


def _measure(found: Gap, one: Floats, other: Floats, numel: int) -> None:
    """Add a piece of each tensor to the statistics."""
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
    contiguous = b"".join(payload(files, Tensor(ref.spec, (ref,)))) if strided else b""
    for start in range(0, end, _STEP * size):
        count = min(_STEP * size, end - start)
        if strided:
            yield contiguous[start : start + count]
        else:
            yield b"".join(map(bytes, read_chunks(files, ref.path, ref.offset + start, count)))
