"""What changed between two checkpoints: tensor by tensor, whatever form each is in. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UsageError
from ...io.data.checksums import check_sums, used_blobs
from ...io.data.copy import Files
from ...io.source import refuse_input
from ...io.tensor import Tensor
from ...report import SILENT, Progress
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

    Two tensors are the same when all bits are, or when the types differ and the one rounded to
    nearest even is the other. With ``tolerance``, also when no element is further off than that
    many times the largest magnitude in either tensor; 0 asks for equal values (0 equals -0).
    ``plot`` is a PNG to draw the change of each layer in. ``progress`` is called with numbers of
    bytes. Both files are read in pieces.

    Raises :class:`~sam21convert.errors.MismatchError` for models of different sizes,
    :class:`~sam21convert.errors.RefusedError` for what is not SAM 2,
    :class:`~sam21convert.errors.UnreadableError` (also for a checksum that does not hold) and
    :class:`~sam21convert.errors.UsageError`.

    Example:
        >>> sam21convert.diff("model.pt", "my_finetune.pt").same
        False
    """
    if tolerance is not None and not (isfinite(tolerance) and tolerance >= 0):
        raise UsageError(f"`tolerance={tolerance}`: is not a number from 0 up")
    if plot is not None:
        from .plot import prepare

        prepare(Path(plot), overwrite=overwrite)
    one, other = open_pair(a, b)
    for side in (one, other):
        if plot is not None:
            refuse_input(Path(plot), "safetensors", side.checkpoint.source)  # as any single file
        tensors = [Tensor(ref.spec, (ref,)) for ref in side.tensors.values()]
        check_sums(used_blobs(side.checkpoint.source.blobs, tensors), SILENT)
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
        only_a=tuple(_lone(one, other)),
        only_b=tuple(_lone(other, one)),
    )
    if plot is not None:
        from .plot import draw

        draw(result, Path(plot), overwrite=overwrite)
    return result


def _nbytes(side: DiffSide) -> int:
    return sum(ref.spec.nbytes for ref in side.tensors.values())


def _changes(
    one: DiffSide, other: DiffSide, tolerance: float | None, progress: Progress
) -> Iterator[TensorChange]:
    """Compare what both hold."""
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


def _lone(one: DiffSide, other: DiffSide) -> Iterator[OneSided]:
    """What ``one`` holds and ``other`` does not."""
    for name, ref in one.tensors.items():
        if name not in other.tensors:
            yield OneSided(name, module_of(name), ref.spec, other.why_not(name))
