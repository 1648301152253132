"""The pictures and videos that both models are shown: drawn, or the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UnreadableError, UsageError
from ..model.image_predictor import pixels_of
from ..model.video_frames import load_frames
from ..prediction.draw import Mask, Pixels, scene
from ..prediction.media import frames_of, read_picture

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_HEIGHT, _WIDTH = 180, 240
_CERTAIN = 10.0
_RADIUS = 0.14  # of the mask that comes with an input, in shares of the sides


@dataclass(frozen=True)
class Picture:
    """A picture, and what the ground truth makes of it: the same tensor for both models."""

    name: str  # "" for the drawn one
    pixels: Pixels
    tensor: Tensor  # 1 x 3 x S x S

    def mask_logits(self) -> Tensor:
        """A round mask that fades out, as logits at a quarter of the model's resolution."""
        quarter = self.tensor.shape[-1] // 4
        far = _distance(quarter, quarter, 0.35, 0.6) / _RADIUS
        logits = _CERTAIN * (1 - far).clip(-1, 1)
        return torch.from_numpy(logits.astype(np.float32))[None, None]  # 1, 1, S/4, S/4


@dataclass(frozen=True)
class Clip:
    """A video, and what the ground truth makes of its frames."""

    name: str
    frames: tuple[Pixels, ...]
    tensor: Tensor  # T x 3 x S x S

    @property
    def height(self) -> int:
        """Height of the video, in pixels."""
        return int(self.frames[0].shape[0])

    @property
    def width(self) -> int:
        """Width of the video, in pixels."""
        return int(self.frames[0].shape[1])

    def first(self, count: int) -> Clip:
        """The clip, no longer than ``count`` frames."""
        return Clip(self.name, self.frames[:count], self.tensor[:count])

    def mask(self) -> Mask:
        """The mask of the disc on the first frame; on a video of the user's, a disc."""
        inside: Mask = _distance(self.height, self.width, *_centre(0)) < _RADIUS
        return inside


def pictures(folder: Path | None, image_size: int) -> tuple[Picture, ...]:
    """The drawn scene, or every picture of a folder by name.

    Raises :class:`UsageError` when it has none, and :class:`UnreadableError` for one that is none.
    """
    if folder is None:
        drawn = scene(image_size * 3 // 4)  # of another size than the model's, to be resized
        return (Picture("", drawn, pixels_of(drawn, image_size)),)
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder of pictures")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES]
    if not paths:
        raise UsageError(f"{folder}: expected pictures, found none ({', '.join(_SUFFIXES)})")
    return tuple(
        Picture(path.name, pixels, pixels_of(pixels, image_size))
        for path, pixels in ((path, read_picture(path)) for path in paths)
    )


def clip(video: Path | None, image_size: int, length: int) -> Clip:
    """The drawn video, or the user's, of ``length`` frames at most.

    Raises :class:`UnreadableError` for what is not a video, :class:`UsageError` for a path that is
    not there.
    """
    frames: Sequence[Pixels]
    if video is None:
        frames = [drawn_frame(number) for number in range(length)]
    elif not video.exists():
        raise UsageError(f"{video}: no such file or folder")
    else:
        try:
            frames = list(islice(frames_of(video), length))
        except (OSError, ValueError) as error:
            raise UnreadableError(f"{video}: is not a video: {error}") from error
    loaded = load_frames(frames, image_size, "cpu")
    assert isinstance(loaded.images, Tensor)
    return Clip("" if video is None else video.name, tuple(frames), loaded.images)


def drawn_frame(number: int) -> Pixels:
    """A disc that crosses the picture, is gone on frames 7 to 11, and comes back."""
    y, x = np.mgrid[:_HEIGHT, :_WIDTH] / [[[_HEIGHT]], [[_WIDTH]]]
    picture = np.stack([x, y, 0.5 + 0.3 * np.sin(9 * x + 0.5 * number)], axis=-1)
    if not 7 <= number < 12:
        disc = _distance(_HEIGHT, _WIDTH, *_centre(number)) < _RADIUS
        picture[disc] = (1.0, 0.2, 0.1)
    return (picture.clip(0, 1) * 255).astype(np.uint8)


def _centre(number: int) -> tuple[float, float]:
    return 0.25 + 0.03 * number, 0.5 + 0.2 * float(np.sin(number / 2))


def _distance(height: int, width: int, x: float, y: float) -> NDArray[np.float64]:
    """Of every pixel's place from a point, in shares of the sides."""
    down, across = np.mgrid[:height, :width] / np.array([[[height]], [[width]]])
    far: NDArray[np.float64] = np.hypot(across - x, down - y)
    return far
