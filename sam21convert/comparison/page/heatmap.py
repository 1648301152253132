"""All taps at a glance, in the order of the data flow, and their numbers as a table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from math import isfinite

from ..activations import ORDER, kind
from ..findings import ScenarioFinding, TapFinding
from ..report import ParityReport, short
from .markup import Markup, counted, element, joined, percent, ratio, share

_FRAME = re.compile(r"frame(\d+)\.")
_ULP = 2.0**-23  # the last place of float32: the unit of what is beyond a tolerance of 0

# Class of a cell, and the largest difference it stands for, in units of the tolerance.
_WITHIN = (("in1", 0.01), ("in2", 0.1), ("in3", 1.0))
_BEYOND = (("out1", 10.0), ("out2", 1000.0), ("out3", float("inf")))
_LEGEND = {
    "zero": "exactly 0",
    "in1": "to 1 % of what is allowed",
    "in2": "to 10 %",
    "in3": "to all of it",
    "out1": "to 10 times what is allowed",
    "out2": "to 1000 times",
    "out3": "more, or not finite",
}
_LEGEND_EXACT = {
    "zero": "exactly 0, which is asked for",
    "out1": f"to {short(10 * _ULP)} of the scale",
    "out2": f"to {short(1000 * _ULP)}",
    "out3": "more, or not finite",
}


def band(tap: TapFinding) -> str:
    """The class of a tap's cell, by its difference in units of the tolerance."""
    if tap.relative == 0:
        return "zero"
    if not isfinite(tap.relative):
        return "out3"
    times = tap.relative / (tap.tolerance or _ULP)
    bands = _WITHIN if tap.within else _BEYOND
    return next(name for name, most in bands if times <= most)


def heat(report: ParityReport) -> Markup:
    """A row for each scenario, for each frame of a video; a column for each kind of tap."""
    met = {kind(tap.name) for found in report.scenarios for tap in found.taps}
    columns = [name for name in ORDER if name in met]
    columns += sorted(met - set(columns))
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


def tap_table(taps: Iterable[TapFinding]) -> Markup:
    """The numbers of every tap."""
    taps = tuple(taps)
    columns = ("tap", "difference", "× allowed", "allowed", "noise", "absolute", "1 − cosine")
    of_masks = ("IoU", "pixels") if any(tap.iou is not None for tap in taps) else ()
    head = element("tr", *(element("th", name, scope="col") for name in columns + of_masks))
    rows = []
    for tap in taps:
        numbers = [
            short(tap.relative),
            ratio(tap),
            short(tap.tolerance),
            short(tap.noise),
            short(tap.max_abs),
            short(max(0.0, 1 - tap.cosine) if isfinite(tap.cosine) else tap.cosine),
        ]
        if of_masks:
            numbers += [share(tap.iou), percent(tap.differing)]
        swatch = element("i", cls=band(tap))
        rows.append(
            element(
                "tr",
                element("th", swatch, element("code", tap.name), scope="row"),
                *(element("td", text) for text in numbers),
                cls="" if tap.within else "out",
            )
        )
    table = element("table", element("thead", head), element("tbody", *rows), cls="taps")
    summary = element("summary", f"Numbers of {counted(len(taps), 'tap')}")
    return element("details", summary, element("div", table, cls="scroll"))


def _rows(
    at: int, found: ScenarioFinding, columns: list[str], starts: list[bool]
) -> Iterable[Markup]:
    link = element("a", found.title, href=f"#s{at}")
    if not found.taps:
        note = element("td", f"{found.outcome}: {found.why}", cls="none", colspan=str(len(columns)))
        yield element("tr", element("th", link, scope="row"), note)
        return
    frames: dict[str, dict[str, list[TapFinding]]] = {}
    for tap in found.taps:
        match = _FRAME.match(tap.name)
        frame = frames.setdefault(match[1] if match else "", {})
        frame.setdefault(kind(tap.name), []).append(tap)
    for at_frame, (frame_number, taps) in enumerate(frames.items()):
        head = joined(link if at_frame == 0 else "", element("b", frame_number))
        cells = (
            element(
                "td",
                element("div", *(_cell(tap, found.first) for tap in taps.get(column, ()))),
                cls="start" if start else "",
            )
            for column, start in zip(columns, starts, strict=True)
        )
        yield element("tr", element("th", head, scope="row"), *cells)


def _cell(tap: TapFinding, first: str | None) -> Markup:
    allowed = f"{short(tap.tolerance)} allowed"
    times = ratio(tap)
    lines = [tap.name, f"difference {short(tap.relative)}, {allowed}"]
    lines += [f"{times} of what is allowed"] if times else []
    lines += [f"IoU {share(tap.iou)}"] if tap.iou is not None else []
    return element(
        "i", cls=band(tap) + (" first" if tap.name == first else ""), title="\n".join(lines)
    )


def _legend(report: ParityReport) -> Markup:
    entries = _LEGEND_EXACT if report.exact else _LEGEND
    keys = [element("span", element("i", cls=cls), text) for cls, text in entries.items()]
    if any(found.first for found in report.scenarios):
        keys.append(element("span", element("i", cls="first"), "the first one beyond"))
    return element("figcaption", *keys, cls="legend")


def _group(column: str) -> str:
    return column.partition(".")[0]
