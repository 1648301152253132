"""The interface of a backend: the same questions for every package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ...checkpoint.open import Checkpoint, open_checkpoint
from ...model.config import ModelConfig
from ...prediction.load import Loading, load_onto, with_image_size
from ..activations import Activations, Recorder
from ..inputs import Clip, Picture
from ..scenarios import AddPrompt, ImageScenario, Prompt, VideoScenario

Model = TypeVar("Model", bound=torch.nn.Module)


@dataclass(frozen=True)
class LoadOptions:
    """How to load a checkpoint, as in :func:`~sam21convert.load_model`.

    Attributes:
        config: Config for a source without one: a shipped name, a file or a config; None for its
            own.
        image_size: Side of the model's input in pixels; None for what the config says.
        device: Device to run on.
        opened: The checkpoint as it was opened with ``config`` before; None to open it.
    """

    config: str | Path | ModelConfig | None = None
    image_size: int | None = None
    device: str = "cpu"
    opened: Checkpoint | None = None

    def open(self, source: Path) -> Checkpoint:
        """Open a checkpoint, unless it was opened before.

        Args:
            source: The checkpoint.

        Returns:
            The opened checkpoint.

        Raises:
            UnreadableError: When the source cannot be read.
        """
        return self.opened or open_checkpoint(source, self.config)

    def onto(self, make: Callable[[ModelConfig], Model], source: Path) -> tuple[Model, Loading]:
        """Load a checkpoint in float32; image models are allowed.

        Args:
            make: Builds the model for a config.
            source: The checkpoint.

        Returns:
            The model on the device, and what loading found out about the checkpoint.

        Raises:
            UnreadableError: When the source cannot be read.
            MismatchError: When the checkpoint does not fit its config.
            UsageError: When no config is known, or a required package is not installed.
        """
        return load_onto(
            make,
            source,
            self.config,
            change=with_image_size(self.image_size),
            device=self.device,
            dtype=torch.float32,
            images_only=True,
            opened=self.opened,
        )


class CannotRun(Exception):  # noqa: N818  # not an error: the scenario is left out
    """A package cannot do what a scenario asks for; the message says why."""


class Backend(Protocol):
    """One side of a comparison: a package with a checkpoint loaded into it.

    All activations have the names and the layouts of the ground truth, see :mod:`~.activations`.

    Attributes:
        name: Name on the command line, before the colon.
        version: Version of the package.
        source: The checkpoint.
        abilities: Which of ``"encode"``, ``"images"`` and ``"videos"`` it can run.
        notes: What loading did beyond loading, such as tensors with random values.
    """

    name: str
    version: str
    source: Path
    abilities: frozenset[str]
    notes: tuple[str, ...]

    @property
    def config(self) -> ModelConfig:
        """The config that the model was built for."""

    def picture_pixels(self, picture: Picture) -> Tensor:
        """Preprocess a picture as the package does.

        Args:
            picture: The picture.

        Returns:
            1 x 3 x S x S.
        """

    def clip_pixels(self, clip: Clip) -> Tensor:
        """Preprocess the frames of a video as the package does.

        Args:
            clip: The video.

        Returns:
            T x 3 x S x S.
        """

    def encode(self, pixels: Tensor) -> Activations:
        """Encode an image; the next calls of :meth:`segment` are about it.

        Args:
            pixels: 1 x 3 x S x S, preprocessed.

        Returns:
            Activations of the image encoder.
        """

    def segment(self, picture: Picture, scenario: ImageScenario) -> Activations:
        """Answer one prompt about the image that was encoded last.

        Args:
            picture: The picture that was encoded, which brings the mask prompt with it.
            scenario: The prompt.

        Returns:
            Activations of the prompt encoder and the mask decoder, and ``masks``: logits of the
            masks that a user gets, 1 x M x S/4 x S/4.
        """

    def track(
        self, clip: Clip, scenario: VideoScenario, agreed: Activations | None = None
    ) -> Activations:
        """Run the steps of a scenario on a video.

        Args:
            clip: The video.
            scenario: The steps.
            agreed: Activations that these will be compared with: see
                :class:`~.activations.Recorder`.

        Returns:
            Activations; ``frame3.masks`` are logits, objects x 1 x H x W.
        """

    def tensor(self, name: str) -> Tensor:
        """The model's own tensor, or a view of a part of one, to write to.

        Args:
            name: Canonical name.

        Returns:
            A tensor that shares its memory with the model.

        Raises:
            KeyError: When the model has no tensor of that name.
        """


def tensor_of(model: nn.Module, name: str) -> Tensor:
    """A parameter or buffer of a model, to write to.

    Args:
        model: The model.
        name: The dotted name in the model.

    Returns:
        The tensor, detached, which shares its memory with the model.

    Raises:
        KeyError: When the model has no tensor of that name.
    """
    try:
        tensor = attrgetter(name)(model)
    except AttributeError:
        raise KeyError(name) from None
    if not isinstance(tensor, Tensor):
        raise KeyError(name)
    return tensor.detach()


def held(backend: Backend, name: str) -> Tensor | None:
    """The model's own tensor, if it has one of that name.

    Args:
        backend: The backend.
        name: Canonical name.

    Returns:
        The tensor, which shares its memory with the model; None when the model has none.
    """
    try:
        return backend.tensor(name)
    except KeyError:
        return None


def in_pixels(prompt: Prompt, width: int, height: int) -> dict[str, Any]:
    """A prompt's points, labels and box as arguments of a predictor.

    Args:
        prompt: The prompt, in relative coordinates.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.

    Returns:
        ``points`` (N x 2) and ``box`` (4) in pixels, and ``labels`` (N), as arrays; None for what
        the prompt does not have.
    """
    size = np.array([width, height], np.float32)
    points = np.array(prompt.points, np.float32) * size if prompt.points else None
    labels = np.array(prompt.labels, np.int32) if prompt.points else None
    box = None if prompt.box is None else np.array(prompt.box, np.float32) * np.tile(size, 2)
    return {"points": points, "labels": labels, "box": box}


def image_prompts(picture: Picture, prompt: Prompt) -> dict[str, Tensor | None]:
    """A prompt as arguments of :meth:`SAM2.predict_masks`, for a batch of one image.

    Args:
        picture: The picture, which brings the mask prompt with it.
        prompt: The prompt, in relative coordinates.

    Returns:
        ``points`` (1 x N x 2) and ``boxes`` (1 x 4) in pixels of the model's input, ``labels`` (1 x
        N) and ``mask_input`` (1 x 1 x S/4 x S/4); None for what the prompt does not have.
    """
    side = picture.tensor.shape[-1]
    arrays = in_pixels(prompt, side, side)
    points, labels, box = (
        None if value is None else torch.from_numpy(value)[None] for value in arrays.values()
    )
    mask = picture.mask_logits() if prompt.mask else None
    return {"points": points, "labels": labels, "boxes": box, "mask_input": mask}


def play(
    predictor: Any, state: Any, clip: Clip, scenario: VideoScenario, recorder: Recorder
) -> None:
    """Run the steps of a scenario on a predictor.

    Args:
        predictor: An object with the methods of the official video predictor.
        state: Its inference state.
        clip: The video.
        scenario: The steps.
        recorder: Gets the masks of every answer, such as ``frame3.masks``.
    """
    for step in scenario.steps:
        for frame, _, masks in _answers(predictor, state, clip, step):
            recorder.add(f"frame{frame}.masks", torch.as_tensor(masks))


def _answers(
    predictor: Any, state: Any, clip: Clip, step: Any
) -> Iterator[tuple[int, list[Any], Tensor]]:
    if not isinstance(step, AddPrompt):
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
        prompt = in_pixels(step.prompt, clip.width, clip.height)
        yield predictor.add_new_points_or_box(
            state, step.frame, step.obj, **prompt, clear_old_points=not step.add
        )
