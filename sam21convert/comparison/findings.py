"""What a comparison found, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from ..prediction.draw import Mask, Pixels
from ..prediction.prompts import Prompted

CaseStatus = Literal["same", "known difference", "differs", "not run"]


@dataclass(frozen=True)
class ActivationResult:
    """How far one activation is apart.

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
class ScenarioResult:
    """One scenario on one input.

    ``first`` is the first activation out of tolerance. For a known difference ``activations`` compare with the
    ground truth made to deviate in the same way, and ``apart`` is how far the masks are without it.
    ``why`` explains a deviation, or why nothing was run.
    """

    name: str
    summary: str
    input: str
    status: CaseStatus
    activations: tuple[ActivationResult, ...] = ()
    first_mismatch: str | None = None
    why: str = ""
    apart: float | None = None
    seconds: float = 0.0
    views: tuple[View, ...] = field(default=(), repr=False)

    @property
    def title(self) -> str:
        """Its name, with that of the user's picture or video."""
        return f"{self.name} ({self.input})" if self.input else self.name

    def to_dict(self) -> dict[str, Any]:
        """The fields but for the pictures; those that had another name also under that."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "views"}
        activations = [activation.to_dict() for activation in self.activations]
        known = self.status == "known difference"
        return {
            **plain,
            "activations": activations,
            "taps": activations,
            "first": self.first_mismatch,
            "outcome": "known deviation" if known else self.status,
        }


@dataclass(frozen=True)
class ParitySide:
    """One side of a comparison. ``sha256`` is of each file that was read."""

    backend: str
    version: str
    source: Path
    dialect: str
    container: str
    generation: str
    config: str  # the shipped name, or "of no published size"
    image_size: int
    sha256: dict[str, str]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields, the backend also under its earlier name."""
        return {**asdict(self), "source": str(self.source), "runner": self.backend}

    def __str__(self) -> str:
        return (
            f"{self.backend} {self.version}: {self.source} ({self.dialect}, {self.container}), "
            f"SAM {self.generation} {self.config}, {self.image_size} pixels"
        )


@dataclass(frozen=True)
class Diagnosis:
    """A difference between the two sides that can be seen without running them.

    ``activation`` is the first one that it can reach, None when no result depends on it.
    """

    text: str
    activation: str | None
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields, the activation also under its earlier name."""
        return {**asdict(self), "tap": self.activation}


@dataclass(frozen=True)
class NegativeControl:
    """A tensor changed by ``share`` of its scale: whether that was detected, and where first."""

    scenario: str
    tensor: str
    share: float
    detected: bool
    activation: str | None

    def to_dict(self) -> dict[str, Any]:
        """The fields, two of them also under their earlier names."""
        return {**asdict(self), "noticed": self.detected, "tap": self.activation}


@dataclass(frozen=True)
class Sensitivity:
    """Every tensor changed in turn; ``undetected`` were detected by no scenario of the run.

    ``expected`` are those of them that no computation can see, with the reason.
    """

    tensors: int
    undetected: tuple[str, ...]
    expected: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The fields, the undetected tensors also under their earlier name."""
        return {**asdict(self), "unseen": self.undetected}

    @property
    def unexpected(self) -> tuple[str, ...]:
        """Tensors that should have been seen."""
        return tuple(name for name in self.undetected if name not in self.expected)
