"""The official video predictor, as the official script builds and drives it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...errors import UnreadableError, UsageError
from ...model.config import ModelConfig
from ...packages import module
from ...prediction.backends.replaced import replaced
from ...prediction.backends.sam2_build import (
    build_predictor,
    build_published,
    published_name,
    silently,
)
from ...prediction.load import load_onto, with_image_size
from .base import Frame, Predictor, Wanted


class Official(Predictor):
    """The package sam2: it reads the frames too."""

    @classmethod
    def load(cls, wanted: Wanted) -> Official:
        """Load a checkpoint, which is read and checked as for this package's model.

        Args:
            wanted: The checkpoint, and how to load it.

        Returns:
            The tracker, in float32.

        Raises:
            UsageError: If it is to compute in float16.
            MissingPackageError: If sam2 is not installed.
            Sam21ConvertError: As :func:`~sam21convert.load_model` does.
        """
        if wanted.dtype == "float16":
            raise UsageError(
                f"{wanted.opened.source.path}: sam2 keeps memories in bfloat16, which autocast to "
                "float16 does not take; the published figures are of bfloat16"
            )
        predictor, _ = load_onto(
            _build,
            wanted.opened.source.path,
            None,
            change=with_image_size(wanted.image_size),
            device=wanted.device,
            dtype=torch.float32,
            opened=wanted.opened,
        )
        return cls(predictor)

    def begin(self, frames: Path) -> tuple[int, int]:
        """Open a video.

        Args:
            frames: The folder of its frames.

        Returns:
            Height and width of the frames in pixels.

        Raises:
            UnreadableError: If sam2 cannot read them.
        """
        try:
            with replaced(module("sam2.utils.misc"), tqdm=silently):
                self.state = self.predictor.init_state(str(frames), offload_video_to_cpu=True)
        except Exception as error:  # of many libraries
            raise UnreadableError(f"{frames}: sam2 does not read the frames: {error}") from error
        return self.state["video_height"], self.state["video_width"]

    def follow(self, start: int | None = None) -> Iterator[Frame]:
        """Track all objects forwards, without a bar of progress.

        Args:
            start: As for :class:`~.base.Tracker`.

        Yields:
            As there.
        """
        with replaced(module("sam2.sam2_video_predictor"), tqdm=silently):
            yield from super().follow(start)


def _build(config: ModelConfig) -> Any:
    name = published_name(config)
    with torch.device("cpu"):  # not on meta: tables outside the checkpoint need their values
        if name is not None:
            return build_published(name, config.image_size, postprocessing=False)
        return build_predictor(replace(config, dynamic_multimask_via_stability=False))
