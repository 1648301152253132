"""A plot of what changed: a bar for each layer, part by part, in the order of the data flow."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...errors import UsageError, nearest
from ...io.output.atomic import new_file, refuse_existing
from ...packages import require
from ...report import one_line
from .modules import layer_of, natural, rank
from .report import SAME, Difference, TensorChange

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CHANGED, _SAME, _MEAN = "#d55e00", "#999999", "#000000"
_BAR, _FRAME = 0.17, 1.9  # inches: height of a bar, and of everything around the bars
_ROWS = 300  # more are not readable, and several thousand are more than a PNG can be high
_BINS = 20  # of an axis, into which bars are sorted to see how many it tells apart
_LONG = 100  # characters of a line of the title
# What makes two files of the same plot differ is left out.
_FORMATS: Mapping[str, dict[str, Any]] = {
    ".png": {},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


@dataclass(frozen=True)
class Row:
    """A line of the plot.

    Attributes:
        label: the layer, without the name of its part; the part, for a heading.
        changes: its tensors; none for a heading.
        note: what is written beside the bar.
    """

    label: str
    changes: tuple[TensorChange, ...]
    note: str

    @property
    def largest(self) -> float:
        """The largest relative change of any tensor, which is the length of the bar."""
        return max((change.relative or 0.0 for change in self.changes), default=0.0)

    @property
    def mean(self) -> float:
        """The largest mean change of any tensor."""
        return max((change.relative_mean or 0.0 for change in self.changes), default=0.0)

    @property
    def differs(self) -> bool:
        """Whether a tensor is not the same."""
        return any(change.outcome not in SAME for change in self.changes)


def prepare(path: Path, *, overwrite: bool) -> None:
    """Check that a plot can be drawn, before the checkpoints are read.

    Args:
        path: the file to write.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: when the name ends in nothing that a plot can be, or the file exists.
        MissingPackageError: when matplotlib is not installed.
    """
    if path.suffix.lower() not in _FORMATS:
        (near, *_) = (*nearest(path.suffix, _FORMATS), ".png")
        meant = path.with_name(path.stem.rstrip(".") + near)
        raise UsageError(
            f"{path}: a plot is a .png, .svg or .pdf",
            hint=f"the nearest is {shlex.quote(str(meant))}",
        )
    refuse_existing(path, overwrite=overwrite)
    require("plot", "`plot`", "leave `plot` out")


def draw(difference: Difference, path: Path, *, overwrite: bool) -> None:
    """Write the plot: the same bytes for the same difference.

    Args:
        difference: what to draw.
        path: the file to write; its ending chooses the format.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: when ``path`` exists and may not be replaced.
    """
    from matplotlib import rc_context

    ending = path.suffix.lower()
    with (
        new_file(path, overwrite=overwrite) as file,
        # Ids that are always the same; letters as a font that every program can edit.
        rc_context({"svg.hashsalt": "sam21convert", "pdf.fonttype": 42}),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)  # of letters that the font does not have
        figure(difference).savefig(
            file, format=ending.removeprefix("."), dpi=100, metadata=_FORMATS[ending]
        )


def layers(difference: Difference) -> dict[str, list[TensorChange]]:
    """Group the tensors that both sides hold by layer.

    Args:
        difference: the comparison.

    Returns:
        Layer to the changes of its tensors, in the order of the data flow.
    """
    found: dict[str, list[TensorChange]] = {}
    for change in sorted(difference.tensors, key=lambda change: _place(change.name, change.module)):
        found.setdefault(layer_of(change.name), []).append(change)
    return found


def _place(name: str, module: str) -> tuple[int, bool, list[tuple[int, str]]]:
    """Sort key: module, then blocks after the layers before them, then name and number."""
    segments = layer_of(name).split(".")
    return rank(module), "blocks" in segments, natural(segments)


def rows_of(difference: Difference) -> list[Row]:
    """Make the lines of the plot.

    Args:
        difference: the comparison.

    Returns:
        For each part of the model a heading and its layers, if any changed; neighbours in which
        every bit is the same are one line. If there are more than a plot can show, those that
        changed least are left out.
    """
    found: list[Row] = []
    parts = {part.module: part for part in difference.modules}
    for module, group in groupby(layers(difference).items(), key=lambda item: item[1][0].module):
        part = parts[module]
        more = f", {part.only_a} only in A" if part.only_a else ""
        more += f", {part.only_b} only in B" if part.only_b else ""
        if part.untouched:
            found.append(Row(module, (), "the same, every bit"))
            continue
        found.append(Row(module, (), f"{part.different} of {part.tensors} tensors differ{more}"))
        found += _layer_rows(module, group)
    smallest = sorted((row for row in found if row.changes), key=lambda row: row.largest)
    out = {id(row) for row in smallest[: max(0, len(found) - _ROWS)]}
    kept = [row for row in found if id(row) not in out]
    if out:
        kept.append(Row(f"{len(out)} more with smaller changes or none", (), ""))
    return kept


def _layer_rows(module: str, group: Iterable[tuple[str, Sequence[TensorChange]]]) -> Iterator[Row]:
    def untouched(item: tuple[str, Sequence[TensorChange]]) -> bool:
        return all(change.outcome == "identical" for change in item[1])

    for alike, items in groupby(group, key=untouched):
        if alike:
            together = list(items)
            names = [one_line(name.removeprefix(f"{module}.")) for name, _ in together]
            label = f"{names[0]} ... {names[-1]}" if names[1:] else names[0]
            all_of_them = tuple(change for _, some in together for change in some)
            yield Row(label, all_of_them, "the same, every bit")
            continue
        for name, changes in items:
            yield Row(one_line(name.removeprefix(f"{module}.")), tuple(changes), _note(changes))


def _note(changes: Sequence[TensorChange]) -> str:
    """Text beside a bar: its length, how many tensors differ, and what a bar cannot show."""
    largest = max(change.relative or 0.0 for change in changes)
    different = sum(change.outcome not in SAME for change in changes)
    unmatched = sum(change.unmatched for change in changes)
    notes = [f"{largest:.1e}"] if largest else []
    notes += [f"{different} of {len(changes)} differ"] if different else ["the same"]
    if any(change.outcome == "misshapen" for change in changes):
        notes.append("shapes differ")
    if unmatched:
        notes.append(f"{unmatched} not finite on one side")
    elif different and not largest and "shapes differ" not in notes:
        notes.append("equal values, different bits")
    return ", ".join(notes)


def scale_of(lengths: Sequence[float]) -> Literal["linear", "log"]:
    """Choose the axis that tells more bars apart; the linear one if both do the same.

    Args:
        lengths: the lengths of the bars.

    Returns:
        The name of the scale.
    """
    there = [length for length in lengths if length > 0]
    if not there:
        return "linear"
    low, high = min(there) / 10, max(there)
    linear = {round(_BINS * length / high) for length in there}
    logarithmic = {round(_BINS * log(length / low) / log(high / low)) for length in there}
    return "linear" if len(linear) >= len(logarithmic) else "log"


def figure(difference: Difference) -> Figure:
    """Make the plot that :func:`draw` writes, without a window.

    Args:
        difference: what to draw.

    Returns:
        The figure: a bar for each layer, as long as the largest relative change in it.
    """
    from matplotlib.figure import Figure

    rows = rows_of(difference)
    drawn = Figure(figsize=(9, _FRAME + _BAR * max(1, len(rows))), layout="constrained")
    axes = drawn.add_subplot()
    scale = scale_of([row.largest for row in rows])
    longest = max((row.largest for row in rows), default=0.0) or 1.0
    if scale == "log":
        axes.set_xlim(min(row.largest for row in rows if row.largest) / 10, 2 * longest)
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, 1.05 * longest)
    for at, row in enumerate(rows):
        _draw_row(axes, at, row)
    labels = [row.label for row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=7, parse_math=False)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if row.changes else "bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(
        "largest change of any element in units of the tensor's largest magnitude "
        f"({'linear' if scale == 'linear' else 'logarithmic'} axis)\n"
        "(tick: largest mean change; grey: the same after the cast, or within the tolerance)",
        fontsize=8,
    )
    axes.set_title(title_of(difference), fontsize=9, loc="left", parse_math=False)
    return drawn


def _draw_row(axes: Axes, at: int, row: Row) -> None:
    if not row.changes:
        axes.axhspan(at - 0.5, at + 0.5, color="#000000", alpha=0.05, linewidth=0)
    else:
        axes.barh(at, row.largest, color=_CHANGED if row.differs else _SAME)
    if row.mean:
        axes.plot(row.mean, at, marker="|", color=_MEAN)
    place = ("axes fraction", "data")
    axes.annotate(f" {row.note}", (1, at), xycoords=place, va="center", size=7)


def title_of(difference: Difference) -> str:
    """Say which files were compared, and what the totals are.

    Args:
        difference: the comparison.

    Returns:
        Three lines. Of files with the same name it has the paths.
    """
    a, b = difference.a, difference.b
    names = [str(a), str(b)] if a.name == b.name else [a.name, b.name]
    shown = [one_line(name) for name in names]
    one, other = (f"…{name[-_LONG:]}" if len(name) > _LONG else name for name in shown)
    changes = difference.tensors
    different = sum(change.outcome not in SAME for change in changes)
    largest = max((change.relative or 0.0 for change in changes), default=0.0)
    totals = f"{different} of {len(changes)} tensors differ"
    totals += f", by up to {largest:.1e} of scale" if different and largest else ""
    totals += f"; {len(difference.only_a)} only in A" if difference.only_a else ""
    totals += f"; {len(difference.only_b)} only in B" if difference.only_b else ""
    return f"A: {one}\nB: {other}\n{totals}"
