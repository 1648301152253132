"""What lasts longer than a frame: the state of one video while objects are followed in it.

No maths: only what was asked, what came of it, and where it is kept. The counterpart of the
dictionary ``inference_state`` of ``sam2_video_predictor.py``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .sam2 import ImageFeatures
from .video_frames import Frames


@dataclass
class TrackResult:
    """What became of one object on one frame of S x S pixels, and is remembered of it."""

    low_res: Tensor  # 1 x 1 x S/4 x S/4, logits, on the storage device
    pointer: Tensor  # 1 x C
    object_score: Tensor  # 1 x 1
    memory: Tensor | None = None  # 1 x K x S/16 x S/16, bfloat16, on the storage device


@dataclass
class TrackResults:
    """The outcomes of an object by frame number, those of prompted frames by themselves."""

    prompted: dict[int, TrackResult] = field(default_factory=dict)
    tracked: dict[int, TrackResult] = field(default_factory=dict)

    def of(self, *, prompted: bool) -> dict[int, TrackResult]:
        """One of the two."""
        return self.prompted if prompted else self.tracked

    def find(self, frame: int) -> TrackResult | None:
        """The outcome on that frame."""
        return self.prompted.get(frame, self.tracked.get(frame))


@dataclass
class TrackedObject:
    """Prompts and outcomes of one object.

    Outcomes of new prompts are ``pending`` until the object is followed from them, for more clicks
    may come. ``reversed_on`` says of the frames that were followed whether that was backwards.
    """

    points: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    masks: dict[int, Tensor] = field(default_factory=dict)
    pending: TrackResults = field(default_factory=TrackResults)
    settled: TrackResults = field(default_factory=TrackResults)
    reversed_on: dict[int, bool] = field(default_factory=dict)

    def forget_prompts(self, frame: int) -> None:
        """Remove the prompts of a frame, which then is one like others."""
        self.points.pop(frame, None)
        self.masks.pop(frame, None)
        self.pending.prompted.pop(frame, None)
        self.pending.tracked.pop(frame, None)
        outcome = self.settled.prompted.pop(frame, None)
        if outcome is not None:
            self.settled.tracked[frame] = outcome
            self.reversed_on.pop(frame, None)

    def forget_memories(self, frames: Iterable[int]) -> None:
        """Forget what was seen on frames without a prompt."""
        for frame in frames:
            self.settled.tracked.pop(frame, None)

    def latest(self, frame: int, *, prompted: bool) -> TrackResult | None:
        """The outcome that counts on a frame: a pending one of that kind, else the settled one."""
        return self.pending.of(prompted=prompted).get(frame) or self.settled.find(frame)


_OFFICIAL_KEYS = (
    "images",
    "num_frames",
    "video_height",
    "video_width",
    "device",
    "storage_device",
    "obj_ids",
)


@dataclass
class Session:
    """One video and the objects that are followed in it, by the caller's ids.

    ``session["num_frames"]`` and the other keys of the official dictionary that callers read
    (``images``, ``video_height``, ``video_width``, ``device``, ``storage_device``, ``obj_ids``)
    work as well as the attributes.
    """

    frames: Frames
    device: torch.device
    storage_device: torch.device  # for masks and memories
    objects: dict[Hashable, TrackedObject] = field(default_factory=dict)
    features: tuple[int, ImageFeatures] | None = None  # of the frame that was last looked at

    @property
    def images(self) -> Any:
        """The normalised frames, each ``3 x S x S``."""
        return self.frames.images

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

    def __getitem__(self, key: str) -> Any:
        """The value that the official dictionary has under ``key``."""
        if key not in _OFFICIAL_KEYS:
            raise KeyError(f"{key!r}; there are {', '.join(_OFFICIAL_KEYS)}")
        return getattr(self, key)

    def object(self, obj_id: Hashable) -> TrackedObject:
        """The object of that id; a new id makes a new object, also after tracking began."""
        return self.objects.setdefault(obj_id, TrackedObject())

    def check_frame(self, frame: int) -> None:
        """Raise IndexError unless there is such a frame."""
        if not 0 <= frame < self.num_frames:
            raise IndexError(
                f"frame_idx {frame}: the video has {self.num_frames} frames, counted from 0"
            )
