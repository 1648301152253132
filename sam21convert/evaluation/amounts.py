"""How much there is to do with a video, as far as a look at its folders tells."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..errors import Sam21ConvertError
from ..model.pictures import numbered
from .datasets import Layout, Video
from .masks import Masks, ids_in

LATER: frozenset[Layout] = frozenset({"lvos", "youtube"})  # where objects appear later


@dataclass(frozen=True)
class Amount:
    """What there is to do with a video.

    Attributes:
        frames: Number of its frames; 0 if they cannot be listed.
        objects: Number of its objects, at least 1.
        apart: Whether each object is tracked by itself.
    """

    frames: int
    objects: int
    apart: bool

    @property
    def tracked(self) -> int:
        """Number of frames to track, each once for every object that is tracked by itself."""
        return self.frames * (self.objects if self.apart else 1)


def amount_of(video: Video, layout: Layout) -> Amount:
    """Look at a video.

    Args:
        video: The video; what is wrong with it is left to who reads it.
        layout: The layout of its data set.

    Returns:
        What there is to do.
    """
    frames, objects = 0, 0
    with suppress(Sam21ConvertError, OSError, ValueError):
        frames = len(numbered(video.frames))
        objects = len(video.objects()) or _shown(video)
    return Amount(frames, max(1, objects), layout in LATER)


def _shown(video: Video) -> int:
    if video.objects_apart:
        return len(video.object_names(video.truth))
    truth = Masks(video.truth)
    return max((len(ids_in(truth.read(name))) for name in truth.names()[:1]), default=0)


def longest_first(videos: Sequence[Video], amounts: Sequence[Amount]) -> list[Video]:
    """Put videos into the order in which they are begun.

    Args:
        videos: The videos.
        amounts: What there is to do with each.

    Returns:
        Those with most to do first, or the last to be begun would keep all workers waiting.
    """
    order = sorted(
        range(len(videos)), key=lambda at: amounts[at].frames * amounts[at].objects, reverse=True
    )
    return [videos[at] for at in order]
