"""Pictures and frames of videos as the model takes them: square, normalised, in float32.

Equal to ``pixels_of`` of :mod:`~sam21convert.model.image_predictor` and to
:mod:`~sam21convert.model.video_frames`, without torch. Pillow is imported for videos only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import RefusedError, UnreadableError
from ...io.nearby import missing
from ...model.config import PIXEL_MEAN, PIXEL_STD
from ...packages import require
from .resize import Floats, resize

if TYPE_CHECKING:
    from ...model.stored_squares import StoredSquares
    from ...model.video_squares import Square

Bytes = NDArray[np.uint8]

# Bytes of memory for each pixel of the input and each frame: the frame, and of one object the mask
# in float32 at a quarter and the memory at a sixteenth of the resolution.
_BYTES_PER_PIXEL = 5

_MEAN = np.array(PIXEL_MEAN, np.float32)[:, None, None]
_STD = np.array(PIXEL_STD, np.float32)[:, None, None]


class Frames(NamedTuple):
    """The frames of a video.

    Attributes:
        images: ``images[n]`` is frame ``n`` as the model takes it, ``3 x S x S`` in float32;
            ``len(images)`` is the number of frames. An array ``T x 3 x S x S`` is one.
        height: Height of the video before it was resized, in pixels.
        width: Width of the video before it was resized, in pixels.
    """

    images: Floats | Squares
    height: int
    width: int


class Squares:
    """Frames that are kept as bytes, and normalised whenever one is asked for.

    Args:
        squares: The frames, ``S x S x 3`` each.
    """

    def __init__(self, squares: Sequence[Bytes] | StoredSquares) -> None:
        self._squares = squares

    def __len__(self) -> int:
        return len(self._squares)

    def __getitem__(self, number: int) -> Floats:
        """Get a frame by its number, ``3 x S x S``."""
        return _normalised(_unit(self._squares[number]))


def pixels_of(image: Any, side: int) -> Floats:
    """Prepare an image for the model: resized in floats and normalised.

    Args:
        image: RGB as ``H x W x 3``, uint8 or floats from 0 to 1, or a PIL image.
        side: Side ``S`` of the model's input, in pixels.

    Returns:
        ``1 x 3 x S x S``.

    Raises:
        ValueError: If ``image`` is not an image.
    """
    if hasattr(image, "convert"):
        image = np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image: expected an array or a PIL image, found {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        found = " x ".join(map(str, image.shape))
        raise ValueError(f"image: expected height x width x 3, found {found}")
    if image.dtype != np.uint8 and image.dtype.kind != "f":
        raise ValueError(f"image: expected bytes or floats, found {image.dtype}")
    return _normalised(resize(_unit(image), side, side, antialias=True))[None]


def load_frames(video: Any, side: int) -> Frames:
    """Read a video and resize its frames to squares.

    Args:
        video: A folder of pictures ``<number>.jpg`` or ``<number>.png``, which are taken in the
            order of their numbers; a file that PyAV decodes, such as an MP4; frames in memory, a
            sequence of PIL images or of ``H x W x 3`` uint8 RGB, or an array ``T x H x W x 3``; or
            :class:`Frames`, which are taken as they are.
        side: Side ``S`` of the model's input, in pixels.

    Returns:
        The frames.

    Raises:
        MissingFileError: If there is no such folder or file.
        MissingPackageError: If Pillow, or for a file PyAV, is not installed.
        UnreadableError: If a file cannot be read, or a picture has another size than the first.
        RefusedError: If it is in another format, or too large for the memory that is free.
        ValueError: If frames in memory are not pictures of one size.
    """
    if isinstance(video, Frames):
        return _checked(video, side)
    require("onnx", "reading a video", packages=("PIL",))
    if isinstance(video, (str, os.PathLike)):
        return _from_path(Path(video), side)
    if not isinstance(video, (np.ndarray, Sequence)) or isinstance(video, bytes):
        raise ValueError(f"video: expected a path or frames, found {type(video).__name__}")
    from ...model.video_squares import square_of

    pictures = ((f"frame {n}", _picture(n, frame)) for n, frame in enumerate(video))
    return _collected("video", (square_of(name, picture, side) for name, picture in pictures))


def store_frames(video: Path, side: int, folder: Path) -> Frames:
    """Read a video, and keep its frames in a file: one at a time is in memory.

    Args:
        video: A folder of pictures or a file, as for :func:`load_frames`.
        side: Side ``S`` of the model's input, in pixels.
        folder: Where the file lies, which has no name: ``3 x S x S`` bytes for each frame.

    Returns:
        The frames that :func:`load_frames` gives.

    Raises:
        OSError: If the disk is full.
        Sam21ConvertError: As :func:`load_frames` does.
    """
    require("onnx", "reading a video", packages=("PIL",))
    return _from_path(video, side, folder)


def _from_path(path: Path, side: int, folder: Path | None = None) -> Frames:
    if not path.exists():
        raise missing(path)
    if not path.is_dir():
        otherwise = "give a folder of <number>.jpg or .png"
        require("onnx", f"{path}: a video", otherwise, packages=("av",))
    from ...model.pictures import MediaError
    from ...model.stored_squares import StoredSquares
    from ...model.video_files import Room
    from ...model.video_squares import squares_of

    try:
        if folder is None:
            room = Room.on(None, side, _BYTES_PER_PIXEL)
            return _collected(str(path), squares_of(path, room))
        stored = StoredSquares(path, side, folder)
        return Frames(Squares(stored), stored.height, stored.width)
    except MediaError as error:
        kind = RefusedError if error.intact else UnreadableError
        raise kind(str(error), hint=error.hint) from error
    except ValueError as error:
        raise UnreadableError(str(error)) from error


def _picture(number: int, frame: Any) -> Any:
    from PIL import Image

    if isinstance(frame, Image.Image):
        return frame
    pixels = np.asarray(frame)
    if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size:
        return Image.fromarray(pixels)
    found = f"{' x '.join(map(str, pixels.shape)) or 'a scalar'} {pixels.dtype}"
    raise ValueError(f"frame {number}: expected H x W x 3 uint8 or a PIL image, found {found}")


def _collected(name: str, squares: Iterable[Square]) -> Frames:
    """Keep the pixels of frames, which must have one size."""
    kept: list[Bytes] = []
    height = width = 0
    for square in squares:
        if not kept:
            height, width = square.height, square.width
        square.expect_size(height, width)
        kept.append(square.pixels)
    if not kept:
        raise ValueError(f"{name}: expected at least one frame, found none")
    return Frames(Squares(kept), height, width)


def _checked(frames: Frames, side: int) -> Frames:
    shape = (3, side, side)
    if not len(frames.images) or frames.images[0].shape != shape:
        found = np.shape(frames.images[0]) if len(frames.images) else "no frame"
        raise ValueError(f"video: expected frames of the shape {shape}, found {found}")
    return frames


def _unit(pixels: NDArray[Any]) -> Floats:
    """``H x W x 3`` bytes or floats to ``3 x H x W`` floats from 0 to 1."""
    planes = pixels.transpose(2, 0, 1).astype(np.float32)
    return planes / np.float32(255) if pixels.dtype == np.uint8 else planes


def _normalised(unit: Floats) -> Floats:
    planes: Floats = (unit - _MEAN) / _STD
    return np.ascontiguousarray(planes)
