"""Ask backends in tests, and measure how far their answers are apart."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from sam21convert.comparison.activations import Activations
from sam21convert.comparison.backends.base import LoadOptions
from sam21convert.comparison.backends.truth import Truth
from sam21convert.comparison.inputs import Clip, Picture, clip, pictures
from sam21convert.comparison.names import kind
from sam21convert.comparison.scenarios import BY_NAME, IMAGES, VIDEOS, ImageScenario, VideoScenario

from .rounding import EPSILON, MULTIPLE, variants

ASKED = [scenario.name for scenario in (*IMAGES, *VIDEOS) if scenario.name != "video-holes"]
BRIEF = [name for name in ASKED if name not in ("video-long", "video-reverse")]


@cache
def loaded(backend: type[Any], source: Path, image_size: int | None = None) -> Any:
    """A backend that is loaded once for all tests, which must leave it unchanged.

    Args:
        backend: The class of the backend.
        source: The checkpoint.
        image_size: Side of the model's input in pixels; None for what the config says.

    Returns:
        The backend.
    """
    return backend.load(source, LoadOptions(image_size=image_size))


@cache
def the_picture(image_size: int) -> Picture:
    """The drawn picture.

    Args:
        image_size: Side of the model's input in pixels.

    Returns:
        The picture.
    """
    return pictures(None, image_size)[0]


@cache
def the_clip(image_size: int, length: int) -> Clip:
    """The drawn video.

    Args:
        image_size: Side of the model's input in pixels.
        length: Number of frames.

    Returns:
        The video.
    """
    return clip(None, image_size, length)


def asked(backend: Any, name: str, agreed: Activations | None = None) -> Activations:
    """The answer of a backend to a scenario; for an image, with the features of the encoder.

    Args:
        backend: The backend.
        name: Name of the scenario.
        agreed: Activations of a run to compare with, whose memories are used where rounding
            decides.

    Returns:
        The activations.
    """
    scenario, side = BY_NAME[name], backend.config.image_size
    if isinstance(scenario, VideoScenario):
        activations: Activations = backend.track(the_clip(side, scenario.frames), scenario, agreed)
        return activations
    assert isinstance(scenario, ImageScenario)
    picture = the_picture(side)
    return {**backend.encode(picture.tensor), **backend.segment(picture, scenario)}


def apart(reference: Activations, other: Activations) -> dict[str, float]:
    """How far each common activation is apart.

    The scale is that of the kind of activation, because a single score may be close to 0.

    Args:
        reference: Activations that give the scale.
        other: The other activations.

    Returns:
        The largest difference divided by the scale, by name; 9 for another shape.
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


@cache
def tolerance(source: Path) -> float:
    """How far apart activations may be: a multiple of how far rounding alone moves them.

    Args:
        source: The checkpoint.

    Returns:
        The largest difference, in the units of :func:`apart`.
    """
    truth, noise = loaded(Truth, source), EPSILON
    for scenario in ("points", "video-box"):
        usual = asked(truth, scenario)
        for model, context in variants(truth.model):
            with context:
                found = asked(Truth(source, model, images_only=False), scenario, agreed=usual)
            noise = max(noise, *apart(usual, found).values())
    return MULTIPLE * noise
