"""What needs the elements of a tensor: odd strides, casts, constants, sums. Imports numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..tensor import DTYPES, Constant, Factors, Merged, TensorRef

Read: TypeAlias = Callable[[TensorRef], bytes | bytearray]  # the extent of a tensor in its file

_NUMPY = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
_BLOCK = 1 << 14  # elements that are computed at once: they stay in the cache and on the heap


def contiguous_bytes(raw: bytes | bytearray, ref: TensorRef) -> memoryview:
    """Elements of ``ref`` in row-major order; ``raw`` is its extent in the file."""
    size = DTYPES[ref.spec.dtype]
    bits = np.frombuffer(raw, dtype=f"V{size}")
    if ref.stride is not None and ref.spec.numel:
        steps = tuple(step * size for step in ref.stride)
        bits = np.lib.stride_tricks.as_strided(bits, ref.spec.shape, steps, writeable=False)
    return np.ascontiguousarray(bits).reshape(-1).view("u1").data


def cast(raw: bytes | memoryview, source: str, target: str) -> bytes:
    """Elements of type ``source`` as ``target``; where these are the same, the same bits."""
    if source == target:
        return bytes(raw)
    values = np.frombuffer(raw, "<f4") if source == "F32" else to_float32(raw, source)
    return b"".join(
        from_float32(values[start : start + _BLOCK], target)
        for start in range(0, len(values), _BLOCK)
    )


def constant_bytes(constant: Constant, dtype: str) -> bytes:
    """Its elements as ``dtype``."""
    return from_float32(np.full(constant.spec.numel, constant.value, "<f4"), dtype)


def merged_bytes(part: Merged, dtype: str, read: Read) -> Iterator[bytes]:
    """Its elements as ``dtype``, computed in float32 and rounded once at the end, in pieces.

    Products are added up in the order of the rank, each rounded by itself, where a library would
    choose: so the same bits come out whenever, and on whatever machine, this is done.
    """
    values = _values(part.base, read)
    if part.factors is not None:
        _change(values.reshape(len(values), -1), part.factors, read)
    if part.axes:
        values = np.ascontiguousarray(values.transpose(part.axes))
    values = values.reshape(-1)
    for start in range(0, len(values), _BLOCK):
        yield from_float32(values[start : start + _BLOCK], dtype)


def _change(rows: NDArray[np.float32], factors: Factors, read: Read) -> None:
    """Add a change of low rank to ``rows``, [N, M], in place."""
    left = _values(factors.left, read).reshape(len(rows), -1).T  # rank, N
    right = _values(factors.right, read).reshape(len(left), -1)  # rank, M
    magnitude = None if factors.magnitude is None else _values(factors.magnitude, read).reshape(-1)
    step = max(1, _BLOCK // max(1, right.shape[1]))
    with np.errstate(all="ignore"):
        for start in range(0, len(rows), step):
            some = slice(start, start + step)
            block = rows[some]
            change = np.zeros_like(block)
            for column, row in zip(left[:, some], right, strict=True):
                change += column[:, None] * row
            block += np.float32(factors.scale) * change
            if magnitude is not None:
                lengths = np.sqrt(np.square(block, dtype=np.float64).sum(axis=1))
                block *= (magnitude[some] / lengths.astype(np.float32))[:, None]


def _values(ref: TensorRef, read: Read) -> NDArray[np.float32]:
    raw = contiguous_bytes(read(ref), ref)
    return to_float32(raw, ref.spec.dtype).reshape(ref.spec.shape)


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
        rounded = bits >> 16
        rounded &= 1
        rounded += 0x7FFF
        rounded += bits
        rounded >>= 16
        nan = np.isnan(values)
        if nan.any():
            rounded[nan] = 0x7FC0
        return rounded.astype("<u2").tobytes()
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(_NUMPY[dtype]).tobytes()
