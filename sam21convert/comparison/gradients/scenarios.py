"""The steps of training that both sides take, as data. Coordinates are shares of the sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..scenarios import picked

Click = tuple[float, float, int]  # x and y as shares of the sides; 1 on the object, 0 off it
Box = tuple[float, float, float, float]  # x0, y0, x1, y1


@dataclass(frozen=True)
class TrainingScenario:
    """Prompts for the two objects of a drawn clip, and how they are corrected.

    Attributes:
        name: The name on the command line and in the report.
        summary: What is asked, in a few words.
        frames: Number of frames; 1 for an image.
        first: Frames that are prompted at the start.
        clicks: By frame of ``first``, a click on each object.
        boxes: By frame of ``first``, a box around each object. A frame that is neither in
            ``clicks`` nor here is prompted with the true masks.
        corrections: By frame, the clicks on each object that correct it, one after the other.
        absent: Pairs of a frame and an object that is not there.
    """

    name: str
    summary: str
    frames: int
    first: tuple[int, ...] = (0,)
    clicks: Mapping[int, tuple[Click, ...]] = field(default_factory=dict)
    boxes: Mapping[int, tuple[Box, ...]] = field(default_factory=dict)
    corrections: Mapping[int, tuple[tuple[Click, ...], ...]] = field(default_factory=dict)
    absent: frozenset[tuple[int, int]] = frozenset()

    @property
    def needs(self) -> str:
        """The ability that a side needs: see :class:`~..backends.base.Backend`."""
        return "images" if self.frames == 1 else "videos"


# The objects: the disc of the drawn video, and a square on its background; see inputs.py.
_ON = ((0.25, 0.51, 1), (0.72, 0.28, 1))
_OFF = ((0.75, 0.22, 0), (0.3, 0.7, 0))
_AGAIN = ((0.3, 0.55, 1), (0.8, 0.35, 1))

ALL = (
    TrainingScenario(
        "train-point",
        "an image: a point on each object, corrected twice",
        1,
        clicks={0: _ON},
        corrections={0: (_OFF, _AGAIN)},
    ),
    TrainingScenario(
        "train-box",
        "an image: a box around each object",
        1,
        boxes={0: ((0.12, 0.33, 0.4, 0.69), (0.6, 0.15, 0.85, 0.4))},
    ),
    TrainingScenario(
        "train-video-point",
        "four frames: a point on each object, then tracking; two frames are corrected",
        4,
        clicks={0: _ON},
        corrections={0: (_OFF, _AGAIN), 2: (_OFF, _AGAIN)},
    ),
    TrainingScenario(
        "train-video-mask",
        "four frames: masks on the first and the last one, then tracking; an object comes late",
        4,
        first=(0, 3),
        absent=frozenset({(0, 1)}),
    ),
)
BY_NAME = {scenario.name: scenario for scenario in ALL}
QUICK = ("train-point", "train-video-point")


def chosen(names: str | Sequence[str]) -> tuple[TrainingScenario, ...]:
    """The scenarios that a user selects.

    Args:
        names: ``"quick"``, ``"full"`` or names of scenarios, as a list or separated by commas.

    Returns:
        The scenarios in the order in which they run, whatever the order of the names.

    Raises:
        UsageError: For an unknown name, or when nothing is selected.
    """
    wanted = picked(names, {"quick": QUICK, "full": tuple(BY_NAME)}, BY_NAME)
    return tuple(scenario for scenario in ALL if scenario.name in wanted)
