"""The pictures and videos that both models get: drawn ones, or the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UsageError
from ..io.nearby import missing
from ..model.image_predictor import pixels_of
from ..model.video_frames import load_frames
from ..prediction.draw import Mask, Pixels
from ..prediction.media import frames_of, naming_faults, read_picture

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_HEIGHT, _WIDTH = 180, 240
_PEAK = 10.0  # the logit in the middle of the mask prompt; at the edge of the picture it is -10
_RADIUS = 0.14  # of the disc and of the mask prompt, as a share of the sides


@dataclass(frozen=True)
class Picture:
    """A picture, and its pixels as both models get them.

    Attributes:
        name: File name; empty for the drawn one.
        pixels: H x W x 3 bytes, before resizing.
        tensor: 1 x 3 x S x S, resized and normalised by the ground truth. The drawn picture is
            resized as a frame, so that it is the first one of the drawn video to the last bit.
    """

    name: str
    pixels: Pixels
    tensor: Tensor

    def mask_logits(self) -> Tensor:
        """A round mask that fades out, to use as a mask prompt: on the disc of the drawn picture.

        Returns:
            Logits at a quarter of the model's resolution: 1 x 1 x S/4 x S/4.
        """
        quarter = self.tensor.shape[-1] // 4
        far = _distance(quarter, quarter, *_centre(0)) / _RADIUS
        logits = _PEAK * (1 - far).clip(-1, 1)
        return torch.from_numpy(logits.astype(np.float32))[None, None]  # 1, 1, S/4, S/4


@dataclass(frozen=True)
class Clip:
    """A video, and its frames as both models get them.

    Attributes:
        name: File or folder name; empty for the drawn one.
        frames: H x W x 3 bytes each, before resizing.
        tensor: T x 3 x S x S, resized and normalised by the ground truth.
    """

    name: str
    frames: tuple[Pixels, ...]
    tensor: Tensor

    @property
    def height(self) -> int:
        """Height of the video, in pixels."""
        return int(self.frames[0].shape[0])

    @property
    def width(self) -> int:
        """Width of the video, in pixels."""
        return int(self.frames[0].shape[1])

    def first(self, count: int) -> Clip:
        """The beginning of the clip.

        Args:
            count: The largest number of frames.

        Returns:
            A clip of the same name with at most ``count`` frames.
        """
        return Clip(self.name, self.frames[:count], self.tensor[:count])

    def still(self) -> Clip:
        """A clip as long that shows its first frame all the time.

        Returns:
            A clip of the same name, whose frames share their memory.
        """
        frames = (self.frames[0],) * len(self.frames)
        return Clip(self.name, frames, self.tensor[:1].expand_as(self.tensor))

    def mask(self) -> Mask:
        """A mask prompt for the first frame.

        Returns:
            H x W, true on the disc of the drawn video; on a user's video, a disc at the same place.
        """
        inside: Mask = _distance(self.height, self.width, *_centre(0)) < _RADIUS
        return inside


def pictures(folder: Path | None, image_size: int) -> tuple[Picture, ...]:
    """The first frame of the drawn video, or every picture of a folder.

    Args:
        folder: A folder with pictures; None for the drawn one.
        image_size: Side of the model's input in pixels.

    Returns:
        The pictures in the order of their names.

    Raises:
        MissingFileError: When the path does not exist.
        UsageError: When it is not a folder, or has no pictures.
        UnreadableError: For a picture that cannot be read.
    """
    if folder is None:
        video = clip(None, image_size, 1)
        return (Picture("", video.frames[0], video.tensor),)
    if not folder.exists():
        raise missing(folder)
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
    """The drawn video, or the user's.

    Args:
        video: A video file or a folder of numbered pictures; None for the drawn video.
        image_size: Side of the model's input in pixels.
        length: The largest number of frames to read.

    Returns:
        The first frames of the video.

    Raises:
        MissingFileError: When the path does not exist.
        UnreadableError: When it is not a video.
        RefusedError: When it is one that is not taken.
    """
    frames: Sequence[Pixels]
    if video is None:
        frames = [drawn_frame(number) for number in range(length)]
    elif not video.exists():
        raise missing(video)
    else:
        with naming_faults():
            frames = list(islice(frames_of(video), length))
    loaded = load_frames(frames, image_size, "cpu")
    assert isinstance(loaded.images, Tensor)
    return Clip("" if video is None else video.name, tuple(frames), loaded.images)


def drawn_frame(number: int) -> Pixels:
    """One frame of the drawn video: a disc that moves, disappears and returns.

    It is absent on frames 7 to 11. Frame 2 is frame 0 again: each model encodes a picture once, and
    a short video shall not take longer than it must.

    Args:
        number: Index of the frame.

    Returns:
        180 x 240 x 3 bytes.
    """
    number = _shown(number)
    y, x = np.mgrid[:_HEIGHT, :_WIDTH] / [[[_HEIGHT]], [[_WIDTH]]]
    picture = np.stack([x, y, 0.5 + 0.3 * np.sin(9 * x + 0.5 * number)], axis=-1)
    picture[disc(number, _HEIGHT, _WIDTH)] = (1.0, 0.2, 0.1)
    return (picture.clip(0, 1) * 255).astype(np.uint8)


def disc(number: int, height: int, width: int) -> Mask:
    """Where the disc is on a frame of the drawn video.

    Args:
        number: Index of the frame.
        height: Height of the mask in pixels.
        width: Width of the mask in pixels.

    Returns:
        H x W; nothing is set where the disc is absent.
    """
    number = _shown(number)
    inside: Mask = _distance(height, width, *_centre(number)) < _RADIUS
    return inside & (not 7 <= number < 12)


def _shown(number: int) -> int:
    return 0 if number == 2 else number


def _centre(number: int) -> tuple[float, float]:
    return 0.25 + 0.03 * number, 0.5 + 0.2 * float(np.sin(number / 2))


def _distance(height: int, width: int, x: float, y: float) -> NDArray[np.float64]:
    """Distance of every pixel from a point, as a share of the sides: H x W."""
    down, across = np.mgrid[:height, :width] / np.array([[[height]], [[width]]])
    far: NDArray[np.float64] = np.hypot(across - x, down - y)
    return far
