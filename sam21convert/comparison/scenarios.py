"""What the two models are asked: data, in shares of the picture, so that any picture will do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UsageError


@dataclass(frozen=True)
class Prompt:
    """What is said of one object. Coordinates are shares of width and height.

    ``labels`` are 1 on the object and 0 off it. With ``mask`` the mask that comes with the input is
    given as well, or, with ``empty``, a mask without anything in it.
    """

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: bool = False
    empty: bool = False


@dataclass(frozen=True)
class ImageScenario:
    """One prompt for one picture; three candidates with ``multimask``."""

    name: str
    summary: str
    prompt: Prompt
    multimask: bool


@dataclass(frozen=True)
class Ask:
    """A prompt for an object on a frame; with ``add`` to those given there before."""

    frame: int
    obj: int
    prompt: Prompt
    add: bool = False


@dataclass(frozen=True)
class Follow:
    """All objects are followed from ``start``, None for the earliest prompt, over ``more`` frames.

    ``more`` does not count the first; None is to the end, or in ``reverse`` to the beginning.
    """

    start: int | None = None
    more: int | None = None
    reverse: bool = False


@dataclass(frozen=True)
class VideoScenario:
    """Steps in a video of which the first ``frames`` frames are used.

    ``fill_holes`` asks for what the official builder of video predictors turns on.
    """

    name: str
    summary: str
    frames: int
    steps: tuple[Ask | Follow, ...]
    fill_holes: bool = False


@dataclass(frozen=True)
class PixelScenario:
    """What each package makes of a picture, or of a video, before the model sees it."""

    name: str
    summary: str
    video: bool


@dataclass(frozen=True)
class EncoderScenario:
    """What is known of a picture before any prompt; it runs before the first of them."""

    name: str
    summary: str


Scenario = PixelScenario | EncoderScenario | ImageScenario | VideoScenario

_POINT = ((0.35, 0.62),)
_BOX = (0.22, 0.42, 0.48, 0.74)
_ELSEWHERE = ((0.75, 0.22),)
_DISC, _DISC_BOX = ((0.25, 0.51),), (0.12, 0.33, 0.40, 0.69)  # where a disc is on the first frame
_LATE = ((0.62, 0.45),)

IMAGES = (
    ImageScenario("point", "one point, three candidates", Prompt(_POINT, (1,)), multimask=True),
    ImageScenario(
        "points",
        "three points, one mask",
        Prompt((*_POINT, *_ELSEWHERE, (0.5, 0.88)), (1, 0, 1)),
        multimask=False,
    ),
    ImageScenario("box", "a box, one mask", Prompt(box=_BOX), multimask=False),
    ImageScenario(
        "box-point", "a box and a point", Prompt(_POINT, (1,), box=_BOX), multimask=False
    ),
    ImageScenario(
        "mask", "a point and a mask to start from", Prompt(_POINT, (1,), mask=True), multimask=True
    ),
    ImageScenario("no-prompt", "nothing is pointed at", Prompt(), multimask=True),
)

_CLICK = Ask(0, 1, Prompt(_DISC, (1,)))
VIDEOS = (
    VideoScenario("video-point", "a point, followed", 3, (_CLICK, Follow())),
    VideoScenario("video-box", "a box, followed", 4, (Ask(0, 1, Prompt(box=_DISC_BOX)), Follow())),
    VideoScenario("video-mask", "a mask, followed", 4, (Ask(0, 1, Prompt(mask=True)), Follow())),
    VideoScenario(
        "video-absent",
        "an empty mask: the object is not there, and is looked for",
        3,
        (Ask(0, 1, Prompt(mask=True, empty=True)), Follow()),
    ),
    VideoScenario(
        "video-two",
        "two objects, by a point and a box",
        4,
        (_CLICK, Ask(0, 2, Prompt(box=(0.5, 0.1, 0.95, 0.5))), Follow()),
    ),
    VideoScenario(
        "video-correction",
        "more clicks on a frame with a prompt, and on one that was followed",
        4,
        (
            _CLICK,
            Ask(0, 1, Prompt(_ELSEWHERE, (0,)), add=True),
            Follow(),
            Ask(2, 1, Prompt(_ELSEWHERE, (0,))),
        ),
    ),
    VideoScenario(
        "video-reverse",
        "from the last frame to the first",
        6,
        (Ask(5, 1, Prompt(_LATE, (1,))), Follow(start=5, reverse=True)),
    ),
    VideoScenario(
        "video-holes", "holes of up to 8 pixels are filled", 3, (_CLICK, Follow()), fill_holes=True
    ),
    VideoScenario(
        "video-long",
        "the object leaves and comes back; more frames than there are memories and pointers",
        18,
        (_CLICK, Follow()),
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
    """The scenarios of ``quick``, ``full`` or a list of names, in the order in which they run.

    Raises :class:`UsageError` for a name that there is not.
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    sets = {"quick": QUICK, "full": tuple(BY_NAME)}
    picked = {name for one in wanted for name in sets.get(one.strip(), (one.strip(),))}
    unknown = sorted(picked - set(BY_NAME))
    if unknown or not picked:
        raise UsageError(
            f"scenario {unknown[0]!r}: there is none of that name" if unknown else "no scenario",
            hint=f"quick, full, or some of {', '.join(BY_NAME)}",
        )
    if picked & {scenario.name for scenario in IMAGES}:
        picked.add(ENCODER.name)
    return tuple(scenario for scenario in ALL if scenario.name in picked)
