"""Statistics of the elements of a tensor, in a few megabytes of memory. Imports numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...report import Progress
from ..tensor import DTYPES, FLOAT8_DTYPES, WEIGHT_DTYPES, Tensor, TensorRef
from .cast import to_float
from .copy import Files, payload

_STEP = 1 << 16  # elements at a time
_INTEGERS = {
    "BOOL": "<u1",
    **{f"{kind}{bits}": f"<{kind.lower()}{bits // 8}" for kind in "IU" for bits in (8, 16, 32, 64)},
}


@dataclass
class Measures:
    """Statistics of a tensor. All but ``nan`` and ``inf`` are those of its finite elements.

    Attributes:
        count: Number of finite elements.
        mean: Their mean, in float64 like ``squares``.
        squares: Sum of the squares of their distances from the mean.
        least: The smallest; a whole number in a tensor of whole numbers.
        most: The largest.
        nan: Number of elements that are NaN.
        inf: Number of infinite elements.
        zeros: Number of elements that are 0 or -0.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    nan: int = 0
    inf: int = 0
    zeros: int = 0

    @property
    def deviation(self) -> float:
        """The standard deviation: of these elements, not of a population they are taken from."""
        return math.sqrt(self.squares / self.count) if self.count else math.nan

    @property
    def furthest(self) -> float:
        """How far the most distant element is from the mean, in standard deviations."""
        spread = self.deviation
        return max(self.most - self.mean, self.mean - self.least) / spread if spread else 0.0


def can_be_measured(ref: TensorRef) -> bool:
    """Whether :func:`measure` can read a tensor.

    Args:
        ref: The tensor.

    Returns:
        False for complex numbers, for a tensor without elements, and for one that claims to be
        larger than its file, as a stride of 0 allows.
    """
    known = ref.spec.dtype in {*WEIGHT_DTYPES, *FLOAT8_DTYPES, *_INTEGERS}
    believable = ref.stride is None or ref.spec.nbytes <= ref.path.stat().st_size
    return known and believable and ref.spec.numel > 0


def measure(files: Files, ref: TensorRef, progress: Progress) -> Measures:
    """Read a tensor once, piece by piece.

    Args:
        files: Opens the files.
        ref: A tensor that can be measured.
        progress: Is told the number of bytes read.

    Returns:
        Its statistics.

    Raises:
        UnreadableError: If a file ends too early or cannot be read.
    """
    found, dtype = Measures(), ref.spec.dtype
    step = _STEP * DTYPES[dtype]
    for chunk in payload(files, Tensor(ref.spec, (ref,))):
        # Of a signalling NaN, and of squares beyond float64.
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(chunk), step):
                _add(found, chunk[start : start + step], dtype)
        progress.advance(len(chunk))
    return found


def _add(found: Measures, raw: memoryview, dtype: str) -> None:
    values: NDArray[Any] = (
        np.frombuffer(raw, _INTEGERS[dtype]) if dtype in _INTEGERS else to_float(raw, dtype)
    )
    least, most = values.min(), values.max()  # NaN when there is one
    if not (np.isfinite(least) and np.isfinite(most)):
        found.nan += int(np.count_nonzero(np.isnan(values)))
        found.inf += int(np.count_nonzero(np.isinf(values)))
        values = values[np.isfinite(values)]
        if not values.size:
            return
        least, most = values.min(), values.max()
    found.zeros += values.size - int(np.count_nonzero(values))
    found.least, found.most = min(found.least, least.item()), max(found.most, most.item())
    _combine(found, values.astype(np.float64))


def _combine(found: Measures, values: NDArray[np.float64]) -> None:
    """Add the mean and the squares of some elements, as Chan, Golub and LeVeque do (1979)."""
    mean = float(values.mean())
    values -= mean
    squares = float(np.square(values, out=values).sum())
    before, count = found.count, found.count + values.size
    apart = mean - found.mean
    found.mean += apart * values.size / count
    found.squares += squares + apart * apart * before * values.size / count
    found.count = count
