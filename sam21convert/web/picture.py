"""A picture that a page has opened: what the checkpoints find in it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UsageError
from ..model.run_lengths import RunLengths, encode
from ..prediction.draw import Mask, Pixels
from ..prediction.image import answers
from ..prediction.media import read_picture
from ..prediction.prompts import Prompted, check_inside
from ..report import Progress
from .commands import repeat_everything, repeat_prompts
from .sides import Side

Answer = dict[str, Any]
_SHOWN_SIDE = 1600  # pixels of the longer side of what the page shows
_SIDES = (8, 16, 32, 64)  # points per side that may be asked for


class StoppedError(Exception):
    """Somebody asked to stop."""


def alike(one: Mask, other: Mask) -> float:
    """Compare two masks.

    Args:
        one: ``H x W``.
        other: ``H x W``.

    Returns:
        Their intersection over union; 1 for two empty masks.
    """
    union = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / union if union else 1.0


def as_jpeg(pixels: Pixels) -> bytes:
    """Make what the page shows of a picture or a frame.

    Args:
        pixels: ``H x W x 3`` bytes.

    Returns:
        A JPEG, made smaller if it is large.
    """
    picture, data = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    picture.save(data, "JPEG", quality=90, subsampling=0)
    return data.getvalue()


class Picture:
    """A picture, encoded by each checkpoint.

    Args:
        path: The file, which is not needed afterwards.
        sides: The checkpoints.
        most: Pixels that it may have.

    Attributes:
        name: Name of the file.
        pixels: ``H x W x 3`` bytes.
        found: The masks that each checkpoint found last, by their names.

    Raises:
        Sam21ConvertError: If it cannot be read, or is too large.
    """

    def __init__(self, path: Path, sides: Sequence[Side], most: int) -> None:
        self.name = path.name
        self.pixels = read_picture(path, most)
        self._sides, self._opened = sides, [side.for_a_picture() for side in sides]
        self.found: list[dict[str, RunLengths]] = [{} for _ in sides]
        for side, opened in zip(sides, self._opened, strict=True):
            with side.turn:
                opened.predictor.set_image(self.pixels)

    def facts(self) -> Answer:
        """Say what the page shows of it.

        Returns:
            What JSON can hold.
        """
        height, width = self.pixels.shape[:2]
        return {"kind": "picture", "name": self.name, "width": width, "height": height, "frames": 1}

    def jpeg(self) -> bytes:
        """Show the picture.

        Returns:
            A JPEG, made smaller if it is large.
        """
        return as_jpeg(self.pixels)

    def prompt(self, prompted: Prompted) -> Answer:
        """Segment an object.

        Args:
            prompted: Points and a box.

        Returns:
            For each checkpoint three candidates with the IoU that it expects, for two the IoU of
            their candidates, and the commands that repeat it.

        Raises:
            UsageError: If there is no prompt, or one is not inside the picture.
        """
        if not prompted.all:
            raise UsageError("no prompt: expected a point or a box")
        height, width = self.pixels.shape[:2]
        check_inside(prompted.all, width, height)
        found = []
        for side, opened in zip(self._sides, self._opened, strict=True):
            with side.turn:
                found.append([*answers(opened, prompted, candidates=True)])
        packed = [[encode(mask) for mask, _ in masks] for masks in found]
        self.found = [{str(at): one for at, one in enumerate(masks)} for masks in packed]
        return {
            "sides": [
                {"masks": masks, "ious": [iou for _, iou in one]}
                for masks, one in zip(packed, found, strict=True)
            ],
            "alike": [alike(one, other) for (one, _), (other, _) in zip(*found, strict=True)]
            if len(found) > 1
            else None,
            "commands": [repeat_prompts(side, self.name, prompted) for side in self._sides],
        }

    def everything(
        self, points_per_side: int, tell: Callable[[Answer], None], stopped: Callable[[], bool]
    ) -> Answer:
        """Find the masks of everything.

        Args:
            points_per_side: Points to ask per side.
            tell: Told how far it is.
            stopped: Whether somebody asked to stop.

        Returns:
            For each checkpoint its masks, the largest first, and the commands that repeat it.

        Raises:
            UsageError: If a checkpoint cannot do that, or not with so many points.
            StoppedError: If somebody did.
        """
        if points_per_side not in _SIDES:
            raise UsageError(f"points per side: expected one of {_SIDES}, found {points_per_side}")
        for side in self._sides:
            if not side.finds_everything:
                raise UsageError(
                    f"{side.name}: everything is found by torch alone, from any checkpoint",
                    hint="serve the checkpoint that it was exported from",
                )
        progress = _Telling(tell, stopped)
        found = [self._everything_of(side, points_per_side, progress) for side in self._sides]
        self.found = [
            {str(at): one["segmentation"] for at, one in enumerate(masks, 1)} for masks in found
        ]
        return {
            "sides": [
                {
                    "masks": [one["segmentation"] for one in masks],
                    "ious": [one["predicted_iou"] for one in masks],
                }
                for masks in found
            ],
            "commands": [
                repeat_everything(side, self.name, points_per_side) for side in self._sides
            ],
        }

    def _everything_of(self, side: Side, points: int, progress: _Telling) -> list[dict[str, Any]]:
        from ..model.automatic_mask_generator import SAM2AutomaticMaskGenerator

        generator = SAM2AutomaticMaskGenerator(
            side.images.predictor.model, points_per_side=points, output_mode="uncompressed_rle"
        )
        progress.start(f"{side.name} looks at everything", generator.count_points(self.pixels))
        with side.turn:
            found = generator.generate(self.pixels, advance=progress.advance)
        return sorted(found, key=lambda one: -one["area"])


class _Telling(Progress):
    """Tells the page how far something is, and ends it when somebody asks to stop."""

    def __init__(self, tell: Callable[[Answer], None], stopped: Callable[[], bool]) -> None:
        self._tell, self._stopped = tell, stopped
        self._label, self._done, self._total = "", 0, 0

    def start(self, label: str, total: int) -> None:
        self._label, self._done, self._total = label, 0, total
        self.advance(0)

    def advance(self, count: int, doing: str = "") -> None:
        if self._stopped():
            raise StoppedError
        self._done += count
        self._tell({"progress": self._label, "done": self._done, "total": self._total})
