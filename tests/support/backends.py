"""What backends are asked in the tests, and how far their answers are apart."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from sam21convert.comparison.activations import Activations, kind
from sam21convert.comparison.backends.base import LoadOptions
from sam21convert.comparison.inputs import Clip, Picture, clip, pictures
from sam21convert.comparison.scenarios import BY_NAME, IMAGES, VIDEOS, ImageScenario, VideoScenario

ASKED = [scenario.name for scenario in (*IMAGES, *VIDEOS) if scenario.name != "video-holes"]
BRIEF = [name for name in ASKED if name not in ("video-long", "video-reverse")]


@cache
def loaded(backend: type[Any], source: Path, image_size: int | None = None) -> Any:
    """One that is loaded once; tests leave it as it was."""
    return backend.load(source, LoadOptions(image_size=image_size))


@cache
def the_picture(image_size: int) -> Picture:
    return pictures(None, image_size)[0]


@cache
def the_clip(image_size: int, length: int) -> Clip:
    return clip(None, image_size, length)


def asked(backend: Any, name: str, agreed: Activations | None = None) -> Activations:
    """What a backend answers to a scenario; for an image all of it, features included.

    ``agreed`` are the activations of a run to compare with, whose memories count where rounding decides.
    """
    scenario, side = BY_NAME[name], backend.config.image_size
    if isinstance(scenario, VideoScenario):
        activations: Activations = backend.track(the_clip(side, scenario.frames), scenario, agreed)
        return activations
    assert isinstance(scenario, ImageScenario)
    picture = the_picture(side)
    return {**backend.encode(picture.tensor), **backend.segment(picture, scenario)}


def apart(reference: Activations, other: Activations) -> dict[str, float]:
    """How far each activation that both have is apart; 9 for another shape.

    In units of the scale of its kind: a score by itself may be as near 0 as it likes.
    """
    scales: dict[str, float] = {}
    for name, tensor in reference.items():
        if tensor.numel():
            scales[kind(name)] = max(scales.get(kind(name), 0.0), float(tensor.abs().max()))

    def far(name: str, mine: Tensor, theirs: Tensor) -> float:
        if mine.shape != theirs.shape:
            return 9.0
        return float((mine - theirs).abs().max()) / scales[kind(name)] if mine.numel() else 0.0

    return {name: far(name, mine, other[name]) for name, mine in reference.items() if name in other}
