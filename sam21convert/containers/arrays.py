"""What needs the elements of a tensor: odd strides, casts and constants. Imports numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..tensors import DTYPES, Constant, TensorRef

_NUMPY = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


def contiguous_bytes(raw: bytes | bytearray, ref: TensorRef, dtype: str) -> bytes:
    """Elements of ``ref`` in row-major order as ``dtype``; ``raw`` is its extent in the file."""
    size = DTYPES[ref.spec.dtype]
    bits = np.frombuffer(raw, dtype=f"V{size}")
    if ref.stride is not None and ref.spec.numel:
        steps = tuple(step * size for step in ref.stride)
        bits = np.lib.stride_tricks.as_strided(bits, ref.spec.shape, steps, writeable=False)
    bits = np.ascontiguousarray(bits).reshape(-1)
    if ref.spec.dtype == dtype:
        return bits.tobytes()
    return from_float32(to_float32(bits.tobytes(), ref.spec.dtype), dtype)


def constant_bytes(constant: Constant, dtype: str) -> bytes:
    """Its elements as ``dtype``."""
    return from_float32(np.full(constant.spec.numel, constant.value, "<f4"), dtype)


def to_float32(raw: bytes | memoryview, dtype: str) -> NDArray[np.float32]:
    """Elements as float32: exact for every floating type but F64, which is rounded to nearest."""
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.frombuffer(raw, _NUMPY[dtype]).astype("<f4")


def to_float(raw: bytes | memoryview, dtype: str) -> NDArray[np.floating]:
    """Elements as a numpy float array that holds each of them exactly."""
    return to_float32(raw, dtype) if dtype == "BF16" else np.frombuffer(raw, _NUMPY[dtype])


def from_float32(values: NDArray[np.float32], dtype: str) -> bytes:
    """Round to nearest, ties to even, as torch does; NaN stays NaN, overflow becomes infinity.

    Elements of F64 tensors come through float32 as well, as they do in torch.
    """
    if dtype == "BF16":
        bits = values.view("<u4")
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype("<u2").tobytes()
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(_NUMPY[dtype]).tobytes()
