"""Draw pictures: a scene to try a model on, and masks and prompts over an image."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from itertools import chain, cycle
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .prompts import Prompted

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Colour = tuple[int, int, int]

# Colours of objects, in turn; colour-blind people can tell them apart too (after Okabe and Ito).
COLOURS: tuple[Colour, ...] = (
    (30, 144, 255),
    (255, 140, 0),
    (0, 190, 120),
    (230, 70, 180),
    (240, 220, 50),
    (90, 220, 240),
    (215, 60, 20),
    (130, 80, 220),
)
_ON, _OFF = (40, 180, 60), (220, 40, 40)  # points on the object and outside it
_WHITE = (255, 255, 255)
_TINT = 0.5  # share of the colour in the masked part


def scene(side: int) -> Pixels:
    """Draw a scene: hills, a sky with a sun, and a house.

    Args:
        side: Width and height in pixels.

    Returns:
        The picture, ``side x side x 3``; equal sides give equal pictures.
    """
    y, x = np.mgrid[:side, :side].astype(np.float64) / side
    picture = np.stack([0.55 + 0.3 * y, 0.72 + 0.15 * y, 0.95 - 0.1 * y], axis=-1)
    for base, height, colour in ((0.62, 0.08, (0.45, 0.6, 0.4)), (0.75, 0.05, (0.3, 0.45, 0.25))):
        picture[y > base + height * np.sin(9 * x + 20 * base)] = colour
    picture[(x - 0.78) ** 2 + (y - 0.2) ** 2 < 0.008] = (1.0, 0.85, 0.3)
    picture[(abs(x - 0.35) < 0.12) & (abs(y - 0.62) < 0.1)] = (0.75, 0.3, 0.25)
    picture[(abs(x - 0.35) < 0.14 * (y - 0.4) / 0.12) & (y > 0.4) & (y < 0.52)] = (0.4, 0.2, 0.2)
    picture[(abs(x - 0.38) < 0.03) & (y > 0.6) & (y < 0.72)] = (0.3, 0.15, 0.1)
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


def with_mask(pixels: Pixels, mask: Mask, colour: Colour = COLOURS[0]) -> Image.Image:
    """Tint and outline the masked part of an image.

    Args:
        pixels: The image, ``H x W x 3``; it is not changed.
        mask: ``H x W``, true on the object.
        colour: Of tint and outline, as RGB.

    Returns:
        A new picture of the same size.
    """
    drawn = pixels.copy()
    _tint(drawn, mask, colour)
    return Image.fromarray(drawn)


def drawing(
    pixels: Pixels, masks: Mapping[str, Mask], prompts: Mapping[str, Prompted]
) -> Image.Image:
    """Draw the masks of objects, each in its own colour, and their prompts over an image.

    Args:
        pixels: The image, ``H x W x 3``; it is not changed.
        masks: Name of an object to its mask, ``H x W``.
        prompts: Name of an object to its prompts; each name must be in ``masks``. With several
            masks the prompts are labelled with these names.

    Returns:
        A new picture of the same size.
    """
    colours = dict(zip(masks, cycle(COLOURS), strict=False))
    picture = drawing_of(pixels, masks.values())
    for obj_id, prompted in prompts.items():
        if prompted.corners is not None:
            _mark_box(picture, prompted.corners, colours[obj_id])
        for point in prompted.points:
            _mark_point(picture, point.x, point.y, point.label, colours[obj_id])
        if len(masks) > 1:
            _name(picture, obj_id, prompted, colours[obj_id])
    return picture


def drawing_of(pixels: Pixels, masks: Iterable[Mask]) -> Image.Image:
    """Draw masks over an image, each over those before it.

    Args:
        pixels: The image, ``H x W x 3``; it is not changed.
        masks: ``H x W`` each, taken one by one, so that not all of them need be in memory.

    Returns:
        A new picture of the same size.
    """
    drawn = pixels.copy()
    for mask, colour in zip(masks, cycle(COLOURS), strict=False):
        _tint(drawn, mask, colour)
    return Image.fromarray(drawn)


def black_and_white(mask: Mask) -> Image.Image:
    """Turn a mask into a picture.

    Args:
        mask: ``H x W``, true on the object.

    Returns:
        A grey picture of 0 and 255 (the object).
    """
    return Image.fromarray(mask.astype(np.uint8) * 255)


def as_html(picture: Image.Image, side: int = 800) -> str:
    """Put a picture into a page, for notebooks.

    Args:
        picture: The picture; it is not changed.
        side: The longest side that is shown, in pixels; a larger picture is made smaller.

    Returns:
        HTML that needs no other file.
    """
    small, data = picture.convert("RGB"), BytesIO()
    small.thumbnail((side, side))
    small.save(data, "JPEG", quality=90, subsampling=0)  # outlines are thin
    return f'<img src="data:image/jpeg;base64,{b64encode(data.getvalue()).decode()}">'


def _tint(drawn: Pixels, mask: Mask, colour: Colour) -> None:
    """Tint and outline the masked part, by a table for each of its three colours."""
    values = np.arange(256, dtype=np.uint8)
    for channel, part in enumerate(colour):
        table = ((1 - _TINT) * values + _TINT * part).astype(np.uint8)
        plane = drawn[..., channel]
        np.copyto(plane, table[plane], where=mask)
    drawn[_outline(mask, max(1, round(max(mask.shape) / 400)))] = colour


def _mark_point(
    picture: Image.Image, x: float, y: float, label: int = 1, colour: Colour = COLOURS[0]
) -> Image.Image:
    """Draw a clicked point: a green plus on the object, a red minus (``label`` 0) outside it."""
    draw, unit = ImageDraw.Draw(picture), _unit(picture)
    for radius, fill in ((7, colour), (6, _WHITE), (5, _ON if label else _OFF)):
        reach = radius * unit
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)
    arm = 3 * unit
    draw.line((x - arm, y, x + arm, y), fill=_WHITE, width=unit)
    if label:
        draw.line((x, y - arm, x, y + arm), fill=_WHITE, width=unit)
    return picture


def _mark_box(
    picture: Image.Image, box: tuple[float, float, float, float], colour: Colour = COLOURS[0]
) -> Image.Image:
    """Draw a box given by its corners ``x0, y0, x1, y1``, between white lines."""
    draw, unit = ImageDraw.Draw(picture), _unit(picture)
    draw.rectangle(box, outline=_WHITE, width=3 * unit)
    x0, y0, x1, y1 = box
    if min(x1 - x0, y1 - y0) > 2 * unit:
        draw.rectangle((x0 + unit, y0 + unit, x1 - unit, y1 - unit), outline=colour, width=unit)
    return picture


def strip(panels: Sequence[tuple[str, Image.Image]], side: int = 384) -> Image.Image:
    """Draw square panels next to each other, each under its title.

    Args:
        panels: Titles and pictures of any size, from left to right.
        side: Width and height that each picture is resized to, in pixels.

    Returns:
        One picture of all panels.
    """
    titles = [title for title, _ in panels]
    return sheet(titles, (panel.resize((side, side)) for _, panel in panels), len(panels))


def sheet(titles: Sequence[str], pictures: Iterable[Image.Image], columns: int) -> Image.Image:
    """Draw pictures in rows, each under its title.

    Args:
        titles: The titles, row by row.
        pictures: A picture for each title, all of one size. They are taken one by one, so that not
            all of them need be in memory.
        columns: Number of pictures in a row.

    Returns:
        One picture of all of them.
    """
    waiting = iter(pictures)
    first = next(waiting)
    width, height = first.size
    text = max(11, round(width / 24))
    font = ImageFont.load_default(text)
    margin, head = text, 2 * text
    step = margin + max(width, *(ceil(font.getlength(title)) for title in titles))
    rows = -(-len(titles) // columns)
    size = (margin + columns * step, rows * (head + height) + margin)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for number, (title, panel) in enumerate(zip(titles, chain([first], waiting), strict=True)):
        row, column = divmod(number, columns)
        left, top = margin + column * step, head + row * (head + height)
        draw.text((left, top - head / 2), title, fill="black", font=font, anchor="lm")
        picture.paste(panel, (left, top))
    return picture


def _outline(mask: Mask, width: int) -> Mask:
    """The pixels of a mask that are at most ``width`` away from its border."""
    around = np.pad(mask, width)
    middle = slice(width, -width)
    inner = around[: -2 * width, middle] & around[2 * width :, middle]
    inner &= around[middle, : -2 * width] & around[middle, 2 * width :]
    return mask & ~inner


def _name(picture: Image.Image, text: str, prompted: Prompted, colour: Colour) -> None:
    """Write a name above the box, or the first point without one, inside the picture."""
    draw, unit = ImageDraw.Draw(picture), _unit(picture)
    font, pad = ImageFont.load_default(max(10, 8 * unit)), 2 * unit
    width, height = (side + 2 * pad for side in draw.textbbox((0, 0), text, font, "lt")[2:])
    if prompted.box is not None:
        x, y = prompted.box.x0, prompted.box.y0
    else:
        x, y = prompted.points[0].x - 7 * unit, prompted.points[0].y - 8 * unit
    x, y = max(0, min(x, picture.width - width)), max(0, y - height)
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    ink = _WHITE if np.dot(colour, (0.3, 0.59, 0.11)) < 150 else "black"
    draw.text((x + pad, y + pad), text, fill=ink, font=font, anchor="lt")


def _unit(picture: Image.Image) -> int:
    """The width of a line: visible on small pictures, modest on large ones."""
    return max(1, round(sqrt(picture.width * picture.height) / 250))
