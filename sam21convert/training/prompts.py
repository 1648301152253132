"""Prompts for the objects of clips: simulated as in the official training, or given as data.

Follows ``prepare_prompt_inputs`` of ``training/model/sam2.py``: the same numbers are drawn from the
same generators in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from .points import Points, draw_boxes, draw_points

_SEED = 42  # of the official generator, in every process


@dataclass(frozen=True)
class PromptSettings:
    """What is drawn how often; the defaults are those of the official fine-tuning.

    Attributes:
        points: Chance that the objects of a batch are prompted with points or boxes, not with
            their masks; images always are.
        box: Chance of a box on a frame with points.
        first_frames: Frames that are prompted at the start, at most; the first one always is.
        corrected_frames: Frames that get correction points, at most.
        corrections: Correction points on each of them, one after the other.
        from_truth: Chance that a correction point is drawn from the true mask, not from where the
            prediction is wrong.
    """

    points: float = 0.5
    box: float = 0.5
    first_frames: int = 2
    corrected_frames: int = 2
    corrections: int = 7
    from_truth: float = 0.1

    def __post_init__(self) -> None:
        for name in ("points", "box", "from_truth"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a chance from 0 to 1")
        if not 1 <= self.first_frames <= self.corrected_frames:
            raise ValueError("first_frames: expected 1 or more, and no more than corrected_frames")
        if self.corrections < 0:
            raise ValueError("corrections: expected 0 or more")


@dataclass(frozen=True)
class Plan:
    """What is decided about a batch before its frames are followed.

    Attributes:
        first: Frames that are prompted at the start, in the order in which they are segmented.
        points: The prompts on these frames; empty if the true masks are given.
        corrected: Frames that get correction points once they are segmented.
        corrections: Correction points on each of them.
    """

    first: tuple[int, ...]
    points: Mapping[int, Points] = field(default_factory=dict)
    corrected: tuple[int, ...] = ()
    corrections: int = 0


class Prompter(Protocol):
    """Where prompts come from."""

    def plan(self, masks: Tensor) -> Plan:
        """Give the prompts for the start.

        Args:
            masks: The true masks of a batch, ``T x O x S x S``, bool.

        Returns:
            The plan.
        """

    def correct(self, frame: int, number: int, masks: Tensor, predicted: Tensor) -> Points:
        """Give a correction point.

        Args:
            frame: Number of the frame.
            number: Number of the point on that frame, counted from 0.
            masks: The true masks on the frame, ``O x S x S``, bool.
            predicted: The predicted ones, bool.

        Returns:
            One point for each object.
        """


class SimulatedPrompts:
    """Draws prompts.

    What is drawn for all objects at once comes from a generator of its own, which is the same in
    every process of a training; points and boxes come from torch's.

    Args:
        settings: What is drawn how often.
        seed: Of the generator.
    """

    def __init__(self, settings: PromptSettings | None = None, seed: int = _SEED) -> None:
        self.settings = settings or PromptSettings()
        self._random = np.random.default_rng(seed)

    def plan(self, masks: Tensor) -> Plan:
        """Draw the prompts for the start.

        Args:
            masks: The true masks of a batch, ``T x O x S x S``, bool.

        Returns:
            The plan.
        """
        settings, draw, frames = self.settings, self._random, len(masks)
        first_frames = min(settings.first_frames, frames)
        corrected_frames = min(settings.corrected_frames, frames)
        with_points = draw.random() < (1.0 if frames == 1 else settings.points)
        if first_frames > 1:
            first_frames = int(draw.integers(1, first_frames, endpoint=True))
        if with_points and corrected_frames > first_frames:
            corrected_frames = int(draw.integers(first_frames, corrected_frames, endpoint=True))
        first = [0, *self._frames(range(1, frames), first_frames - 1)]
        if not with_points:
            return Plan(tuple(first))
        points = {
            frame: (draw_boxes if draw.random() < settings.box else draw_points)(masks[frame])
            for frame in first
        }
        others = [frame for frame in range(frames) if frame not in first]
        extra = self._frames(others, corrected_frames - first_frames)
        return Plan(tuple(first), points, (*first, *extra), settings.corrections)

    def correct(self, frame: int, number: int, masks: Tensor, predicted: Tensor) -> Points:
        """Draw a correction point.

        Args:
            frame: Number of the frame; makes no difference.
            number: Number of the point; makes no difference.
            masks: The true masks on the frame, ``O x S x S``, bool.
            predicted: The predicted ones, bool.

        Returns:
            One point for each object.
        """
        chance = self.settings.from_truth
        from_truth = chance > 0 and self._random.random() < chance
        return draw_points(masks, None if from_truth else predicted)

    def state_dict(self) -> dict[str, Any]:
        """Get the state of the generator.

        Returns:
            Plain data, for :meth:`load_state_dict`.
        """
        return dict(self._random.bit_generator.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where another one was.

        Args:
            state: What its :meth:`state_dict` returned.
        """
        self._random.bit_generator.state = dict(state)

    def _frames(self, among: Sequence[int], count: int) -> list[int]:
        """Draw different frames; the official code draws nothing when it wants none."""
        if not count:
            return []
        drawn: list[int] = self._random.choice(among, count, replace=False).tolist()
        return drawn


@dataclass(frozen=True)
class FixedPrompts:
    """Prompts as data, so that other implementations can be given the same.

    Attributes:
        start: The plan.
        points: By corrected frame, its correction points, one after the other.
    """

    start: Plan
    points: Mapping[int, Sequence[Points]] = field(default_factory=dict)

    def plan(self, masks: Tensor) -> Plan:
        """Give the plan.

        Args:
            masks: Makes no difference.

        Returns:
            The plan.
        """
        return self.start

    def correct(self, frame: int, number: int, masks: Tensor, predicted: Tensor) -> Points:
        """Give a correction point.

        Args:
            frame: Number of the frame.
            number: Number of the point.
            masks: Makes no difference.
            predicted: Makes no difference.

        Returns:
            The point for each object.
        """
        return self.points[frame][number]


class RecordedPrompts:
    """Notes what another one gives.

    Args:
        prompter: The other one.
    """

    def __init__(self, prompter: Prompter) -> None:
        self._prompter = prompter
        self._start: Plan | None = None
        self._points: dict[int, list[Points]] = {}

    def plan(self, masks: Tensor) -> Plan:
        """Ask the other one, as :meth:`Prompter.plan`.

        Args:
            masks: The true masks.

        Returns:
            The plan.
        """
        self._start, self._points = self._prompter.plan(masks), {}
        return self._start

    def correct(self, frame: int, number: int, masks: Tensor, predicted: Tensor) -> Points:
        """Ask the other one, as :meth:`Prompter.correct`.

        Args:
            frame: Number of the frame.
            number: Number of the point.
            masks: The true masks.
            predicted: The predicted ones.

        Returns:
            The point for each object.
        """
        point = self._prompter.correct(frame, number, masks, predicted)
        self._points.setdefault(frame, []).append(point)
        return point

    def fixed(self) -> FixedPrompts:
        """Get what was given since the last plan.

        Returns:
            The prompts as data.

        Raises:
            ValueError: If no plan was asked for.
        """
        if self._start is None:
            raise ValueError("nothing was recorded: follow a batch first")
        return FixedPrompts(self._start, dict(self._points))
