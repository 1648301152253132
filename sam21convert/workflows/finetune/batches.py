"""Read and change what a step trains on, while the step before it is computed."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from ...training.batch import Batch
from .augment import Changes
from .sampling import Draws

_AHEAD = 2  # batches that are made before they are wanted


class Batches:
    """The batches of the steps of one process, which are the same whenever they are asked for.

    Args:
        draws: The clips.
        side: Of the model's input, in pixels.
        last: The number of the last draw.
        apart: How many draws lie between two of this process.
    """

    def __init__(self, draws: Draws, side: int, last: int, apart: int) -> None:
        self._draws, self._side, self._last, self._apart = draws, side, last, apart
        self._made: dict[int, Future[Batch]] = {}
        self._maker = ThreadPoolExecutor(1)

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self._maker.shutdown(wait=False, cancel_futures=True)

    def take(self, number: int) -> Batch:
        """Get a batch.

        Args:
            number: The number of the draw.

        Returns:
            One clip, on the CPU.

        Raises:
            Sam21ConvertError: If a picture or a mask cannot be read any more.
        """
        for ahead in range(number, number + self._apart * (_AHEAD + 1), self._apart):
            if ahead <= self._last and ahead not in self._made:
                self._made[ahead] = self._maker.submit(self.make, ahead)
        return self._made.pop(number).result()

    def make(self, number: int) -> Batch:
        """Make a batch.

        Args:
            number: The number of the draw.

        Returns:
            As :meth:`take`.

        Raises:
            Sam21ConvertError: As there.
        """
        clip, rng = self._draws.draw(number)
        changes = Changes.drawn(rng, len(clip.frames))
        pictures = [frame.load() for frame in clip.frames]
        masks = [frame.masks() for frame in clip.frames]
        frames, true = changes.apply(pictures, masks, clip.objects, self._side)
        return Batch(frames[:, None], true, torch.zeros(len(clip.objects), dtype=torch.int64))
