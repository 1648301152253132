"""Which memories a frame attends to: a choice among frame numbers, without any tensor.

Follows ``_prepare_memory_conditioned_features`` of ``modeling/sam2_base.py`` and
``select_closest_cond_frames`` of ``modeling/sam2_utils.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Memory = TypeVar("Memory")


@dataclass(frozen=True)
class MemoryBank(Generic[Memory]):
    """What is remembered of one object when ``frame`` is looked at.

    ``prompted`` are the frames with a prompt, ``tracked`` all others that were seen, by number.
    With ``reverse`` the video is followed from its end to its beginning.
    """

    prompted: Mapping[int, Memory]
    tracked: Mapping[int, Memory]
    frame: int
    reverse: bool = False

    def spatial(
        self, num_maskmem: int, stride: int = 1, max_prompted: int = -1
    ) -> list[tuple[int, Memory]]:
        """Spatial memories with their rows of ``maskmem_tpos_enc``, in the order of attention.

        Prompted frames come first and share the last row. Then the earliest to the latest of
        ``num_maskmem - 1`` frames before this one, row 0 being the frame just before: that one and
        every ``stride``-th frame further back.
        """
        near, far = self.nearest_prompted(max_prompted)
        found = [(num_maskmem - 1, memory) for memory in near.values()]
        for steps in range(num_maskmem - 1, 0, -1):
            number = self._steps_back(steps, stride)
            memory = self.tracked.get(number, far.get(number))
            if memory is not None:
                found.append((steps - 1, memory))
        return found

    def pointers(
        self, max_pointers: int, num_frames: int, max_prompted: int = -1
    ) -> list[tuple[int, Memory]]:
        """Memories whose object pointers are attended to, with their distances in frames.

        Of the prompted frames those that were passed already, however far; then up to
        ``max_pointers - 1`` of the frames just before, nearest first. Distances are positive.
        """
        near, far = self.nearest_prompted(max_prompted)
        found = [
            (self._distance(number), memory)
            for number, memory in near.items()
            if self._distance(number) >= 0
        ]
        for distance in range(1, min(max_pointers, num_frames)):
            number = self._at(distance)
            memory = self.tracked.get(number, far.get(number))
            if memory is not None:
                found.append((distance, memory))
        return found

    def nearest_prompted(self, limit: int) -> tuple[dict[int, Memory], dict[int, Memory]]:
        """At most ``limit`` prompted frames (-1: all), and the others.

        The nearest before this frame and the nearest from it on come first, then the nearest.
        """
        if limit == -1 or len(self.prompted) <= limit:
            return dict(self.prompted), {}
        before = max((number for number in self.prompted if number < self.frame), default=None)
        after = min((number for number in self.prompted if number >= self.frame), default=None)
        chosen = [number for number in (before, after) if number is not None]
        rest = sorted(
            (number for number in self.prompted if number not in chosen),
            key=lambda number: abs(number - self.frame),
        )
        chosen += rest[: limit - len(chosen)]
        others = {n: memory for n, memory in self.prompted.items() if n not in chosen}
        return {number: self.prompted[number] for number in chosen}, others

    def _distance(self, number: int) -> int:
        """Frames between ``number`` and now; negative for what is still to come."""
        return number - self.frame if self.reverse else self.frame - number

    def _at(self, distance: int) -> int:
        """The number of the frame that lies ``distance`` frames back."""
        return self.frame + distance if self.reverse else self.frame - distance

    def _steps_back(self, steps: int, stride: int) -> int:
        """The frame just before for 1 step; beyond, whole multiples of ``stride``."""
        if steps == 1:
            return self._at(1)
        if self.reverse:
            return -(-(self.frame + 2) // stride) * stride + (steps - 2) * stride
        return (self.frame - 2) // stride * stride - (steps - 2) * stride
