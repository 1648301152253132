"""An export in ONNX as one side of a comparison, run by the driver that users run it with."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import packages
from ...errors import UsageError
from ...export.runtime import Frames, OnnxModel, OnnxVideoPredictor, load
from ...export.runtime.image import answer
from ...export.runtime.model import Features
from ...export.runtime.pictures import load_frames, pixels_of
from ...export.runtime.prompts import Prompts
from ...io.data.copy import Files, read_bytes
from ...io.onnx import read_onnx_folder
from ...model.config import ModelConfig
from ..activations import Activations, Recorder
from ..inputs import Clip, Picture
from ..scenarios import ImageScenario, VideoScenario
from .base import CannotRun, LoadOptions, image_prompts, play
from .truth import HOLES


class Onnx:
    """An export in float32; implements :class:`~.base.Backend`.

    Args:
        source: The folder.
        model: The export, opened.
    """

    name = "onnx"

    def __init__(self, source: Path, model: OnnxModel) -> None:
        self.source = source
        self.model = model
        self.version = packages.version("onnxruntime")
        self.abilities = frozenset(
            {"encode", "images"} | ({"videos"} if model.has_video else set())
        )
        self.notes: tuple[str, ...] = ()
        self.features: Features | None = None

    @classmethod
    def load(cls, source: Path, given: LoadOptions) -> Onnx:
        """Open an export. It runs on the CPU, at the size that it was made for.

        Args:
            source: The folder.
            given: Its ``device`` and ``config`` have no effect.

        Returns:
            The backend.

        Raises:
            UsageError: When another image size is asked for, or onnxruntime is not installed.
            UnreadableError: When the folder is not one, or is damaged.
        """
        packages.require("onnx", "onnx:", packages=("onnxruntime",))
        model = load(source)
        if given.image_size not in (None, model.image_size):
            raise UsageError(
                f"{source}: `image_size={given.image_size}`: was exported for {model.image_size} "
                "pixels",
                hint="export it for that size: "
                f"`convert(CHECKPOINT, OUT, to=onnx, image_size={given.image_size})`",
            )
        return cls(model.folder, model)

    @property
    def config(self) -> ModelConfig:
        """The config that the export carries."""
        return self.model.config

    def picture_pixels(self, picture: Picture) -> Tensor:
        """Prepare a picture as the driver does.

        Args:
            picture: The picture.

        Returns:
            ``1 x 3 x S x S``.
        """
        return torch.from_numpy(pixels_of(picture.pixels, self.model.image_size))

    def clip_pixels(self, clip: Clip) -> Tensor:
        """Prepare the frames of a video as the driver does.

        Args:
            clip: The video.

        Returns:
            ``T x 3 x S x S``.
        """
        frames = load_frames(list(clip.frames), self.model.image_size).images
        return torch.from_numpy(np.stack([frames[n] for n in range(len(frames))]))

    def encode(self, pixels: Tensor) -> Activations:
        """Encode an image; the next calls of :meth:`segment` are about it.

        Args:
            pixels: ``1 x 3 x S x S``.

        Returns:
            Activations of the image encoder.
        """
        self.features = found = self.model.encode(pixels.cpu().numpy())
        levels = found.fine, found.middle, found.embedding
        return _recorded({f"features.level{n}": level for n, level in enumerate(levels)})

    def segment(self, picture: Picture, scenario: ImageScenario) -> Activations:
        """Answer one prompt about the image that was encoded last.

        Args:
            picture: The picture, which brings the mask prompt with it.
            scenario: The prompt.

        Returns:
            Activations of the mask decoder, ``iou`` and ``masks``.

        Raises:
            CannotRun: When the prompt needs graphs that the export does not have.
        """
        assert self.features is not None
        given = {
            name: None if value is None else value.numpy()
            for name, value in image_prompts(picture, scenario.prompt).items()
        }
        box = given["boxes"]
        prompts = Prompts(
            given["points"],
            given["labels"],
            None if box is None else box.reshape(-1, 2, 2),
            given["mask_input"],
        )
        try:
            found = answer(self.model, self.features, prompts, multimask=scenario.multimask)
        except UsageError as reason:
            raise CannotRun("the export has no graphs for videos, which this takes") from reason
        return _recorded(
            {
                "decoder.object_score": found.object_score,
                "iou": found.iou,
                "masks": found.logits,
            }
        )

    def track(
        self, clip: Clip, scenario: VideoScenario, agreed: Activations | None = None
    ) -> Activations:
        """Run the steps of a scenario on a video.

        Args:
            clip: The video.
            scenario: The steps.
            agreed: Activations that these will be compared with.

        Returns:
            Activations; ``frame3.masks`` are logits, objects x 1 x H x W.
        """
        recorder = Recorder(agreed)
        predictor = OnnxVideoPredictor(
            self.model, fill_hole_area=HOLES if scenario.fill_holes else 0
        )
        predictor.observer = _Observer(recorder)
        state = predictor.init_state(Frames(clip.tensor.cpu().numpy(), clip.height, clip.width))
        play(predictor, state, clip, scenario, recorder)
        return recorder

    def tensor(self, name: str) -> Tensor:
        """A tensor as the files of the export hold it; writing to it changes nothing that runs.

        Args:
            name: Canonical name.

        Returns:
            The tensor.

        Raises:
            KeyError: When the export has no tensor of that name.
        """
        ref = self._tensors[name]
        with Files() as files:
            raw = read_bytes(files, ref)
        return torch.frombuffer(raw, dtype=torch.float32).reshape(ref.spec.shape)

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        return dict(read_onnx_folder(self.source).root)


class _Observer:
    """Passes what the driver computes to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def activation(self, place: str, name: str, array: NDArray[np.float32]) -> None:
        with self._recorder.within(place):
            self._recorder.add(name, torch.from_numpy(array))

    def mask(self, place: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._recorder.within(place):
            kept = self._recorder.remember_signs(torch.from_numpy(array))
        found: NDArray[np.float32] = kept.numpy()
        return found

    def memory(self, place: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._recorder.within(place):
            kept = self._recorder.remember(torch.from_numpy(array).bfloat16())
        found: NDArray[np.float32] = kept.float().numpy()
        return found


def _recorded(arrays: dict[str, NDArray[np.float32]]) -> Activations:
    recorder = Recorder()
    for name, array in arrays.items():
        recorder.add(name, torch.from_numpy(array))
    return recorder
