"""A scenario on an input: how to put it to a backend, and what there is to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from . import views
from .activations import Activations
from .backends.base import Backend, CannotRun
from .findings import View
from .inputs import Clip, Picture
from .scenarios import EncoderScenario, ImageScenario, PixelScenario, Scenario, VideoScenario

PIXEL_FRAMES = 3  # frames are enough to see how frames are resized


Ask = Callable[[Backend, Activations | None], Activations]


@dataclass(frozen=True)
class Case:
    """One scenario on one input.

    ``ask`` also takes the activations with which memories are to agree: see :class:`~.activations.Recorder`.
    ``prepare`` is what a backend must have been asked before: to encode the picture of a prompt.
    """

    scenario: Scenario
    input: str
    ask: Ask
    look: Callable[[Activations, Activations], tuple[View, ...]] = lambda left, right: ()
    prepare: Ask | None = None

    @property
    def needs(self) -> str:
        """The ability that it takes."""
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
    """All cases, in the order of the data flow: pixels, then pictures, then the video."""
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


def _resize(picture: Picture) -> Ask:
    return lambda side, _: {"pixels": side.picture_pixels(picture)}


def _encode(picture: Picture) -> Ask:
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
