"""All activations at a glance, in the order of computation, and their numbers as a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import inf, isfinite

from ...markup.elements import Markup, element, joined
from ...report import counted, share
from ..findings import ActivationResult, ParityResult, ScenarioResult, short
from ..names import OF_TRAINING, ORDER, kind
from .numbers import percent, ratio

_FRAME = re.compile(r"frame(\d+)\.")
_MOST = 24  # squares in a cell: a gradient is one of many of its part of the model
_ULP = 2.0**-23  # the last place of float32: the unit of colours beyond a tolerance of 0

# Class of a cell, and the largest difference it stands for, in units of the tolerance.
_WITHIN = (("in1", 0.01), ("in2", 0.1), ("in3", 1.0))
_BEYOND = (("out1", 10.0), ("out2", 1000.0), ("out3", float("inf")))
_LEGEND = {
    "zero": "exactly 0",
    "in1": "up to 1 % of the tolerance",
    "in2": "up to 10 %",
    "in3": "up to 100 %",
    "out1": "up to 10 times the tolerance",
    "out2": "up to 1000 times",
    "out3": "more, or not finite",
}
_LEGEND_EXACT = {
    "zero": "exactly 0, as required",
    "out1": f"up to {short(10 * _ULP)} of the scale",
    "out2": f"up to {short(1000 * _ULP)}",
    "out3": "more, or not finite",
}


def band(activation: ActivationResult) -> str:
    """The CSS class of an activation's cell, by its difference in units of the tolerance.

    Args:
        activation: The result of the activation.

    Returns:
        ``zero``, ``in1`` to ``in3`` within tolerance, or ``out1`` to ``out3`` beyond.
    """
    if activation.relative == 0:
        return "zero"
    if not isfinite(activation.relative):
        return "out3"
    times = _times(activation)
    bands = _WITHIN if activation.within else _BEYOND
    return next(name for name, most in bands if times <= most)


def heatmap(report: ParityResult) -> Markup:
    """A coloured cell for every activation.

    Args:
        report: The results.

    Returns:
        A table with a row for each scenario, or for each frame of a video, and a column for each
        kind of activation, with a legend. Where there are many of a kind, some are left out: those
        nearer to a yes than their neighbours.
    """
    kinds = {kind(one.name) for found in report.scenarios for one in found.activations}
    columns = [name for name in (*ORDER, *OF_TRAINING) if name in kinds]
    columns += sorted(kinds - set(columns))
    starts = [_group(name) != _group(before) for before, name in pairwise(["", *columns])]
    heads = (
        element("th", element("span", name), cls="start" if start else "", scope="col")
        for name, start in zip(columns, starts, strict=True)
    )
    bodies = (
        element("tbody", *_rows(at, found, columns, starts))
        for at, found in enumerate(report.scenarios)
    )
    table = element(
        "table",
        element("thead", element("tr", element("td"), *heads)),
        *bodies,
        cls="heat",
    )
    return element("figure", table, _legend(report))


def activation_table(activations: Iterable[ActivationResult], noun: str = "activation") -> Markup:
    """The numbers of every activation of a scenario, folded up.

    Args:
        activations: Results in the order of computation.
        noun: What they are, in the singular.

    Returns:
        A ``details`` element with a table.
    """
    activations = tuple(activations)
    columns = (
        noun,
        "difference",
        "× tolerance",
        "tolerance",
        "noise",
        "absolute difference",
        "1 − cosine",
    )
    of_masks = ("IoU", "pixels") if any(one.iou is not None for one in activations) else ()
    head = element("tr", *(element("th", name, scope="col") for name in columns + of_masks))
    rows = []
    for activation in activations:
        cosine = activation.cosine
        numbers = [
            short(activation.relative),
            ratio(activation),
            short(activation.tolerance),
            short(activation.noise),
            short(activation.max_abs),
            short(max(0.0, 1 - cosine) if isfinite(cosine) else cosine),
        ]
        if of_masks:
            numbers += [share(activation.iou), percent(activation.differing)]
        swatch = element("i", cls=band(activation))
        rows.append(
            element(
                "tr",
                element("th", swatch, element("code", activation.name), scope="row"),
                *(element("td", text) for text in numbers),
                cls="" if activation.within else "out",
            )
        )
    table = element("table", element("thead", head), element("tbody", *rows), cls="activations")
    summary = element("summary", f"Numbers of {counted(len(activations), noun)}")
    return element("details", summary, element("div", table, cls="scroll"))


def _rows(
    at: int, found: ScenarioResult, columns: list[str], starts: list[bool]
) -> Iterable[Markup]:
    link = element("a", found.title, href=f"#s{at}")
    if not found.activations:
        note = element("td", f"{found.status}: {found.why}", cls="none", colspan=str(len(columns)))
        yield element("tr", element("th", link, scope="row"), note)
        return
    frames: dict[str, dict[str, list[ActivationResult]]] = {}
    for activation in found.activations:
        match = _FRAME.match(activation.name)
        frame = frames.setdefault(match[1] if match else "", {})
        frame.setdefault(kind(activation.name), []).append(activation)
    for at_frame, (frame_number, activations) in enumerate(frames.items()):
        head = joined(link if at_frame == 0 else "", element("b", frame_number))
        cells = (
            element(
                "td",
                element(
                    "div", *(_cell(one, found) for one in _told(activations.get(column, ()), found))
                ),
                cls="start" if start else "",
            )
            for column, start in zip(columns, starts, strict=True)
        )
        yield element("tr", element("th", head, scope="row"), *cells)


def _told(
    activations: Sequence[ActivationResult], found: ScenarioResult
) -> Iterable[ActivationResult]:
    """At most ``_MOST`` results: of some that follow each other, the furthest from a yes."""
    step = -(-len(activations) // _MOST) or 1
    for start in range(0, len(activations), step):
        yield max(
            activations[start : start + step],
            key=lambda one: (one.name == found.first_mismatch, _times(one)),
        )


def _times(activation: ActivationResult) -> float:
    """The difference in units of the tolerance; one that is not a number is the largest."""
    times = activation.relative / (activation.tolerance or _ULP)
    return times if times == times else inf


def _cell(activation: ActivationResult, found: ScenarioResult) -> Markup:
    tolerance = f"tolerance {short(activation.tolerance)}"
    times = ratio(activation)
    lines = [activation.name, f"difference {short(activation.relative)}, {tolerance}"]
    lines += [f"{times} of the tolerance"] if times else []
    lines += [f"IoU {share(activation.iou)}"] if activation.iou is not None else []
    return element(
        "i",
        cls=band(activation) + (" first" if activation.name == found.first_mismatch else ""),
        title="\n".join(lines),
    )


def _legend(report: ParityResult) -> Markup:
    entries = _LEGEND_EXACT if report.exact else _LEGEND
    keys = [element("span", element("i", cls=cls), text) for cls, text in entries.items()]
    if any(found.first_mismatch for found in report.scenarios):
        keys.append(element("span", element("i", cls="first"), "the first out of tolerance"))
    return element("figcaption", *keys, cls="legend")


def _group(column: str) -> str:
    return column.partition(".")[0]
