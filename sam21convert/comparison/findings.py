"""What a comparison found, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from ..prediction.draw import Mask, Pixels
from ..prediction.prompts import Prompted

Outcome = Literal["same", "known deviation", "differs", "not run"]


@dataclass(frozen=True)
class TapFinding:
    """How far one tap is apart.

    ``relative`` is the largest difference in units of the reference's largest magnitude, and what
    is judged: it must not exceed ``tolerance``. Of an object score, a single logit, the unit is 1
    at least. ``noise`` is how far the reference is from itself there. ``iou`` and ``differing``
    (share of the pixels) are those of masks, thresholded at 0.
    """

    name: str
    max_abs: float
    relative: float
    cosine: float
    noise: float
    tolerance: float
    iou: float | None = None
    differing: float | None = None

    @property
    def within(self) -> bool:
        """Whether it is in parity; a difference that is not a number is not."""
        return self.relative <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """The fields, with None for what is not finite, which JSON has no word for."""
        found = {**asdict(self), "within": self.within}
        return {
            name: None if isinstance(value, float) and not isfinite(value) else value
            for name, value in found.items()
        }


@dataclass(frozen=True)
class View:
    """Something to look at: a picture with its prompts, and what either side made of it."""

    title: str
    picture: Pixels  # H x W x 3
    prompts: Prompted | None  # in pixels of the picture
    left: Mask  # H x W
    right: Mask


@dataclass(frozen=True)
class ScenarioFinding:
    """One scenario on one input.

    ``first`` is the first tap out of tolerance. For a known deviation ``taps`` compare with the
    ground truth made to deviate in the same way, and ``apart`` is how far the masks are without it.
    ``why`` explains a deviation, or why nothing was run.
    """

    name: str
    summary: str
    input: str
    outcome: Outcome
    taps: tuple[TapFinding, ...] = ()
    first: str | None = None
    why: str = ""
    apart: float | None = None
    seconds: float = 0.0
    views: tuple[View, ...] = field(default=(), repr=False)

    @property
    def title(self) -> str:
        """Its name, with that of the user's picture or video."""
        return f"{self.name} ({self.input})" if self.input else self.name

    def to_dict(self) -> dict[str, Any]:
        """The fields but for the pictures."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "views"}
        taps = [tap.to_dict() for tap in self.taps]
        return {**plain, "taps": taps}


@dataclass(frozen=True)
class Side:
    """One side of a comparison. ``sha256`` is of each file that was read."""

    runner: str
    version: str
    source: Path
    dialect: str
    container: str
    generation: str
    config: str  # the shipped name, or "of no published size"
    image_size: int
    sha256: dict[str, str]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.runner} {self.version}: {self.source} ({self.dialect}, {self.container}), "
            f"SAM {self.generation} {self.config}, {self.image_size} pixels"
        )


@dataclass(frozen=True)
class Cause:
    """A difference between the two sides that can be seen without running them.

    ``tap`` is the first one that it can reach, None when no result depends on it.
    """

    text: str
    tap: str | None
    hint: str | None = None


@dataclass(frozen=True)
class Control:
    """A tensor put off by ``share`` of its scale: whether that was noticed, and where first."""

    scenario: str
    tensor: str
    share: float
    noticed: bool
    tap: str | None


@dataclass(frozen=True)
class Proof:
    """Every tensor put off in turn; ``unseen`` were noticed by no scenario of the run.

    ``expected`` are those of them that no computation can see, with the reason.
    """

    tensors: int
    unseen: tuple[str, ...]
    expected: dict[str, str]

    @property
    def surprising(self) -> tuple[str, ...]:
        """Tensors that should have been seen."""
        return tuple(name for name in self.unseen if name not in self.expected)
