"""``Sam2VideoModel`` of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...checkpoint.open import open_checkpoint
from ...conversion.api import convert
from ...dialects import HF_IMAGE, HF_VIDEO
from ...errors import RefusedError
from ...io.output.temporary import temporary_folder
from ...io.source import CONFIG
from ...model.inference_state import Session
from ...model.video_frames import load_frames
from ...prediction.backends.transformers_load import load_as_described, quiet
from ...prediction.backends.transformers_video import TransformersPredictor
from ...prediction.media import as_ours
from .base import Frame, Predictor, Wanted


class Transformers(Predictor):
    """A folder in ``Sam2VideoModel``; any other checkpoint is converted to one first.

    It gets the frames as the official code resizes them.

    Args:
        predictor: The model with the methods of the official predictor.
        image_size: Side of its input in pixels.
        device: Its device.
    """

    def __init__(self, predictor: Any, image_size: int, device: str) -> None:
        super().__init__(predictor)
        self.image_size = image_size
        self.device = device

    @classmethod
    def load(cls, wanted: Wanted) -> Transformers:
        """Load a checkpoint in float32.

        Args:
            wanted: The checkpoint, and how to load it.

        Returns:
            The tracker.

        Raises:
            RefusedError: If it is an image model.
            MissingPackageError: If transformers is not installed.
            Sam21ConvertError: As :func:`~sam21convert.convert` does.
        """
        path = wanted.opened.source.path
        if wanted.opened.dialect is HF_IMAGE:
            raise RefusedError(
                f"{path}: is an image model, and transformers tracks with a video model",
                hint="give the checkpoint that it was made from",
            )
        if (path / CONFIG).exists() and wanted.opened.dialect is HF_VIDEO:
            return cls._of_folder(path, wanted)
        with temporary_folder() as home:
            folder = home / "converted"
            convert(path, folder, to=HF_VIDEO.name, config=wanted.opened.model_config)
            return cls._of_folder(folder, wanted._replace(opened=open_checkpoint(folder)))

    @classmethod
    def _of_folder(cls, folder: Path, wanted: Wanted) -> Transformers:
        loaded, config = load_as_described(folder, wanted.opened, wanted.image_size, wanted.device)
        predictor = TransformersPredictor(loaded.video, loaded.processor)
        return cls(predictor, config.image_size, wanted.device)

    def begin(self, frames: Path) -> tuple[int, int]:
        """Open a video.

        Args:
            frames: The folder of its frames.

        Returns:
            Height and width of the frames in pixels.

        Raises:
            UnreadableError: If one cannot be read.
        """
        device = self.predictor.model.device
        try:
            read = load_frames(str(frames), self.image_size, device, offload_to_cpu=True)
        except ValueError as error:
            raise as_ours(error) from error
        self.state = self.predictor.init_state(Session(read, device, device))
        return read.height, read.width

    def forget(self) -> None:
        """Forget all objects of the video."""
        self.state.reset_inference_session()

    def add(self, frame: int, number: int, mask: NDArray[np.bool_]) -> None:
        """Point at an object by its mask.

        Args:
            frame: As for :class:`~.base.Tracker`.
            number: As there.
            mask: As there.
        """
        with quiet():
            super().add(frame, number, mask)

    def follow(self, start: int | None = None) -> Iterator[Frame]:
        """Track all objects forwards.

        Args:
            start: As for :class:`~.base.Tracker`.

        Yields:
            As there.
        """
        with quiet():
            yield from super().follow(start)
