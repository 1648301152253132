"""This package's model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from ...model.inference_state import Session
from ...model.memory_bank import reach
from ...model.video_frames import stream_frames
from ...model.video_predictor import SAM2VideoPredictor
from ...prediction.load import load_onto, with_image_size
from ...prediction.media import naming_faults
from .base import Frame, Predictor, Wanted


class Truth(Predictor):
    """This package's video predictor, without post-processing, as the official script has it."""

    @classmethod
    def load(cls, wanted: Wanted) -> Truth:
        """Load a checkpoint in float32.

        Args:
            wanted: The checkpoint, and how to load it.

        Returns:
            The tracker.

        Raises:
            Sam21ConvertError: As :func:`~sam21convert.load_model` does.
        """
        sized = with_image_size(wanted.image_size)
        predictor, _ = load_onto(
            SAM2VideoPredictor,
            wanted.opened.source.path,
            None,
            change=lambda config: replace(sized(config), dynamic_multimask_via_stability=False),
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
            UnreadableError: If one cannot be read.
        """
        predictor = self.predictor
        with naming_faults():
            read = stream_frames(frames, predictor.image_size, predictor.device)
        self.state = Session(read, predictor.device, predictor.device)
        return self.state.video_height, self.state.video_width

    def follow(self, start: int | None = None) -> Iterator[Frame]:
        """Track all objects forwards, and forget the memories that no later frame will use.

        The official code keeps all of them, so that a long video does not fit into memory.

        Args:
            start: As for :class:`~.base.Tracker`.

        Yields:
            As there.
        """
        config = self.predictor.config
        stride = self.predictor.memory_temporal_stride_for_eval
        back = reach(config.num_maskmem, stride, config.max_obj_ptrs_in_encoder)
        for frame, logits in super().follow(start):
            for tracked in self.state.objects.values():
                tracked.forget_memories([frame - back])
            yield frame, logits
