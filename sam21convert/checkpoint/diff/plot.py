"""A plot of what changed: a bar for each layer, in the order of the data flow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UsageError
from ...io.output.atomic import new_file, refuse_existing
from ...packages import require
from .modules import layer_of, rank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .report import Difference, TensorChange

_CHANGED, _SAME, _MEAN = "#d55e00", "#999999", "#000000"
_BAR, _FRAME = 0.17, 1.6  # inches: height of a bar, and of everything around the bars


def prepare(path: Path, *, overwrite: bool) -> None:
    """Check that a plot can be drawn, before the checkpoints are read.

    Args:
        path: the PNG file to write.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: when the name does not end in .png, or the file exists.
        MissingPackageError: when matplotlib is not installed.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: the picture is a PNG", hint="end the name in .png")
    refuse_existing(path, overwrite=overwrite)
    require("plot", "`plot`")


def draw(difference: Difference, path: Path, *, overwrite: bool) -> None:
    """Write the plot as a PNG.

    Args:
        difference: what to draw.
        path: the PNG file to write.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: when ``path`` exists and may not be replaced.
    """
    drawn = figure(difference)
    with new_file(path, overwrite=overwrite) as file:
        drawn.savefig(file, format="png", dpi=100)


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
    numbered = [(int(s) if s.isdecimal() else -1, s) for s in segments]
    return rank(module), "blocks" in segments, numbered


def figure(difference: Difference) -> Figure:
    """Make the plot that :func:`draw` writes, without a window or global settings of matplotlib.

    Args:
        difference: what to draw.

    Returns:
        The figure: a bar for each layer, as long as the largest relative change in it.
    """
    from matplotlib.figure import Figure

    found = layers(difference)
    drawn = Figure(figsize=(9, _FRAME + _BAR * len(found)), layout="constrained")
    axes = drawn.add_subplot()
    relative = [c.relative for c in difference.tensors if c.relative]
    axes.set_xlim(min(relative, default=1e-7) / 10, 2 * max(relative, default=1.0))
    axes.set_xscale("log")
    for row, changes in enumerate(found.values()):
        largest = max(change.relative or 0.0 for change in changes)
        mean = max(change.relative_mean or 0.0 for change in changes)
        differs = any(change.outcome in ("different", "misshapen") for change in changes)
        axes.barh(row, largest, color=_CHANGED if differs else _SAME)
        if mean:
            axes.plot(mean, row, marker="|", color=_MEAN)
        note = _note(changes)
        if not note and differs and not largest:
            note = " equal values, different bits"
        if note:
            axes.annotate(note, (1, row), xycoords=("axes fraction", "data"), va="center", size=7)
    axes.set_yticks(range(len(found)), list(found), fontsize=7)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(
        "largest change of any element in units of the tensor's largest magnitude\n"
        "(tick: largest mean change; grey: the same after the cast, or within the tolerance)"
    )
    axes.set_title(f"A: {difference.a.name}    B: {difference.b.name}", fontsize=9)
    return drawn


def _note(changes: list[TensorChange]) -> str:
    """Text beside a bar, for changes that a bar cannot show."""
    unmatched = sum(change.unmatched for change in changes)
    if any(change.outcome == "misshapen" for change in changes):
        return " shapes differ"
    return f" {unmatched} not finite on one side" if unmatched else ""
