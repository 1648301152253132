"""Compute the elements of tensors: make them contiguous, cast them, merge LoRA. Imports numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import RefusedError
from ..tensor import DTYPES, FLOAT8_DTYPES, Constant, Factors, Merged, TensorRef

Read: TypeAlias = Callable[[TensorRef], bytes | bytearray]  # returns the extent of a tensor

_NUMPY = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
_BLOCK = 1 << 14  # elements computed at a time, few enough to stay in the cache
# Types that others may be too large for: their bits, and the exponent of infinity and NaN.
_EXPONENTS = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F800000)}
_LARGER = {
    "F16": {"F64", "F32", "BF16", "F8_E8M0"},
    "BF16": {"F64", "F32"},
    "F32": {"F64"},
}


def contiguous_bytes(raw: bytes | bytearray, ref: TensorRef) -> memoryview:
    """Put the elements of a tensor in row-major order.

    Args:
        raw: Its bytes in the file, from the first to the last element.
        ref: The tensor.

    Returns:
        ``ref.spec.nbytes`` bytes.
    """
    size = DTYPES[ref.spec.dtype]
    bits = np.frombuffer(raw, dtype=f"V{size}")
    if ref.stride is not None and ref.spec.numel:
        steps = tuple(step * size for step in ref.stride)
        bits = np.lib.stride_tricks.as_strided(bits, ref.spec.shape, steps, writeable=False)
    return np.ascontiguousarray(bits).reshape(-1).view("u1").data


def cast(raw: bytes | memoryview, source: str, target: str) -> bytes:
    """Convert elements to another type.

    Args:
        raw: Little-endian elements.
        source: Their type.
        target: The type wanted: ``F16``, ``BF16`` or ``F32``, or the same as ``source``.

    Returns:
        The converted elements, rounded as in torch (see :func:`from_float32`); the same bits if
        the types are the same.
    """
    if source == target:
        return bytes(raw)
    values = np.frombuffer(raw, "<f4") if source == "F32" else to_float32(raw, source)
    return b"".join(
        from_float32(values[start : start + _BLOCK], target)
        for start in range(0, len(values), _BLOCK)
    )


def became_infinite(raw: bytes | memoryview, source: str, made: bytes, target: str) -> bool:
    """Tell whether a cast made a number infinite.

    Args:
        raw: Little-endian elements.
        source: Their type.
        made: The same elements, cast.
        target: Their type now.

    Returns:
        True if an element that was finite is not any more.
    """
    if source not in _LARGER.get(target, ()):
        return False
    kind, exponent = _EXPONENTS[target]
    bits = np.frombuffer(made, kind) & np.array(exponent, kind)
    if not bits.size or int(bits.max()) != exponent:
        return False
    lost = np.isinf(to_float32(made, target)) & np.isfinite(to_float(raw, source))
    return bool(lost.any())


def constant_bytes(constant: Constant, dtype: str) -> bytes:
    """Make the elements of a constant tensor.

    Args:
        constant: The tensor.
        dtype: Element type wanted, a floating type.

    Returns:
        The elements, little-endian.
    """
    return from_float32(np.full(constant.spec.numel, constant.value, "<f4"), dtype)


def merged_bytes(part: Merged, dtype: str, read: Read) -> Iterator[bytes]:
    """Compute a merged tensor in float32, rounded once at the end.

    A library may add the products of a matrix multiplication in any order, depending on the
    machine. Here they are added in the order of the rank, and each product and sum is rounded on
    its own, so the result has the same bits on every machine. Where a start is taken off, it is
    computed in float64, and may differ between machines in the last bit.

    Args:
        part: The tensor.
        dtype: Element type wanted, a floating type.
        read: Reads the bytes of a tensor from its file.

    Yields:
        The elements in row-major order, little-endian, piece by piece.

    Raises:
        RefusedError: If a start that has to be taken off is not determined.
        OverflowError: If a number is too large for the type.
    """
    values = _values(part.base, read)
    for update in part.updates:
        rows = values.reshape(len(values), -1)[update.first or 0 :]
        rows = rows[: update.left.spec.shape[0]]
        if update.start is not None:
            take_off_start(rows, update, part.base)
        _change(rows, update, read)
    if part.axes:
        values = np.ascontiguousarray(values.transpose(part.axes))
    values = values.reshape(-1)
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        made = from_float32(block, dtype)
        if became_infinite(block.tobytes() if dtype in _LARGER else b"", "F32", made, dtype):
            raise OverflowError
        yield made


def _change(rows: NDArray[np.float32], factors: Factors, read: Read) -> None:
    """Add a low-rank update to ``rows``, [N, M], in place."""
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


def take_off_start(rows: NDArray[np.float32], update: Factors, base: TensorRef) -> None:
    """Take off a weight what the factors of its update began with, as PEFT does, in place.

    ``LoraLayer.pissa_init`` and ``olora_init`` of PEFT compute in float32, and round the rest to
    the type of the weight. The decomposition of torch is called as they call it: that of another
    library differs by more than the rounding of the merge, wherever singular values lie close.

    Args:
        rows: [N, M], the weight.
        update: The update, with a start.
        base: Where the weight lies.

    Raises:
        RefusedError: If rounding decides what the start was, so that each machine has another.
    """
    import torch  # for these adapters alone

    torch.get_num_threads()  # a thread of Python has the number that is set only from here on
    rank = update.right.spec.shape[0]
    weight = torch.from_numpy(rows.copy())
    noise = 4 * float(np.finfo(np.float32).eps)
    try:
        if update.start == "pissa":
            left, values, right = torch.linalg.svd(weight, full_matrices=False)
            noise *= float(values[0])
            kept, dropped = float(values[rank - 1]), float(values[rank : rank + 1].sum())
            known = rank == len(values) or kept - dropped > noise or kept <= noise
            roots = torch.diag(torch.sqrt(values[:rank] / update.scale))
            left, right = left[:, :rank] @ roots, roots @ right[:rank]
        else:
            left, right = torch.linalg.qr(weight)
            noise *= float(torch.linalg.norm(weight))
            left, right = left[:, :rank], right[:rank]
            known = bool((torch.diagonal(right).abs() > noise).all())
    except RuntimeError:  # it does not converge
        known = False
    if not known:
        raise RefusedError(
            f"{base.path}: the adapter starts with init_lora_weights={update.start}, and for a "
            f"weight of {base.spec} this start is not determined: its first {rank} directions are "
            "not distinct",
            hint="in the program that trained it: model.merge_and_unload().save_pretrained(OUT); "
            "convert OUT",
        )
    rest = (weight - update.scale * left @ right).numpy().reshape(-1)
    rows[:] = to_float32(from_float32(rest, base.spec.dtype), base.spec.dtype).reshape(rows.shape)


def _values(ref: TensorRef, read: Read) -> NDArray[np.float32]:
    raw = contiguous_bytes(read(ref), ref)
    return to_float32(raw, ref.spec.dtype).reshape(ref.spec.shape)


@cache
def _values_of_float8(dtype: str) -> NDArray[np.float32]:
    """The value of each of the 256 bit patterns of a type of 8 bits.

    From the OCP specifications of FP8 and MX, and arXiv:2206.02915 for the types that end in FNUZ.
    """
    if dtype == "F8_E8M0":  # a power of two
        return np.append(np.ldexp(np.float32(1), np.arange(255) - 127), np.float32(np.nan))
    mantissa, bias = {
        "F8_E5M2": (2, 15), "F8_E4M3": (3, 7), "F8_E5M2FNUZ": (2, 16), "F8_E4M3FNUZ": (3, 8)
    }[dtype]  # fmt: skip
    sizes = np.arange(128)
    exponent, rest = sizes >> mantissa, sizes & ((1 << mantissa) - 1)
    normal = exponent > 0
    digits = (rest + (normal << mantissa)).astype("<f4")
    values = np.ldexp(digits, np.maximum(exponent, 1) - bias - mantissa)
    values = np.concatenate((values, -values))
    if dtype.endswith("FNUZ"):
        values[128] = np.nan  # in place of a negative zero; there are no infinities
    elif dtype == "F8_E4M3":
        values[[127, 255]] = np.nan
    else:
        values[[124, 252]] = np.inf, -np.inf
        values[[125, 126, 127, 253, 254, 255]] = np.nan
    return values


def to_float32(raw: bytes | memoryview, dtype: str) -> NDArray[np.float32]:
    """Convert elements to float32: exactly, except for F64, which is rounded to nearest.

    Args:
        raw: Little-endian elements.
        dtype: Their type, a floating type.

    Returns:
        [N] in float32. Values of F64 that are too large become infinity.
    """
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    if dtype in FLOAT8_DTYPES:
        return np.take(_values_of_float8(dtype), np.frombuffer(raw, "u1"))
    with np.errstate(over="ignore", invalid="ignore"):
        return np.frombuffer(raw, _NUMPY[dtype]).astype("<f4")


def to_float(raw: bytes | memoryview, dtype: str) -> NDArray[np.floating]:
    """Convert elements to a numpy type that holds each of them exactly.

    Args:
        raw: Little-endian elements.
        dtype: Their type, a floating type.

    Returns:
        [N] in the same type, or float32 for those that numpy does not have.
    """
    return np.frombuffer(raw, _NUMPY[dtype]) if dtype in _NUMPY else to_float32(raw, dtype)


def from_float32(values: NDArray[np.float32], dtype: str) -> bytes:
    """Convert float32 to another floating type, rounded as in torch.

    Rounds to nearest, ties to even; NaN stays NaN, and overflow becomes infinity. Casts from F64
    go through float32 as well, as in torch.

    Args:
        values: [N].
        dtype: Element type wanted.

    Returns:
        The elements, little-endian.
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
