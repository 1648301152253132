"""The official package as one side of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ... import packages
from ...io.output.temporary import temporary_folder
from ...model.config import ModelConfig
from ...prediction.backends.replaced import replaced
from ...prediction.backends.sam2_build import (
    build_predictor,
    build_published,
    image_predictor,
    published_name,
    silently,
)
from ...prediction.load import Loading
from ..activations import Activations, Recorder
from ..inputs import Clip, Picture
from ..scenarios import ImageScenario, VideoScenario
from .base import CannotRun, LoadOptions, image_prompts, play, tensor_of
from .encodings import Encodings
from .sam2_hooks import PACKAGE, recording
from .truth import HOLES


class Official:
    """A checkpoint in the official predictors; see :class:`~.base.Backend`.

    The predictors are as their builder makes them with ``apply_postprocessing``, but holes are
    filled only in scenarios that ask for it.

    Args:
        source: The checkpoint.
        model: The official video predictor with the weights.
        loading: What loading found out about the checkpoint.
    """

    name = PACKAGE

    def __init__(self, source: Path, model: Any, loading: Loading) -> None:
        self.source = source
        self.model = model
        self.version = packages.version(PACKAGE)
        self.config = loading.config
        videos = set() if loading.dialect == "hf-image" else {"videos"}
        self.abilities = frozenset({"encode", "images"} | videos)
        self.notes = _notes(loading.config)
        self.encodings = Encodings()
        self._images = image_predictor(model)

    @classmethod
    def load(cls, source: Path, options: LoadOptions) -> Official:
        """Load a checkpoint, which is read and checked as for the ground truth.

        Settings of a published model come from the package's own YAML.

        Args:
            source: The checkpoint.
            options: How to load it.

        Returns:
            The backend, in float32.

        Raises:
            UnreadableError: When the source cannot be read.
            MismatchError: When the checkpoint does not fit its config.
            UsageError: When sam2 is not installed.
        """
        model, loading = options.onto(_build, source)
        return cls(source, model, loading)

    def picture_pixels(self, picture: Picture) -> Tensor:
        """Preprocess a picture with the transforms of the official image predictor.

        Args:
            picture: The picture.

        Returns:
            1 x 3 x S x S.
        """
        pixels: Tensor = self._images._transforms(np.array(picture.pixels))[None]  # 1, 3, S, S
        return pixels

    def clip_pixels(self, clip: Clip) -> Tensor:
        """Preprocess frames with the official loader of frame folders.

        The loader accepts only names that end in ``.jpg``. The files are PNG nevertheless, so that
        compression does not change a pixel.

        Args:
            clip: The video.

        Returns:
            T x 3 x S x S.
        """
        utils = packages.module("sam2.utils.misc")
        with temporary_folder() as folder, replaced(utils, tqdm=silently):
            for number, frame in enumerate(clip.frames):
                Image.fromarray(frame).save(folder / f"{number}.jpg", format="PNG")
            images: Tensor = utils.load_video_frames(
                str(folder), self.config.image_size, offload_video_to_cpu=True
            )[0]
        return images

    def encode(self, pixels: Tensor) -> Activations:
        """Encode an image with the official image predictor; its own transforms are bypassed.

        Args:
            pixels: 1 x 3 x S x S, preprocessed.

        Returns:
            Activations of the image encoder.
        """
        recorder, blank = Recorder(), np.zeros((*pixels.shape[2:], 3), np.uint8)
        with (
            recording(self.model, recorder, self.encodings),
            replaced(self._images, _transforms=lambda _: pixels[0]),
        ):
            self._images.set_image(blank)
        return recorder

    def segment(self, picture: Picture, scenario: ImageScenario) -> Activations:
        """Answer one prompt about the image that was encoded last.

        Args:
            picture: The picture that was encoded.
            scenario: The prompt.

        Returns:
            Activations of the prompt encoder and the mask decoder, and ``masks``.
        """
        prompts = {
            name: None if value is None else value.to(self.model.device)
            for name, value in image_prompts(picture, scenario.prompt).items()
        }
        recorder = Recorder()
        with recording(self.model, recorder, self.encodings) as hooks:
            # The logits of the decoder, because the predictor clamps what it returns.
            hooks.after("sam_mask_decoder", lambda _, found: recorder.add("masks", found[0]))
            self._images._predict(
                prompts["points"],
                prompts["labels"],
                prompts["boxes"],
                prompts["mask_input"],
                multimask_output=scenario.multimask,
            )
        return recorder

    def track(
        self, clip: Clip, scenario: VideoScenario, agreed: Activations | None = None
    ) -> Activations:
        """Run the steps of a scenario on a video.

        Args:
            clip: The video.
            scenario: The steps.
            agreed: Activations that these will be compared with.

        Returns:
            Activations, with masks of every answer.

        Raises:
            CannotRun: When holes must be filled and the package's CUDA extension does not work.
        """
        if scenario.fill_holes:
            self._check_hole_filling()
        recorder, holes = Recorder(agreed), HOLES if scenario.fill_holes else 0
        with (
            self._opened(clip) as state,
            replaced(self.model, fill_hole_area=holes),
            recording(self.model, recorder, self.encodings),
        ):
            play(self.model, state, clip, scenario, recorder)
        return recorder

    def tensor(self, name: str) -> Tensor:
        """One of the model's tensors, to write to.

        Args:
            name: Canonical name.

        Returns:
            A tensor that shares its memory with the model.

        Raises:
            KeyError: When the model has no tensor of that name.
        """
        return tensor_of(self.model, name)

    @contextmanager
    def _opened(self, clip: Clip) -> Iterator[Any]:
        """The inference state of a video whose frames are the tensor of the clip."""
        video = packages.module("sam2.sam2_video_predictor")
        with replaced(video, tqdm=silently):
            with (
                replaced(
                    video, load_video_frames=lambda **_: (clip.tensor, clip.height, clip.width)
                ),
                # init_state would encode frame 0 before anything is recorded.
                replaced(self.model, _get_image_feature=lambda *_, **__: None),
            ):
                state = self.model.init_state("")
            yield state

    def _check_hole_filling(self) -> None:
        """Try the extension: where it fails, the package leaves the holes and only warns."""
        nothing = torch.zeros(1, 1, 8, 8, dtype=torch.bool, device=self.model.device)
        try:
            packages.member("sam2.utils.misc", "get_connected_components")(nothing)
        except Exception as error:  # any: the extension may be built for another torch
            reason = "is not built" if isinstance(error, ImportError) else f"fails: {error}"
            raise CannotRun(
                f"the official code fills holes with its CUDA extension, which {reason}"
            ) from error


def _build(config: ModelConfig) -> Any:
    name = published_name(config)
    with torch.device("cpu"):  # not on meta: tables outside the checkpoint need their values
        if name is not None:
            return build_published(name, config.image_size)
        return build_predictor(config, binarize_mask_from_pts_for_mem_enc=True)


def _notes(config: ModelConfig) -> tuple[str, ...]:
    name = published_name(config)
    if name is not None:
        return (f"settings come from the package's own configs/{name}.yaml",)
    return ("not a published model: settings come from the config of the checkpoint",)
