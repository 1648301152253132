"""The picture in a card: masks that the published model finds in a photo, or in a drawn scene.

Of a photo, pixels are published and nothing else: no metadata, not its name, at most 1024 pixels a
side. The masks are those of what is published, so that the programs in the card give the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from ...errors import UsageError
from ...io.nearby import expanded
from ...io.output.temporary import temporary_folder
from ...prediction.draw import scene
from ...prediction.image import objects_of, predict_image
from ...prediction.media import read_picture
from ...prediction.memory import PeakMemory
from ...prediction.prompts import HOW_TO_PROMPT, Point, Prompt, Prompted, check_inside
from .card import EXAMPLE, PHOTO, Picture

_LARGEST = 1024  # pixels of the longer side of a photo
_QUALITY = 90
_WIDEST = 1600  # pixels of the longer side of the drawing
_SIDE = 384  # of the drawn scene, in pixels
_POINT = (0.35, 0.62)  # as shares of its side: on the wall of the house


@dataclass(frozen=True)
class Example:
    """A picture, and prompts in pixels of it.

    Attributes:
        picture: The picture.
        prompts: The prompts.
        photo: Whether it is the user's, which is published beside the drawing.
    """

    picture: Image.Image
    prompts: Sequence[Prompt]
    photo: bool

    @property
    def objects(self) -> Mapping[str, Prompted]:
        """The prompts of each object, by its name."""
        return objects_of(self.prompts, None)


def drawn_scene() -> Example:
    """Draw a scene.

    Returns:
        A picture of a house, with a point on its wall.
    """
    point = Point(_SIDE * _POINT[0], _SIDE * _POINT[1])
    return Example(Image.fromarray(scene(_SIDE)), [point], photo=False)


def read_example(photo: str | Path, prompts: Sequence[Prompt]) -> Example:
    """Read a photo, made smaller if it is large.

    Args:
        photo: A picture, as for :func:`~sam21convert.predict_image`.
        prompts: Points and boxes in pixels of it; they become those of the smaller picture.

    Returns:
        The picture, upright, and its prompts.

    Raises:
        UsageError: If there is no prompt, or the prompts do not fit the picture.
        UnreadableError: If the picture is missing or damaged.
        RefusedError: If it is in another format, or too large.
    """
    if not prompts:
        raise UsageError(f"{photo}: expected a point or a box in it", hint=HOW_TO_PROMPT)
    objects_of(prompts, None)
    picture = Image.fromarray(read_picture(expanded(Path(photo))))
    width, height = picture.size
    check_inside(prompts, width, height)
    share = min(1, _LARGEST / max(width, height))
    if share == 1:
        return Example(picture, prompts, photo=True)
    size = (max(1, round(width * share)), max(1, round(height * share)))
    across, down = size[0] / width, size[1] / height
    smaller = [_scaled(prompt, across, down) for prompt in prompts]
    return Example(picture.resize(size, Image.Resampling.LANCZOS), smaller, photo=True)


def draw(example: Example, checkpoint: Path, config: Path | None, folder: Path) -> Picture:
    """Draw the masks that a model finds in a picture.

    Args:
        example: The picture and its prompts.
        checkpoint: The model.
        config: Its config; None if it has its own.
        folder: Gets the drawing, and the photo if it is one.

    Returns:
        What a card says of it.
    """
    with temporary_folder() as scratch:
        # The drawing alone goes to the folder: predict_image writes masks beside it.
        drawn = scratch / EXAMPLE
        shown = folder / PHOTO if example.photo else scratch / "scene.png"
        # Only pixels are written. JPEG changes them a little, so the masks are those of the file.
        example.picture.save(shown, quality=_QUALITY)
        # On the CPU, so that the same model has the same picture wherever it is published from.
        with PeakMemory() as memory:
            found = predict_image(
                shown, checkpoint, drawn, example.prompts, config=config, device="cpu"
            )
        with Image.open(drawn) as picture:
            picture.thumbnail((_WIDEST, _WIDEST), Image.Resampling.LANCZOS)
            picture.save(folder / EXAMPLE)
    ious = tuple(mask.iou for mask in found.details)
    return Picture(example.objects, ious, example.photo, memory.peak)


def _scaled(prompt: Prompt, across: float, down: float) -> Prompt:
    """A prompt for a smaller picture, in tenths of its pixels, which stay inside."""

    def scaled(value: float, share: float) -> float:
        return math.floor(value * share * 10) / 10

    if isinstance(prompt, Point):
        return replace(prompt, x=scaled(prompt.x, across), y=scaled(prompt.y, down))
    return replace(
        prompt,
        x0=scaled(prompt.x0, across),
        y0=scaled(prompt.y0, down),
        x1=scaled(prompt.x1, across),
        y1=scaled(prompt.y1, down),
    )
