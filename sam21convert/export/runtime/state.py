"""The state of one video while objects are followed in it: prompts, results and memories.

Data only. The counterpart of :mod:`~sam21convert.model.inference_state`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from .model import Features
from .pictures import Frames
from .prompts import Labels
from .resize import Floats


@dataclass
class TrackResult:
    """The result for one object on one frame of ``S x S`` pixels.

    Attributes:
        low_res: Logits of the mask, ``1 x 1 x S/4 x S/4``.
        pointer: Object pointer, ``1 x C``.
        object_score: A logit, ``1 x 1``: above 0 the object is on the frame.
        memory: Spatial memory, ``1 x K x S/16 x S/16``, with values of bfloat16. None until one is
            made, which for a prompted frame is when tracking starts.
    """

    low_res: Floats
    pointer: Floats
    object_score: Floats
    memory: Floats | None = None


@dataclass
class TrackResults:
    """Results of one object by frame number, in two groups.

    Attributes:
        prompted: Results of frames with a prompt.
        tracked: Results of all other frames.
    """

    prompted: dict[int, TrackResult] = field(default_factory=dict)
    tracked: dict[int, TrackResult] = field(default_factory=dict)

    def of(self, *, prompted: bool) -> dict[int, TrackResult]:
        """Get one of the two groups.

        Args:
            prompted: Whether the one of prompted frames.

        Returns:
            The group itself, by frame number.
        """
        return self.prompted if prompted else self.tracked


@dataclass
class TrackedObject:
    """Prompts and results of one object.

    Attributes:
        points: By frame number, points (``1 x N x 2``, in pixels of the model's input) and their
            labels (``1 x N``).
        masks: By frame number, given masks, ``1 x 1 x S x S``, 0 or 1.
        pending: Results of prompts given since tracking last started. They can still change with
            another click, so they get a memory only when tracking starts.
        settled: All other results, which later frames attend to.
        reversed_on: Of the frames that were visited by tracking, whether that was backwards.
    """

    points: dict[int, tuple[Floats, Labels]] = field(default_factory=dict)
    masks: dict[int, Floats] = field(default_factory=dict)
    pending: TrackResults = field(default_factory=TrackResults)
    settled: TrackResults = field(default_factory=TrackResults)
    reversed_on: dict[int, bool] = field(default_factory=dict)

    def forget_prompts(self, frame: int) -> None:
        """Remove the prompts of a frame; from then on its result counts as a tracked one.

        Args:
            frame: Number of the frame.
        """
        self.points.pop(frame, None)
        self.masks.pop(frame, None)
        self.pending.prompted.pop(frame, None)
        self.pending.tracked.pop(frame, None)
        result = self.settled.prompted.pop(frame, None)
        if result is not None:
            self.settled.tracked[frame] = result
            self.reversed_on.pop(frame, None)

    def forget_memories(self, frames: Iterable[int]) -> None:
        """Forget the results of frames without a prompt.

        Args:
            frames: Numbers of the frames; those without a result are ignored.
        """
        for frame in frames:
            self.settled.tracked.pop(frame, None)

    def latest(self, frame: int, *, prompted: bool) -> TrackResult | None:
        """Find the current result on a frame: a pending one, else the settled one.

        Args:
            frame: Number of the frame.
            prompted: Which of the two groups of pending results counts.

        Returns:
            The result, or None if there is none.
        """
        settled = self.settled.prompted.get(frame, self.settled.tracked.get(frame))
        return self.pending.of(prompted=prompted).get(frame) or settled


@dataclass
class Session:
    """One video and the objects that are followed in it.

    Attributes:
        frames: The frames and the size of the video.
        objects: The objects by the caller's ids, in the order of their first prompts.
        features: The frame that was used last, and its features before any memory.
    """

    frames: Frames
    objects: dict[Hashable, TrackedObject] = field(default_factory=dict)
    features: tuple[int, Features] | None = None

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.frames.images)

    @property
    def video_height(self) -> int:
        """Height of the video, in pixels."""
        return self.frames.height

    @property
    def video_width(self) -> int:
        """Width of the video, in pixels."""
        return self.frames.width

    @property
    def obj_ids(self) -> list[Hashable]:
        """Ids of the objects, in the order of their first prompts."""
        return list(self.objects)

    def object(self, obj_id: Hashable) -> TrackedObject:
        """Get the object of an id; a new id makes a new object, also after tracking started.

        Args:
            obj_id: The caller's id.

        Returns:
            The object.
        """
        return self.objects.setdefault(obj_id, TrackedObject())

    def check_frame(self, frame: int) -> None:
        """Check a frame number.

        Args:
            frame: Number of the frame, counted from 0.

        Raises:
            IndexError: If the video has no such frame.
        """
        if not 0 <= frame < self.num_frames:
            raise IndexError(
                f"frame_idx {frame}: the video has {self.num_frames} frames, counted from 0"
            )
