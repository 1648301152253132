"""Input, masks of both sides and their difference, side by side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFilter

from ...markup.elements import Markup, element
from ...markup.pictures import panel
from ...prediction.draw import Colour, Mask, Pixels, drawing, with_mask
from ...prediction.prompts import Box, Point, Prompted
from ...report import counted
from ..findings import View

SIDE = 480  # length of the longer side of a panel, in pixels
LOUD: Colour = (255, 0, 190)  # for pixels that differ, on a grey picture
_GREYS = 32  # shades of the dimmed picture under the pixels that differ
_SHOWN = 4  # views that are not folded up


def views(shown: tuple[View, ...], left: str, right: str) -> Iterator[Markup]:
    """One row of pictures for each view.

    Args:
        shown: The views.
        left: Name of the left side.
        right: Name of the right side.

    Yields:
        HTML; all but the first views are folded up together.
    """
    rows = [_row(view, left, right) for view in shown]
    yield from rows[:_SHOWN]
    if rows[_SHOWN:]:
        differing = sum(bool((view.left != view.right).any()) for view in shown[_SHOWN:])
        summary = f"{len(rows) - _SHOWN} more; pixels differ in {differing} of them"
        yield element("details", element("summary", summary), *rows[_SHOWN:])


def _row(view: View, left: str, right: str) -> Markup:
    pixels, one, other, differing = _fitted(view)
    asked = drawing(pixels, {"": np.zeros_like(one)}, {"": _scaled(view, pixels)})
    count, total = int((view.left != view.right).sum()), view.left.size
    note = f"{count:,} of {counted(total, 'pixel')} differ" if count else "no pixel differs"
    panels = (
        (asked, view.title or "input"),
        (with_mask(pixels, one), f"left: {left}"),
        (with_mask(pixels, other), f"right: {right}"),
        (_difference(pixels, differing), note),
    )
    return element(
        "div",
        *(
            panel(picture, caption, loud=bool(count) and at == 3)
            for at, (picture, caption) in enumerate(panels)
        ),
        cls="panels",
    )


def _fitted(view: View) -> tuple[Pixels, Mask, Mask, Mask]:
    """Picture, both masks and the pixels that differ, with ``SIDE`` as the longer side.

    Small pictures are enlarged by a whole number. No pixel that differs gets lost: in a smaller
    panel, each is there.
    """
    height, width = view.left.shape
    longest = max(height, width)
    factor = SIDE // longest or SIDE / longest
    size = max(1, round(width * factor)), max(1, round(height * factor))
    how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    pixels = np.asarray(Image.fromarray(view.picture).resize(size, how))
    unlike = view.left != view.right
    one, other, differing = (
        np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
        for mask in (view.left, view.right, unlike)
    )
    down, across = np.nonzero(unlike)
    # Resizing may have skipped some of the pixels that differ.
    differing[down * size[1] // height, across * size[0] // width] = True
    return pixels, one, other, differing


def _scaled(view: View, pixels: Pixels) -> Prompted:
    """The prompts, in pixels of the panel."""
    if view.prompts is None:
        return Prompted()
    y, x = (new / old for new, old in zip(pixels.shape, view.left.shape, strict=False))
    points = [Point(point.x * x, point.y * y, point.label) for point in view.prompts.points]
    box = view.prompts.box
    return Prompted(points, box and Box(box.x0 * x, box.y0 * y, box.x1 * x, box.y1 * y))


def _difference(pixels: Pixels, differing: Mask) -> Image.Image:
    """Pixels that differ, a little larger than they are, over the dimmed picture."""
    grey = np.asarray(Image.fromarray(pixels).convert("L")) // (256 // _GREYS)
    marked = Image.fromarray(differing.astype(np.uint8)).filter(ImageFilter.MaxFilter(3))
    indices = np.where(np.asarray(marked) > 0, np.uint8(_GREYS), grey)
    picture = Image.fromarray(indices)
    shades = [shade for step in range(_GREYS) for shade in 3 * [24 + 80 * step // _GREYS]]
    picture.putpalette([*shades, *LOUD])
    return picture
