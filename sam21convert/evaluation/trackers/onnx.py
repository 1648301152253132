"""An export, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path

from ...errors import UsageError
from ...export.runtime import OnnxVideoPredictor, load
from .base import Predictor, Wanted


class Onnx(Predictor):
    """An export with the graphs for videos, on the CPU."""

    @classmethod
    def load(cls, wanted: Wanted) -> Onnx:
        """Open an export.

        Args:
            wanted: The export, and how to load it.

        Returns:
            The tracker.

        Raises:
            UsageError: If another size, device or type is asked for, or the export has no graphs
                for videos.
            Sam21ConvertError: If it cannot be read.
        """
        folder = wanted.opened.source.path
        if wanted.dtype != "float32":
            raise UsageError(
                f"{folder}: an export computes in the types that it was written in, and not in "
                f"{wanted.dtype}",
            )
        if wanted.device not in ("auto", "cpu"):
            raise UsageError(
                f"{folder}: an export is run on the CPU, and not on {wanted.device}",
            )
        model = load(folder)
        if wanted.image_size not in (None, model.image_size):
            raise UsageError(
                f"{folder}: was exported for {model.image_size} pixels, and not for "
                f"{wanted.image_size}",
            )
        return cls(OnnxVideoPredictor(model, 0, binarize_mask_from_pts_for_mem_enc=False))

    def begin(self, frames: Path) -> tuple[int, int]:
        """Open a video.

        Args:
            frames: The folder of its frames.

        Returns:
            Height and width of the frames in pixels.

        Raises:
            UnreadableError: If one cannot be read.
        """
        self.state = self.predictor.init_state(str(frames))
        return self.state.frames.height, self.state.frames.width
