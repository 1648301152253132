"""What it takes to be compared: the same questions, put to each package in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ...model.config import ModelConfig
from ...prediction.load import Loading, load_onto, with_image_size
from ..activations import Activations, Recorder
from ..inputs import Clip, Picture
from ..scenarios import Ask, ImageScenario, Prompt, VideoScenario

Model = TypeVar("Model", bound=torch.nn.Module)


@dataclass(frozen=True)
class LoadOptions:
    """Arguments of :func:`~sam21convert.load_model`."""

    config: str | Path | ModelConfig | None = None
    image_size: int | None = None
    device: str = "cpu"

    def onto(self, make: Callable[[ModelConfig], Model], source: Path) -> tuple[Model, Loading]:
        """Load ``source``, an image model too, onto what ``make`` builds of its config.

        In float32; raises as :func:`~sam21convert.load_model`.
        """
        return load_onto(
            make,
            source,
            self.config,
            change=with_image_size(self.image_size),
            device=self.device,
            dtype=torch.float32,
            images_only=True,
        )


class CannotRun(Exception):  # noqa: N818  # no error: the package lacks what a scenario asks for
    """A package cannot do what it is asked; the message says why."""


class Backend(Protocol):
    """One side of a comparison: a package with a checkpoint loaded into it.

    ``name`` is what stands before the colon on the command line, ``version`` that of the package.
    ``abilities`` are those of "encode", "images" and
    "videos" that it has. Activations have the names and layouts of the ground truth.
    """

    name: str
    version: str
    source: Path
    abilities: frozenset[str]
    notes: tuple[str, ...]  # what loading has to say: tensors that the package drew at random, ...

    @property
    def config(self) -> ModelConfig:
        """What the model was built for."""

    def picture_pixels(self, picture: Picture) -> Tensor:
        """What the package itself makes of a picture: ``1 x 3 x S x S``."""

    def clip_pixels(self, clip: Clip) -> Tensor:
        """What the package itself makes of the frames of a video: ``T x 3 x S x S``."""

    def encode(self, pixels: Tensor) -> Activations:
        """Encode ``1 x 3 x S x S`` pixels; :meth:`segment` is about them from now on."""

    def segment(self, picture: Picture, scenario: ImageScenario) -> Activations:
        """Answer one prompt; ``masks`` are the logits of the masks given: ``1 x M x S/4 x S/4``."""

    def track(
        self, clip: Clip, scenario: VideoScenario, agreed: Activations | None = None
    ) -> Activations:
        """Play a scenario; ``frame3.masks`` are ``objects x 1 x H x W`` logits.

        ``agreed`` is for the :class:`~.activations.Recorder`.
        """

    def tensor(self, name: str) -> Tensor:
        """The model's own tensor (or part of one) of that official name, to be written to.

        Raises KeyError when the model has none of that name.
        """


def tensor_of(model: nn.Module, name: str) -> Tensor:
    """A parameter or buffer of a model, to be written to. Raises KeyError when it has none such."""
    owner, _, last = name.rpartition(".")
    try:
        tensor = getattr(model.get_submodule(owner), last)
    except AttributeError:
        raise KeyError(name) from None
    if not isinstance(tensor, Tensor):
        raise KeyError(name)
    return tensor.detach()


def held(backend: Backend, name: str) -> Tensor | None:
    """The model's own tensor of that official name; None when it has none."""
    try:
        return backend.tensor(name)
    except KeyError:
        return None


def in_pixels(prompt: Prompt, width: int, height: int) -> dict[str, Any]:
    """A prompt's points, labels and box as arguments of a predictor, in pixels; None for none."""
    size = np.array([width, height], np.float32)
    points = np.array(prompt.points, np.float32) * size if prompt.points else None
    labels = np.array(prompt.labels, np.int32) if prompt.points else None
    box = None if prompt.box is None else np.array(prompt.box, np.float32) * np.tile(size, 2)
    return {"points": points, "labels": labels, "box": box}


def image_prompts(picture: Picture, prompt: Prompt) -> dict[str, Tensor | None]:
    """Arguments of :meth:`SAM2.predict_masks`: a batch of one, in pixels of the model's input."""
    side = picture.tensor.shape[-1]
    given = in_pixels(prompt, side, side)
    points, labels, box = (
        None if value is None else torch.from_numpy(value)[None] for value in given.values()
    )
    mask = picture.mask_logits() if prompt.mask else None
    return {"points": points, "labels": labels, "boxes": box, "mask_input": mask}


def play(
    predictor: Any, state: Any, clip: Clip, scenario: VideoScenario, recorder: Recorder
) -> None:
    """Put the steps of a scenario to anything that has the official predictor's methods."""
    for step in scenario.steps:
        for frame, _, masks in _answers(predictor, state, clip, step):
            recorder.add(f"frame{frame}.masks", masks)


def _answers(
    predictor: Any, state: Any, clip: Clip, step: Any
) -> Iterator[tuple[int, list[Any], Tensor]]:
    if not isinstance(step, Ask):
        yield from predictor.propagate_in_video(
            state,
            start_frame_idx=step.start,
            max_frame_num_to_track=step.more,
            reverse=step.reverse,
        )
    elif step.prompt.mask:
        mask = clip.mask() & (not step.prompt.empty)
        yield predictor.add_new_mask(state, step.frame, step.obj, mask)
    else:
        given = in_pixels(step.prompt, clip.width, clip.height)
        yield predictor.add_new_points_or_box(
            state, step.frame, step.obj, **given, clear_old_points=not step.add
        )
