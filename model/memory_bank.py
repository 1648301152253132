"""Which memories a frame attends to: a choice among frame numbers, independent of tensors.

Follows ``_prepare_memory_conditioned_features`` of ``modeling/sam2_base.py`` and
``select_closest_cond_frames`` of ``modeling/sam2_utils.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Memory = TypeVar("Memory")


def reach(num_maskmem: int, stride: int, max_pointers: int) -> int:
    """How far back a frame can attend to frames without a prompt.

    Args:
        num_maskmem: As for :meth:`MemoryBank.spatial`.
        stride: As for :meth:`MemoryBank.spatial`.
        max_pointers: As for :meth:`MemoryBank.pointers`.

    Returns:
        A number of frames: memories that lie farther back will not be used any more.
    """
    return max(1 + (num_maskmem - 2) * stride, max_pointers - 1, 1)


@dataclass(frozen=True)
class MemoryBank(Generic[Memory]):
    """The memories of one object that are available when a frame is processed.

    Attributes:
        prompted: Memories of frames with a prompt, by frame number.
        tracked: Memories of all other frames processed so far, by frame number.
        frame: Number of the frame that is processed.
        reverse: Whether tracking runs from the end of the video to its beginning.
    """

    prompted: Mapping[int, Memory]
    tracked: Mapping[int, Memory]
    frame: int
    reverse: bool = False

    def spatial(
        self, num_maskmem: int, stride: int = 1, max_prompted: int = -1
    ) -> list[tuple[int, Memory]]:
        """Choose the spatial memories, in the order in which they are attended to.

        Prompted frames come first. They are followed by up to ``num_maskmem - 1`` frames before
        this one, the earliest first: the frame just before, and every ``stride``-th one further
        back.

        Args:
            num_maskmem: Number of rows of ``maskmem_tpos_enc``.
            stride: Frames between two memories.
            max_prompted: Number of prompted frames at most; -1 for all.

        Returns:
            Pairs of a row of ``maskmem_tpos_enc`` and a memory. Prompted frames share the last row;
            row 0 is the frame just before.
        """
        near, far = self.nearest_prompted(max_prompted)
        found = [(num_maskmem - 1, memory) for memory in near.values()]
        for steps in range(num_maskmem - 1, 0, -1):
            number = self._steps_back(steps, stride)
            # A prompted frame beyond the limit is still attended to as an ordinary one.
            memory = self.tracked.get(number, far.get(number))
            if memory is not None:
                found.append((steps - 1, memory))
        return found

    def pointers(
        self, max_pointers: int, num_frames: int, max_prompted: int = -1, *, future: bool = False
    ) -> list[tuple[int, Memory]]:
        """Choose the memories whose object pointers are attended to.

        First those of prompted frames that tracking has passed, however far away; then those of the
        ``max_pointers - 1`` frames just before, the nearest first.

        Args:
            max_pointers: The config's ``max_obj_ptrs_in_encoder``.
            num_frames: Number of frames of the video.
            max_prompted: Number of prompted frames at most; -1 for all.
            future: Whether those of prompted frames that are still to come count as well, as they
                do in training; their distances are negative.

        Returns:
            Pairs of a distance in frames and a memory.
        """
        near, far = self.nearest_prompted(max_prompted)
        found = [
            (self._distance(number), memory)
            for number, memory in near.items()
            if future or self._distance(number) >= 0
        ]
        for distance in range(1, min(max_pointers, num_frames)):
            number = self._at(distance)
            memory = self.tracked.get(number, far.get(number))
            if memory is not None:
                found.append((distance, memory))
        return found

    def nearest_prompted(self, limit: int) -> tuple[dict[int, Memory], dict[int, Memory]]:
        """Split the prompted frames into the nearest ones and the others.

        The nearest frame before this one and the nearest from it on are always among the chosen;
        the others are chosen by their distance.

        Args:
            limit: Number of frames to choose at most; -1 for all.

        Returns:
            Memories by frame number: the chosen ones, in the order of choice, and the others.
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
        """Frames from ``number`` to this one; negative for frames that are still to come."""
        return number - self.frame if self.reverse else self.frame - number

    def _at(self, distance: int) -> int:
        """The number of the frame that lies ``distance`` frames back."""
        return self.frame + distance if self.reverse else self.frame - distance

    def _steps_back(self, steps: int, stride: int) -> int:
        """The frame just before for 1 step; after that, frame numbers divisible by ``stride``."""
        if steps == 1:
            return self._at(1)
        if self.reverse:
            return -(-(self.frame + 2) // stride) * stride + (steps - 2) * stride
        return (self.frame - 2) // stride * stride - (steps - 2) * stride
