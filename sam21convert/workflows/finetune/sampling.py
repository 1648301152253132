"""Draw what a step trains on: a clip of consecutive frames, and objects that its first one shows.

Every draw has a generator of its own, made from the seed and the number of the draw. So nothing has
to be kept of them for a run to go on as if it had never been stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .data import Data
from .footage import Footage, Frame

MOST_OBJECTS = 3  # of a clip or picture, as in the official fine-tuning
_ORDER, _DRAW = 0, 1  # what a generator is for


@dataclass(frozen=True)
class Clip:
    """Frames, and the objects to follow in them.

    Attributes:
        frames: The frames in their order; one for a picture.
        objects: The names of the objects.
    """

    frames: Sequence[Frame]
    objects: Sequence[str]


class Draws:
    """The clips of all steps.

    Args:
        data: The data.
        length: Number of frames of a clip.
        seed: Of all generators.

    Attributes:
        length: Number of frames of a clip; 1 for pictures.
    """

    def __init__(self, data: Data, length: int, seed: int) -> None:
        self._seed = seed
        self.length = length if data.kind == "video" else 1
        # A video is drawn once in an epoch; of one whose frames are drawn singly, each frame is.
        self._units: list[tuple[Footage, list[int]]] = []
        for one in data.footage:
            starts = one.starts(self.length)
            single = data.kind == "images"
            self._units += [(one, [at]) for at in starts] if single else [(one, starts)]

    @property
    def epoch(self) -> int:
        """The number of draws after which everything was drawn once."""
        return len(self._units)

    def draw(self, number: int) -> tuple[Clip, np.random.Generator]:
        """Draw a clip.

        Args:
            number: The number of the draw, counted from 0.

        Returns:
            The clip, and the generator for all else that is drawn for it.
        """
        epoch, place = divmod(number, self.epoch)
        order = np.random.default_rng((self._seed, _ORDER, epoch)).permutation(self.epoch)
        rng = np.random.default_rng((self._seed, _DRAW, number))
        footage, starts = self._units[order[place]]
        start = starts[rng.integers(len(starts))]
        there = footage.seen[start]
        chosen = rng.choice(len(there), min(len(there), MOST_OBJECTS), replace=False)
        frames = footage.frames[start : start + self.length]
        return Clip(frames, [there[at] for at in chosen]), rng
