"""Find tensors with suspicious values, such as NaN or denormal numbers. Imports numpy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..io.data.cast import to_float
from ..io.data.copy import Files, payload
from ..io.tensor import WEIGHT_DTYPES, Tensor, TensorRef
from ..report import Progress

KINDS = ("nan", "inf", "zero", "constant", "denormal")

# The smallest normal number of each type. Smaller ones are denormal: they have fewer digits, and
# some hardware takes them for zero.
SMALLEST = {"F16": 2.0**-14, "BF16": 2.0**-126, "F32": 2.0**-126, "F64": 2.0**-1022}


def survey(tensors: Mapping[str, TensorRef], progress: Progress) -> dict[str, list[str]]:
    """List the tensors that hold suspicious values.

    Args:
        tensors: the tensors by name. Those whose type no weight has are skipped.
        progress: is told the number of bytes read.

    Returns:
        Each of ``KINDS`` to names of tensors; a tensor can be in several. "zero" and "constant"
        are tensors with one value throughout.
    """
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    with Files() as files:
        for name, ref in tensors.items():
            # A stride of 0 lets a small file claim a huge tensor, which fits no model anyway.
            believable = ref.stride is None or ref.spec.nbytes <= ref.path.stat().st_size
            if ref.spec.dtype in WEIGHT_DTYPES and ref.spec.numel and believable:
                for kind in _kinds_of(files, ref, progress):
                    found[kind].append(name)
    return found


def _kinds_of(files: Files, ref: TensorRef, progress: Progress) -> set[str]:
    """The kinds of values in one tensor, which is read piece by piece."""
    odd: set[str] = set()
    low, high = np.inf, -np.inf
    for chunk in payload(files, Tensor(ref.spec, (ref,))):
        values = to_float(chunk, ref.spec.dtype)
        least, most = values.min(), values.max()  # NaN when there is one
        if not np.isfinite(least) or not np.isfinite(most):
            odd |= {"nan"} if np.isnan(values).any() else set()
            odd |= {"inf"} if np.isinf(values).any() else set()
        if "denormal" not in odd:
            sizes = np.abs(values)
            if ((sizes > 0) & (sizes < SMALLEST[ref.spec.dtype])).any():
                odd.add("denormal")
        low, high = min(low, least), max(high, most)
        progress.advance(len(chunk))
    if not odd & {"nan", "inf"} and low == high and ref.spec.numel > 1:
        odd.add("zero" if low == 0 else "constant")
    return odd
