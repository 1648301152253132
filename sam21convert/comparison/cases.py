"""A case is a scenario on an input: how to run it on a backend, and what to show of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from . import views
from .activations import Activations
from .backends.base import Backend, CannotRun
from .findings import View
from .inputs import Clip, Picture
from .scenarios import EncoderScenario, ImageScenario, PixelScenario, Scenario, VideoScenario

PIXEL_FRAMES = 3  # enough to compare how frames are resized

# Runs something on a backend. The activations are those of the other side: see Recorder.
Query = Callable[[Backend, Activations | None], Activations]


@dataclass(frozen=True)
class Case:
    """One scenario on one input.

    Attributes:
        scenario: What is asked.
        input: Name of the user's picture or video; empty for the drawn one.
        ask: Runs the scenario on a backend. The second argument are the activations of the other
            side, whose memories the run shares: see :class:`~.activations.Recorder`.
        make_views: From the activations of the left and of the right side, pictures for the report.
        prepare: What a backend must run before ``ask``: encoding the picture of a prompt. None when
            nothing must be run before.
    """

    scenario: Scenario
    input: str
    ask: Query
    make_views: Callable[[Activations, Activations], tuple[View, ...]] = lambda left, right: ()
    prepare: Query | None = None

    @property
    def needs(self) -> str:
        """The ability that a backend needs for it: see :class:`~.backends.base.Backend`."""
        return {
            PixelScenario: "images",
            EncoderScenario: "encode",
            ImageScenario: "images",
            VideoScenario: "videos",
        }[type(self.scenario)]

    @property
    def title(self) -> str:
        """The scenario, with the name of the user's picture or video."""
        return f"{self.scenario.name} ({self.input})" if self.input else self.scenario.name


def cases(
    scenarios: Sequence[Scenario], pictures: Sequence[Picture], clip: Clip | None
) -> Iterator[Case]:
    """All cases, in the order of the data flow: pixels, then pictures, then the video.

    Args:
        scenarios: The scenarios to run.
        pictures: The pictures for scenarios with images. Each is encoded before its prompts.
        clip: The video; None when no scenario needs one. Each scenario gets as many frames as it
            uses.

    Yields:
        One case for each scenario and input.
    """
    for scenario in scenarios:
        if isinstance(scenario, PixelScenario):
            yield from _pixels(scenario, pictures, clip)
    for picture in pictures:
        for scenario in scenarios:
            if isinstance(scenario, EncoderScenario):
                yield Case(scenario, picture.name, _encode(picture))
            elif isinstance(scenario, ImageScenario):
                yield _prompt(scenario, picture)
    for scenario in scenarios:
        if isinstance(scenario, VideoScenario) and clip is not None:
            yield _video(scenario, clip.first(scenario.frames))


def _pixels(
    scenario: PixelScenario, pictures: Sequence[Picture], clip: Clip | None
) -> Iterator[Case]:
    if scenario.video and clip is not None:
        short = clip.first(PIXEL_FRAMES)
        yield Case(scenario, clip.name, lambda side, _: {"pixels": side.clip_pixels(short)})
    elif not scenario.video:
        for picture in pictures:
            yield Case(scenario, picture.name, _resize(picture))


def _resize(picture: Picture) -> Query:
    return lambda side, _: {"pixels": side.picture_pixels(picture)}


def _encode(picture: Picture) -> Query:
    return lambda side, _: side.encode(picture.tensor)


def _prompt(scenario: ImageScenario, picture: Picture) -> Case:
    return Case(
        scenario,
        picture.name,
        lambda side, _: side.segment(picture, scenario),
        lambda left, right: views.of_picture(picture, scenario, left, right),
        _encode(picture),
    )


def _video(scenario: VideoScenario, clip: Clip) -> Case:
    if scenario.still and not clip.name:
        clip = clip.still()

    def ask(side: Backend, agreed: Activations | None) -> Activations:
        if len(clip.frames) < scenario.frames:
            raise CannotRun(f"needs {scenario.frames} frames; {clip.name} has {len(clip.frames)}")
        return side.track(clip, scenario, agreed)

    return Case(
        scenario,
        clip.name,
        ask,
        lambda left, right: views.of_clip(clip, scenario, left, right),
    )
