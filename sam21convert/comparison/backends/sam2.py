"""The official package as one side of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...model.config import ModelConfig
from ...prediction.load import Loading
from .. import packages
from ..activations import Activations, Recorder
from ..inputs import Clip, Picture
from ..scenarios import ImageScenario, VideoScenario
from .base import CannotRun, LoadOptions, image_prompts, play, tensor_of
from .hooks import replaced
from .sam2_build import build_predictor, build_published, image_predictor, published_name
from .sam2_hooks import PACKAGE, recording
from .truth import HOLES


class Official:
    """A checkpoint loaded onto the official predictors; see :class:`~.backend.Backend`.

    As their builder makes them with ``apply_postprocessing``; holes are filled where asked for.
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
        self._images = image_predictor(model)

    @classmethod
    def load(cls, source: Path, given: LoadOptions) -> Official:
        """Load ``source`` in float32, read and checked as for the ground truth.

        Settings of a published model come from the package's own YAML. Raises as
        :func:`~sam21convert.load_model`, and :class:`UsageError` without the package.
        """
        model, loading = given.onto(_build, source)
        return cls(source, model, loading)

    def picture_pixels(self, picture: Picture) -> Tensor:
        """What the image predictor's own transforms make of it."""
        pixels: Tensor = self._images._transforms(np.array(picture.pixels))[None]  # 1, 3, S, S
        return pixels

    def clip_pixels(self, clip: Clip) -> Tensor:
        """What its loader makes of a folder of frames.

        It takes names in ``.jpg`` only; what is in them is PNG, so that no pixel changes before.
        """
        utils = packages.module("sam2.utils.misc")
        with TemporaryDirectory() as folder, replaced(utils, tqdm=_silently):
            for number, frame in enumerate(clip.frames):
                Image.fromarray(frame).save(Path(folder) / f"{number}.jpg", format="PNG")
            images: Tensor = utils.load_video_frames(
                folder, self.config.image_size, offload_video_to_cpu=True
            )[0]
        return images

    def encode(self, pixels: Tensor) -> Activations:
        """Encode an image with the image predictor, in the place of whose transforms are pixels."""
        recorder, blank = Recorder(), np.zeros((*pixels.shape[2:], 3), np.uint8)
        with (
            recording(self.model, recorder),
            replaced(self._images, _transforms=lambda _: pixels[0]),
        ):
            self._images.set_image(blank)
        return recorder

    def segment(self, picture: Picture, scenario: ImageScenario) -> Activations:
        """Answer one prompt about it."""
        given = {
            name: None if value is None else value.to(self.model.device)
            for name, value in image_prompts(picture, scenario.prompt).items()
        }
        recorder = Recorder()
        with recording(self.model, recorder) as listen:
            # Logits as the decoder gives them: the predictor clamps what it returns.
            listen.after("sam_mask_decoder", lambda _, found: recorder.add("masks", found[0]))
            self._images._predict(
                given["points"],
                given["labels"],
                given["boxes"],
                given["mask_input"],
                multimask_output=scenario.multimask,
            )
        return recorder

    def track(
        self, clip: Clip, scenario: VideoScenario, agreed: Activations | None = None
    ) -> Activations:
        """Follow objects through a video.

        Raises :class:`CannotRun` for holes to be filled where the package cannot.
        """
        if scenario.fill_holes:
            self._find_holes()
        recorder, holes = Recorder(agreed), HOLES if scenario.fill_holes else 0
        with (
            self._opened(clip) as state,
            replaced(self.model, fill_hole_area=holes),
            recording(self.model, recorder),
        ):
            play(self.model, state, clip, scenario, recorder)
        return recorder

    def tensor(self, name: str) -> Tensor:
        """One of the model's tensors."""
        return tensor_of(self.model, name)

    @contextmanager
    def _opened(self, clip: Clip) -> Iterator[Any]:
        """The state of a video whose frames are the clip's pixels; no progress is shown."""
        video = packages.module("sam2.sam2_video_predictor")
        with replaced(video, tqdm=_silently):
            with (
                replaced(
                    video, load_video_frames=lambda **_: (clip.tensor, clip.height, clip.width)
                ),
                # Frame 0 is encoded when it is looked at, not in advance.
                replaced(self.model, _get_image_feature=lambda *_, **__: None),
            ):
                state = self.model.init_state("")
            yield state

    def _find_holes(self) -> None:
        """Try it, for where that fails the package leaves holes and merely warns."""
        nothing = torch.zeros(1, 1, 8, 8, dtype=torch.bool, device=self.model.device)
        try:
            packages.member("sam2.utils.misc", "get_connected_components")(nothing)
        except Exception as error:  # of a compiled extension, which may be of another torch
            reason = "is not built" if isinstance(error, ImportError) else f"fails: {error}"
            raise CannotRun(
                f"the official code fills holes with its CUDA extension, which {reason}"
            ) from error


def _build(config: ModelConfig) -> Any:
    name = published_name(config)
    with torch.device("cpu"):  # its tables are no part of the checkpoint, and must have values
        if name is not None:
            return build_published(name, config.image_size)
        return build_predictor(config, binarize_mask_from_pts_for_mem_enc=True)


def _notes(config: ModelConfig) -> tuple[str, ...]:
    name = published_name(config)
    if name is not None:
        return (f"settings are those of its own configs/{name}.yaml",)
    return ("not a published model: settings are those of the config given or found",)


def _silently(steps: Any, **_: Any) -> Any:
    """In the place of a progress bar."""
    return steps
