"""Find tensors with suspicious values, such as NaN or denormal numbers. Imports numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..io.data.cast import to_float
from ..io.data.checksums import check_sum, check_sums
from ..io.data.copy import WORKERS, Files, crc32, payload
from ..io.data.measure import can_be_measured
from ..io.source import Blob
from ..io.tensor import WEIGHT_DTYPES, Joined, Tensor, TensorRef
from ..report import Progress

KINDS = ("nan", "inf", "zero", "constant", "denormal")

# The smallest normal number of each type. Smaller ones are denormal: they have fewer digits, and
# some hardware takes them for zero.
SMALLEST = {"F16": 2.0**-14, "BF16": 2.0**-126, "F32": 2.0**-126, "F64": 2.0**-1022}


def survey(
    tensors: Mapping[str, TensorRef], blobs: Sequence[Blob], progress: Progress
) -> dict[str, list[str]]:
    """List the tensors that hold suspicious values, and check the data against its checksums.

    Everything is read once: where a tensor is all of a blob, one reading serves both.

    Args:
        tensors: the tensors by name. Those whose type no weight has are skipped.
        blobs: the byte ranges to check.
        progress: is told the number of bytes read.

    Returns:
        Each of ``KINDS`` to names of tensors; a tensor can be in several. "zero" and "constant"
        are tensors with one value throughout.

    Raises:
        UnreadableError: when a checksum does not match, or a file cannot be read.
    """
    looked_at = {
        name: ref
        for name, ref in tensors.items()
        if ref.spec.dtype in WEIGHT_DTYPES and can_be_measured(ref)
    }
    whole = {(blob.path, blob.offset, blob.nbytes): blob for blob in blobs}
    with_blobs = {name: _taken(whole, ref) for name, ref in looked_at.items()}
    sizes = [ref.spec.nbytes for ref in looked_at.values()]
    progress.start("reading", sum(sizes) + sum(blob.nbytes for blob in whole.values()))
    with Files() as files, ThreadPoolExecutor(WORKERS) as pool:
        try:
            jobs = {
                name: pool.submit(_kinds_of, files, ref, with_blobs[name], progress)
                for name, ref in looked_at.items()
            }
            kinds = {name: job.result() for name, job in jobs.items()}
        finally:
            pool.shutdown(cancel_futures=True)
    check_sums(whole.values(), progress)
    return {kind: [name for name, odd in kinds.items() if kind in odd] for kind in KINDS}


def _taken(blobs: dict[tuple[Path, int, int], Blob], ref: TensorRef) -> Blob | None:
    """The blob that is this tensor and no more, taken out of those that are left."""
    if isinstance(ref, Joined) or ref.stride is not None:
        return None
    return blobs.pop((ref.path, ref.offset, ref.spec.nbytes), None)


def _kinds_of(files: Files, ref: TensorRef, blob: Blob | None, progress: Progress) -> set[str]:
    """The kinds of values in one tensor, which is read piece by piece; and its checksum."""
    odd: set[str] = set()
    low, high, crc = np.inf, -np.inf, 0
    for chunk in payload(files, Tensor(ref.spec, (ref,))):
        if blob is not None:
            crc = crc32(chunk, crc)
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
    if blob is not None:
        check_sum(blob, crc)
    if not odd & {"nan", "inf"} and low == high and ref.spec.numel > 1:
        odd.add("zero" if low == 0 else "constant")
    return odd
