"""What a step of training learns from: clips, and the true masks of their objects."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """``V`` clips of ``T`` frames with ``O`` objects in all; ``T`` is 1 for images.

    Attributes:
        frames: ``T x V x 3 x S x S``, normalised as for :meth:`SAM2.encode_frame`.
        masks: The true masks, ``T x O x S x S``, bool; all false where an object is not there.
        clip: The clip of each object, ``O``, int64.
    """

    frames: Tensor
    masks: Tensor
    clip: Tensor

    def __post_init__(self) -> None:
        frames, masks, clip = self.frames, self.masks, self.clip
        if frames.ndim != 5 or frames.shape[2] != 3 or frames.shape[3] != frames.shape[4]:
            raise ValueError(f"frames: expected T x V x 3 x S x S, found {_sizes(frames)}")
        expected = (len(frames), len(clip), *frames.shape[3:])
        if clip.ndim != 1 or masks.shape != expected or masks.dtype != torch.bool:
            raise ValueError(
                f"masks: expected bool of {' x '.join(map(str, expected))} with one clip for each "
                f"object, found {masks.dtype} of {_sizes(masks)}"
            )
        if not len(clip):
            raise ValueError("masks: expected at least one object, found none")
        if int(clip.min()) < 0 or int(clip.max()) >= frames.shape[1]:
            raise ValueError(
                f"clip: expected numbers of {frames.shape[1]} clips, found "
                f"{int(clip.min())} to {int(clip.max())}"
            )

    def to(self, device: torch.device | str) -> Batch:
        """Move it to a device.

        Args:
            device: Where to.

        Returns:
            The batch there.
        """
        return Batch(self.frames.to(device), self.masks.to(device), self.clip.to(device))


def _sizes(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"
