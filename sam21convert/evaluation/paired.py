"""Compare the masks of two checkpoints, object by object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..report import Part, Report, table
from .datasets import Video
from .masks import Masks
from .protocols import ObjectScore

_SAMPLES = 10_000
_BETWEEN = (2.5, 97.5)  # per cent of the samples


@dataclass(frozen=True)
class Worst(Report):
    """The object that lost most from the first checkpoint to the second.

    Attributes:
        video: The name of its video.
        object: Its id, or the name of its folder.
        jf: J&F of the second checkpoint less that of the first, in percentage points.
    """

    video: str
    object: str
    jf: float


@dataclass(frozen=True)
class Paired(Report):
    """How two checkpoints differ on the same objects; differences are second less first.

    Attributes:
        identical: Whether no pixel of any mask differs.
        pixels: Number of pixels that differ, in all frames.
        of_pixels: Number of pixels that were compared.
        changed: Number of objects whose J or F differ.
        jf: The mean difference of J&F over objects, in percentage points; None if nothing could be
            scored.
        between: Where that mean lies with 95 % confidence. Videos were drawn again and again from
            those there are, as objects of one video go together; None for fewer than two videos.
        worst: The object that lost most; None if none did.
    """

    identical: bool
    pixels: int
    of_pixels: int
    changed: int
    jf: float | None
    between: tuple[float, float] | None
    worst: Worst | None

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, the worst object as a dict.
        """
        return {
            **super().to_dict(),
            "worst": None if self.worst is None else self.worst.to_dict(),
        }

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A table.
        """
        if self.identical:
            return [table([("masks", f"identical: none of {self.of_pixels:,} pixels differs")])]
        share = self.pixels / max(1, self.of_pixels)
        rows = [("masks", f"{self.pixels:,} of {self.of_pixels:,} pixels differ ({share:.2%})")]
        if self.jf is not None:
            rows.append(("J&F", f"{self.jf:+.2f} on average; {self.changed:,} objects changed"))
        if self.between is not None:
            low, high = self.between
            rows.append(("", f"between {low:+.2f} and {high:+.2f} with 95 % confidence"))
        if self.worst is not None:
            rows.append(
                ("worst", f"{self.worst.jf:+.1f}: object {self.worst.object} of {self.worst.video}")
            )
        return [table(rows)]


def compare(
    first: Sequence[ObjectScore],
    second: Sequence[ObjectScore],
    pixels: int,
    of_pixels: int,
) -> Paired:
    """Compare two checkpoints.

    Args:
        first: The scores of the first.
        second: Those of the second, of the same objects in the same order.
        pixels: How many pixels differ between their masks.
        of_pixels: How many were compared.

    Returns:
        The comparison.
    """
    if not first:  # their true masks are not public
        return Paired(not pixels, pixels, of_pixels, 0, None, None, None)
    apart = np.array([b.jf - a.jf for a, b in zip(first, second, strict=True)])
    changed = [(a.j, a.f) != (b.j, b.f) for a, b in zip(first, second, strict=True)]
    lost = int(np.argmin(apart))
    return Paired(
        identical=not pixels,
        pixels=pixels,
        of_pixels=of_pixels,
        changed=sum(changed),
        jf=float(np.mean(apart)),
        between=_interval(apart, [one.video for one in first]),
        worst=Worst(first[lost].video, first[lost].object, float(apart[lost]))
        if apart[lost] < 0
        else None,
    )


def differing(video: Video, one: Path, other: Path) -> tuple[int, int]:
    """Compare the masks of two checkpoints.

    Args:
        video: The video.
        one: The folder with its masks by the first.
        other: That by the second.

    Returns:
        The number of pixels that differ, and of all.
    """
    names = video.object_names(one) if video.objects_apart else [""]
    differing, compared = 0, 0
    for name in names:
        mine, theirs = Masks(one / name), Masks(other / name)
        for frame in mine.names():
            ids = mine.read(frame)
            differing += int(np.count_nonzero(ids != theirs.read(frame, ids.shape)))
            compared += ids.size
    return differing, compared


def _interval(apart: NDArray[np.float64], videos: Sequence[str]) -> tuple[float, float] | None:
    """Where the mean difference lies: the same each time, as the draws are the same."""
    names, numbers = np.unique(np.array(videos), return_inverse=True)
    if len(names) < 2:
        return None
    sums, counts = (np.bincount(numbers, weights) for weights in (apart, None))
    drawn = np.random.default_rng(0).integers(0, len(names), (_SAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, _BETWEEN)
    return float(low), float(high)
