"""Compare two checkpoints tensor by tensor, whatever dialect and container each is in. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UsageError
from ...io.data.checksums import check_sums, used_blobs
from ...io.data.copy import Files
from ...io.nearby import expanded
from ...io.source import refuse_input
from ...report import SILENT, Progress
from ..safety.report import together
from .align import DiffSide, open_pair
from .modules import module_of
from .report import Difference, OneSided, TensorChange, TensorStatus

if TYPE_CHECKING:
    from ...io.data.compare import Gap


def diff(
    a: str | Path,
    b: str | Path,
    *,
    tolerance: float | None = None,
    plot: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Difference:
    """Compare the tensors of two checkpoints, each in any dialect and container.

    Two tensors are the same when all bits are, or when their types differ and rounding the wider to
    nearest even gives the narrower. Both files are read in pieces.

    Args:
        a: a checkpoint: a path, a published name, ``hf://org/repo`` or ``https://...``.
        b: the other checkpoint.
        tolerance: the largest difference of two elements that still counts as the same, in units of
            the largest magnitude in either tensor; 0 asks for equal values (0 equals -0). None asks
            for equal bits.
        plot: a .png, .svg or .pdf to draw the change of each layer in; needs matplotlib.
        overwrite: whether an existing file ``plot`` may be replaced.
        progress: is told the number of bytes compared.

    Returns:
        What differs, the largest changes first.

    Raises:
        UsageError: when ``tolerance`` is negative or not finite, or ``plot`` cannot be written.
        MismatchError: when the models are of different sizes.
        RefusedError: when one of the checkpoints is not SAM 2.
        UnreadableError: when a file is damaged or a checksum in it does not match.

    Example:
        >>> sam21convert.diff("model.pt", "my_finetune.pt").same
        False
    """
    if tolerance is not None and not (isfinite(tolerance) and tolerance >= 0):
        raise UsageError(f"`tolerance={tolerance}`: must be a finite number, 0 or more")
    plot = None if plot is None else expanded(Path(plot))
    if plot is not None:
        from .plot import prepare

        prepare(plot, overwrite=overwrite)
    one, other = open_pair(a, b)
    for side in (one, other):
        if plot is not None:
            # Any container of a single file has the same rule.
            refuse_input(plot, "safetensors", side.checkpoint.source)
        check_sums(used_blobs(side.checkpoint.source.blobs, side.tensors.values()), SILENT)
    progress.start("comparing", _nbytes(one) + _nbytes(other))
    changes = list(_changes(one, other, tolerance, progress))
    result = Difference(
        a=one.path,
        b=other.path,
        a_form=one.form,
        b_form=other.form,
        names=one.names,
        tolerance=tolerance,
        tensors=tuple(sorted(changes, key=lambda change: change.weight, reverse=True)),
        only_a=tuple(_one_sided(one, other)),
        only_b=tuple(_one_sided(other, one)),
        safety=together(side.checkpoint.safety for side in (one, other)),
    )
    if plot is not None:
        from .plot import draw

        draw(result, plot, overwrite=overwrite)
    return result


def _nbytes(side: DiffSide) -> int:
    return sum(ref.spec.nbytes for ref in side.tensors.values())


def _changes(
    one: DiffSide, other: DiffSide, tolerance: float | None, progress: Progress
) -> Iterator[TensorChange]:
    """Compare the tensors that both sides hold."""
    from ...io.data.compare import gap, identical, measurable

    with Files() as files:
        for name, ref in one.tensors.items():
            theirs = other.tensors.get(name)
            if theirs is None:
                continue
            change = TensorChange(name, module_of(name), "identical", ref.spec, theirs.spec)
            if ref.spec.shape != theirs.spec.shape:
                yield replace(change, outcome="misshapen")
            elif identical(files, ref, theirs):
                yield change
            elif measurable(ref, theirs):
                yield _judged(change, gap(files, ref, theirs), tolerance)
            else:
                yield replace(change, outcome="different")
            progress.advance(ref.spec.nbytes + theirs.spec.nbytes)


def _judged(change: TensorChange, found: Gap, tolerance: float | None) -> TensorChange:
    relative = found.largest / found.scale if found.scale else 0.0
    outcome: TensorStatus = "different"
    if found.casts:
        outcome = "cast"
    elif tolerance is not None and relative <= tolerance and not found.unmatched:
        outcome = "within"
    return replace(
        change,
        outcome=outcome,
        largest=found.largest,
        mean=found.mean,
        scale=found.scale,
        relative=relative,
        relative_mean=found.mean / found.scale if found.scale else 0.0,
        unmatched=found.unmatched,
        cast=found.casts[0] if found.casts else None,
    )


def _one_sided(one: DiffSide, other: DiffSide) -> Iterator[OneSided]:
    """The tensors that only ``one`` holds."""
    for name, ref in one.tensors.items():
        if name not in other.tensors:
            yield OneSided(name, module_of(name), ref.spec, other.why_not(name))
