"""Charts as SVG within the page; what they say is told in words too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...markup.elements import Markup, element

_WIDE, _HIGH = 1000, 100  # of the coordinates; a browser stretches them to the width that is there
_MOST = 500  # points of a line, which no screen shows more of


def lines(series: Sequence[Sequence[float]], said: str, at: float | None = None) -> Markup:
    """Values from 0 to 100 from left to right.

    Args:
        series: The values of each line.
        said: What the chart shows, in words.
        at: Where a frame is marked, from 0 to 1; None to mark none.

    Returns:
        A ``div`` element. Of a long line the lowest values are shown.
    """
    parts = []
    if at is not None:
        x = f"{at * _WIDE:.1f}"
        parts.append(element("path", d=f"M{x} 0V{_HIGH}", cls="mark"))
    for number, values in enumerate(series):
        thin = _thinned(values)
        step = _WIDE / max(1, len(thin) - 1)
        points = [f"{at * step:.1f} {_HIGH - value:.1f}" for at, value in enumerate(thin)]
        points += [f"{_WIDE} {_HIGH - thin[0]:.1f}"] if len(thin) == 1 else []
        parts.append(element("path", d="M" + "L".join(points), cls=("first", "second")[number]))
    return _plot(parts, said, "100", "0")


def steps(values: Sequence[float], said: str) -> Markup:
    """Values next to each other, each as a bar from 0.

    Args:
        values: The values.
        said: What the chart shows, in words.

    Returns:
        A ``div`` element whose scale reaches as far as the values do.
    """
    high, low = max(0.0, *values), min(0.0, *values)
    unit = _HIGH / ((high - low) or 1)
    zero, wide = high * unit, _WIDE / len(values)
    parts = [
        element("path", d=_bars(values, zero, unit, wide, sign), cls=cls)
        for sign, cls in ((1, "up"), (-1, "down"))
    ]
    parts.append(element("path", d=f"M0 {zero:.2f}H{_WIDE}", cls="zero"))
    sign = "+" if low < 0 else ""
    return _plot(parts, said, f"{high:{sign}.1f}", f"{low:{sign}.1f}" if low else "0")


def _bars(values: Sequence[float], zero: float, unit: float, wide: float, sign: int) -> str:
    """The outline of all bars on one side of 0."""
    path = [f"M0 {zero:.2f}"]
    for at, value in enumerate(values):
        top = zero - value * unit if value * sign > 0 else zero
        path.append(f"V{top:.2f}H{(at + 1) * wide:.2f}")
    return "".join([*path, f"V{zero:.2f}Z"])


def _thinned(values: Sequence[float]) -> Sequence[float]:
    """At most so many values: of those next to each other, the lowest."""
    every = -(-len(values) // _MOST)
    return [min(values[at : at + every]) for at in range(0, len(values), every)]


def _plot(parts: Iterable[Markup], said: str, top: str, bottom: str) -> Markup:
    chart = element(
        "svg",
        *parts,
        viewBox=f"0 0 {_WIDE} {_HIGH}",
        preserveAspectRatio="none",
        role="img",
        aria_label=said,
    )
    scale = element("span", element("span", top), element("span", bottom), cls="scale")
    return element("div", scale, chart, cls="plot")
