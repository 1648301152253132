"""Statistics of every tensor of a checkpoint, and which tensors are unusual. Imports numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from html import escape
from math import isfinite
from typing import Literal, TypeAlias

from ..io.data.checksums import check_sums, used_blobs
from ..io.data.copy import Files
from ..io.data.measure import Measures, can_be_measured, measure
from ..io.folding import few
from ..io.tensor import TensorRef
from ..report import BLANK, SILENT, Part, Progress, Table, heading, labelled
from .open import Checkpoint
from .order import in_model_order

Oddity: TypeAlias = Literal["NaN", "infinite", "constant", "far outlier"]
_FAR = 20.0  # standard deviations from the mean; of a million normal numbers none is beyond 6
_FURTHEST = 8  # far outliers that are named
_SHOWN = 4  # names of constant tensors
_HEAD = ("mean", "std", "min", "max", "NaN", "inf", "zeros", "tensor")


@dataclass(frozen=True)
class TensorStats:
    """What the elements of a tensor are. All but ``nan`` and ``inf`` is that of the finite ones.

    A number is None where it does not exist, or is beyond float64: for complex numbers, for a
    tensor without finite elements, and for one that claims to be larger than its file.

    Attributes:
        name: the name in the file.
        dtype: the element type.
        shape: the shape.
        mean: the mean.
        std: the standard deviation, of these elements (not divided by their number less one).
        min: the smallest; a whole number in a tensor of whole numbers.
        max: the largest.
        nan: the number of elements that are NaN.
        inf: the number of infinite ones.
        zeros: the number of those that are 0 or -0.
        furthest: how far the most distant element is from the mean, in standard deviations.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None
    nan: int | None = None
    inf: int | None = None
    zeros: int | None = None
    furthest: float | None = None


@dataclass(frozen=True)
class Unusual:
    """A tensor that deserves a look.

    Attributes:
        name: the name in the file.
        kind: ``"NaN"``, ``"infinite"``, ``"constant"`` (one value throughout), or
            ``"far outlier"`` (an element 20 standard deviations from the mean, or more).
        why: a few words.
    """

    name: str
    kind: Oddity
    why: str


@dataclass(frozen=True)
class Statistics:
    """The tensors of a checkpoint, by their values.

    Attributes:
        tensors: the tensors, in the order of the model.
        unusual: those that deserve a look, the worst first; of the far outliers the furthest.
    """

    tensors: tuple[TensorStats, ...]
    unusual: tuple[Unusual, ...]

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A row for each tensor, the name last, and what is unusual below them.
        """
        rows = (heading(_HEAD), *map(_cells, self.tensors))
        numbers = Table(rows, right=tuple(range(len(_HEAD) - 1)), cut=True)
        return [numbers, BLANK, *(labelled(kind, text) for kind, text in self._unusual())]

    def to_html(self) -> str:
        """Give the statistics for a notebook.

        Returns:
            What is unusual, and a table that scrolls.
        """
        odd = "".join(f"<li>{escape(f'{kind}: {text}')}</li>" for kind, text in self._unusual())
        head = "".join(f"<th>{name}</th>" for name in _HEAD)
        rows = (
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(one)) + "</tr>"
            for one in self.tensors
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        style = "max-height: 30em; overflow: auto; white-space: nowrap"
        return f'<ul>{odd}</ul><div style="{style}">{table}</div>'

    def _unusual(self) -> Iterator[tuple[str, str]]:
        if not self.unusual:
            yield "unusual", f"none of {len(self.tensors):,} tensors"
        constant = [one.name for one in self.unusual if one.kind == "constant"]
        for one in self.unusual:
            if one.kind != "constant":
                yield one.kind, f"{one.name}: {one.why}"
            elif one.name == constant[0]:
                yield (
                    "constant",
                    f"{len(constant)} of {len(self.tensors):,} tensors: {few(constant, _SHOWN)}",
                )


def statistics(checkpoint: Checkpoint, progress: Progress = SILENT) -> Statistics:
    """Read all tensors of a checkpoint, piece by piece.

    Args:
        checkpoint: the checkpoint, on this machine.
        progress: is told the number of bytes read.

    Returns:
        Their statistics.

    Raises:
        UnreadableError: when the file is damaged, or a checksum in it does not match.
    """
    refs = {name: checkpoint.tensors[name] for name in in_model_order(checkpoint)}
    check_sums(used_blobs(checkpoint.source.blobs, refs.values()), SILENT)
    found = {name: Measures() for name in refs}
    measured = {name: ref for name, ref in refs.items() if can_be_measured(ref)}
    progress.start("reading", sum(ref.spec.nbytes for ref in measured.values()))
    with Files() as files:
        for name, ref in measured.items():
            found[name] = measure(files, ref, progress)
    return Statistics(
        tuple(_stats(name, refs[name], found[name], name in measured) for name in refs),
        tuple(_unusual(refs, {name: found[name] for name in measured})),
    )


def _stats(name: str, ref: TensorRef, found: Measures, measured: bool) -> TensorStats:
    plain = TensorStats(name, ref.spec.dtype, ref.spec.shape)
    if not measured:
        return plain
    there = found.count > 0
    return replace(
        plain,
        mean=_finite(found.mean) if there else None,
        std=_finite(found.deviation),
        min=_finite(found.least),
        max=_finite(found.most),
        nan=found.nan,
        inf=found.inf,
        zeros=found.zeros,
        furthest=_finite(found.furthest) if there else None,
    )


def _finite(number: float) -> float | None:
    """A number that JSON can hold."""
    return number if isfinite(number) else None


def _unusual(refs: Mapping[str, TensorRef], found: Mapping[str, Measures]) -> Iterator[Unusual]:
    for name, one in found.items():
        of = f"of {refs[name].spec.numel:,} elements"
        if one.nan:
            yield Unusual(name, "NaN", f"{one.nan:,} {of}")
        if one.inf:
            yield Unusual(name, "infinite", f"{one.inf:,} {of}")
    for name, one in found.items():
        if one.count == refs[name].spec.numel > 1 and one.least == one.most:
            yield Unusual(name, "constant", f"every element is {one.least:g}")
    far = sorted(found.items(), key=lambda item: -item[1].furthest if item[1].count else 0.0)
    for name, one in far[:_FURTHEST]:
        if one.count and isfinite(one.furthest) and one.furthest >= _FAR:
            end = one.most if one.most - one.mean >= one.mean - one.least else one.least
            yield Unusual(
                name, "far outlier", f"{end:.2e} is {one.furthest:.0f} standard deviations away"
            )


def _cells(one: TensorStats) -> tuple[str, ...]:
    numbers = (_number(value) for value in (one.mean, one.std, one.min, one.max))
    counts = ("-" if value is None else f"{value:,}" for value in (one.nan, one.inf, one.zeros))
    return *numbers, *counts, one.name


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2e}" if isinstance(value, float) and value else f"{value:g}"
