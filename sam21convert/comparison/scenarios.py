"""What the two models are asked to do, as data.

Coordinates are relative, so that they fit any picture.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..errors import UsageError, did_you_mean, nearest


@dataclass(frozen=True)
class Prompt:
    """The prompt for one object. Coordinates are shares of the width and of the height.

    Attributes:
        points: Points as ``(x, y)``.
        labels: For each point, 1 on the object and 0 off it.
        box: A box as ``(x0, y0, x1, y1)``; None without one.
        mask: Whether the mask that comes with the input is part of the prompt.
        empty: With ``mask``, use a mask in which nothing is set instead.
    """

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: bool = False
    empty: bool = False


@dataclass(frozen=True)
class ImageScenario:
    """One prompt for one picture.

    Attributes:
        name: The name on the command line and in the report.
        summary: What is asked, in a few words.
        prompt: The prompt.
        multimask: Whether three candidates are asked for instead of one mask.
    """

    name: str
    summary: str
    prompt: Prompt
    multimask: bool


@dataclass(frozen=True)
class AddPrompt:
    """A step in a video: add a prompt for an object on a frame.

    Attributes:
        frame: Index of the frame.
        obj: The object's id.
        prompt: The prompt.
        add: Whether it is added to the earlier prompts for the object on that frame, instead of
            replacing them.
    """

    frame: int
    obj: int
    prompt: Prompt
    add: bool = False


@dataclass(frozen=True)
class Propagate:
    """A step in a video: track all objects through the frames.

    Attributes:
        start: Index of the first frame; None for the earliest frame with a prompt.
        more: Number of frames after the first; None for all frames to the end of the video.
        reverse: Whether to track towards the beginning of the video.
    """

    start: int | None = None
    more: int | None = None
    reverse: bool = False


@dataclass(frozen=True)
class VideoScenario:
    """Steps in a video.

    Attributes:
        name: The name on the command line and in the report.
        summary: What is asked, in a few words.
        frames: Number of frames that are used.
        steps: The steps, in order.
        fill_holes: Whether small holes in masks are filled, which the official builder of video
            predictors turns on.
        still: Whether the drawn video stands still, so that each model encodes one picture. A
            video of the user's plays.
    """

    name: str
    summary: str
    frames: int
    steps: tuple[AddPrompt | Propagate, ...]
    fill_holes: bool = False
    still: bool = False


@dataclass(frozen=True)
class PixelScenario:
    """How each package preprocesses a picture or a video for the model.

    Attributes:
        name: The name on the command line and in the report.
        summary: What is asked, in a few words.
        video: Whether a video is preprocessed instead of a picture.
    """

    name: str
    summary: str
    video: bool


@dataclass(frozen=True)
class EncoderScenario:
    """The features of a picture, which are computed before any prompt.

    Attributes:
        name: The name on the command line and in the report.
        summary: What is asked, in a few words.
    """

    name: str
    summary: str


Scenario = PixelScenario | EncoderScenario | ImageScenario | VideoScenario

# The disc of the drawn video on its first frame, see inputs.drawn_frame, and a place beside it.
_DISC, _DISC_BOX = ((0.25, 0.51),), (0.12, 0.33, 0.40, 0.69)
_ELSEWHERE = ((0.75, 0.22),)
_LATE = ((0.62, 0.45),)

IMAGES = (
    ImageScenario("point", "one point, three candidates", Prompt(_DISC, (1,)), multimask=True),
    ImageScenario(
        "points",
        "three points, one mask",
        Prompt((*_DISC, *_ELSEWHERE, (0.25, 0.6)), (1, 0, 1)),
        multimask=False,
    ),
    ImageScenario("box", "a box, one mask", Prompt(box=_DISC_BOX), multimask=False),
    ImageScenario(
        "box-point", "a box and a point", Prompt(_DISC, (1,), box=_DISC_BOX), multimask=False
    ),
    ImageScenario(
        "mask", "a point and a mask to start from", Prompt(_DISC, (1,), mask=True), multimask=True
    ),
    ImageScenario("no-prompt", "no prompt", Prompt(), multimask=True),
)

_CLICK = AddPrompt(0, 1, Prompt(_DISC, (1,)))
VIDEOS = (
    VideoScenario(
        "video-point",
        "a point, then tracking; the drawn video stands still",
        3,
        (_CLICK, Propagate()),
        still=True,
    ),
    VideoScenario(
        "video-box",
        "a box, then tracking",
        4,
        (AddPrompt(0, 1, Prompt(box=_DISC_BOX)), Propagate()),
    ),
    VideoScenario(
        "video-mask", "a mask, then tracking", 4, (AddPrompt(0, 1, Prompt(mask=True)), Propagate())
    ),
    VideoScenario(
        "video-absent",
        "an empty mask, so the object is absent, then tracking",
        3,
        (AddPrompt(0, 1, Prompt(mask=True, empty=True)), Propagate()),
    ),
    VideoScenario(
        "video-two",
        "two objects, by a point and a box",
        4,
        (_CLICK, AddPrompt(0, 2, Prompt(box=(0.5, 0.1, 0.95, 0.5))), Propagate()),
    ),
    VideoScenario(
        "video-correction",
        "more clicks, on the prompted frame and on a tracked one",
        4,
        (
            _CLICK,
            AddPrompt(0, 1, Prompt(_ELSEWHERE, (0,)), add=True),
            Propagate(),
            AddPrompt(2, 1, Prompt(_ELSEWHERE, (0,))),
        ),
    ),
    VideoScenario(
        "video-reverse",
        "from the last frame to the first",
        6,
        (AddPrompt(5, 1, Prompt(_LATE, (1,))), Propagate(start=5, reverse=True)),
    ),
    VideoScenario(
        "video-holes",
        "holes of up to 8 pixels are filled",
        3,
        (_CLICK, Propagate()),
        fill_holes=True,
    ),
    VideoScenario(
        "video-long",
        "more frames than memories and pointers; the object leaves and comes back",
        18,
        (_CLICK, Propagate()),
    ),
)

PIXELS = (
    PixelScenario("image-pixels", "a picture, resized and normalised", video=False),
    PixelScenario("video-pixels", "a video, resized and normalised", video=True),
)

ENCODER = EncoderScenario("encoder", "the features of a picture")

ALL: tuple[Scenario, ...] = (*PIXELS, ENCODER, *IMAGES, *VIDEOS)
BY_NAME: dict[str, Scenario] = {scenario.name: scenario for scenario in ALL}
QUICK = (*(s.name for s in PIXELS), ENCODER.name, *(s.name for s in IMAGES), "video-point")


def chosen(names: str | Sequence[str]) -> tuple[Scenario, ...]:
    """The scenarios that a user selects.

    Args:
        names: ``"quick"``, ``"full"`` or names of scenarios, as a list or separated by commas.

    Returns:
        The scenarios in the order in which they run, whatever the order of the names. A prompt for
        an image brings the encoder scenario with it.

    Raises:
        UsageError: For an unknown name, or when nothing is selected.
    """
    wanted = picked(names, {"quick": QUICK, "full": tuple(BY_NAME)}, BY_NAME)
    if wanted & {scenario.name for scenario in IMAGES}:
        wanted.add(ENCODER.name)
    return tuple(scenario for scenario in ALL if scenario.name in wanted)


def picked(
    names: str | Sequence[str], sets: Mapping[str, Sequence[str]], known: Collection[str]
) -> set[str]:
    """Read a selection of scenarios.

    Args:
        names: Names of scenarios or of sets, as a list or separated by commas.
        sets: The scenarios of each set.
        known: Names of all scenarios.

    Returns:
        Names of scenarios.

    Raises:
        UsageError: For an unknown name, or when nothing is selected.
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    found = {name for word in wanted for name in sets.get(word.strip(), (word.strip(),))}
    unknown = sorted(found - set(known))
    if unknown or not found:
        raise UsageError(
            f"scenario {unknown[0]!r} does not exist" if unknown else "no scenario was given",
            hint=did_you_mean(
                nearest(unknown[0], [*sets, *known]) if unknown else (),
                f"use quick, full, or some of {', '.join(known)}",
            ),
        )
    return found
