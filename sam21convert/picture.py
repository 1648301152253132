"""Pictures: a scene to try a model on, and masks drawn over an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, by which the official code normalises RGB in [0, 1]
STD = (0.229, 0.224, 0.225)
_MASK_COLOUR = (30, 144, 255)
_PROMPT_COLOUR = (255, 60, 40)


def scene(side: int) -> Pixels:
    """A drawn scene, ``side`` x ``side`` x 3: hills, a sky with a sun, a house."""
    y, x = np.mgrid[:side, :side].astype(np.float64) / side
    picture = np.stack([0.55 + 0.3 * y, 0.72 + 0.15 * y, 0.95 - 0.1 * y], axis=-1)
    for base, height, colour in ((0.62, 0.08, (0.45, 0.6, 0.4)), (0.75, 0.05, (0.3, 0.45, 0.25))):
        picture[y > base + height * np.sin(9 * x + 20 * base)] = colour
    picture[(x - 0.78) ** 2 + (y - 0.2) ** 2 < 0.008] = (1.0, 0.85, 0.3)
    picture[(abs(x - 0.35) < 0.12) & (abs(y - 0.62) < 0.1)] = (0.75, 0.3, 0.25)
    picture[(abs(x - 0.35) < 0.14 * (y - 0.4) / 0.12) & (y > 0.4) & (y < 0.52)] = (0.4, 0.2, 0.2)
    picture[(abs(x - 0.38) < 0.03) & (y > 0.6) & (y < 0.72)] = (0.3, 0.15, 0.1)
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


def normalised(pixels: Pixels) -> NDArray[np.float32]:
    """``H x W x 3`` bytes as the model takes them: ``1 x 3 x H x W``, normalised."""
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    unit = (pixels.astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(unit.transpose(2, 0, 1)[None])


def with_mask(pixels: Pixels, mask: NDArray[np.bool_]) -> Image.Image:
    """The image with the masked part tinted."""
    tinted = pixels.astype(np.float32)
    tinted[mask] = 0.45 * tinted[mask] + 0.55 * np.array(_MASK_COLOUR, np.float32)
    return Image.fromarray(tinted.astype(np.uint8))


def strip(panels: Sequence[tuple[str, Image.Image]], side: int = 384) -> Image.Image:
    """The panels next to each other, each under its title."""
    margin, head = 12, 28
    width = margin + len(panels) * (side + margin)
    sheet = Image.new("RGB", (width, head + side + margin), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (title, panel) in enumerate(panels):
        left = margin + number * (side + margin)
        draw.text((left, 8), title, fill="black")
        sheet.paste(panel.resize((side, side), Image.Resampling.LANCZOS), (left, head))
    return sheet


def mark_point(picture: Image.Image, x: float, y: float) -> Image.Image:
    """Draw a clicked point."""
    radius = picture.width / 60
    box = (x - radius, y - radius, x + radius, y + radius)
    ImageDraw.Draw(picture).ellipse(box, fill=_PROMPT_COLOUR, outline="white", width=4)
    return picture


def mark_box(picture: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """Draw a box given by its corners ``x0, y0, x1, y1``."""
    ImageDraw.Draw(picture).rectangle(box, outline=_PROMPT_COLOUR, width=6)
    return picture
