"""The frames of a video as the model takes them: square, normalised, in float32."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from threading import Event, Thread, current_thread
from typing import Any
from weakref import finalize

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .config import PIXEL_MEAN, PIXEL_STD
from .pictures import numbered
from .stored_squares import StoredSquares
from .video_files import Room
from .video_squares import Pixels, Square, decode_squares, read_square, square_of

Picture = Pixels | Tensor | Image.Image

# Bytes of memory for each pixel of the model's input and each frame: the frame in float32, and of
# one object the mask at a quarter and the memory at a sixteenth of the resolution.
_BYTES_PER_PIXEL = 13
# On the CPU, whatever torch's default device is.
MEAN = torch.tensor(PIXEL_MEAN, dtype=torch.float32, device="cpu")[:, None, None]
STD = torch.tensor(PIXEL_STD, dtype=torch.float32, device="cpu")[:, None, None]


@dataclass(frozen=True)
class Frames:
    """The frames of a video as the model takes them.

    Attributes:
        images: ``images[n]`` is frame ``n``, ``3 x S x S`` in float32; ``len(images)`` is the
            number of frames.
        height: Height of the video before it was resized, in pixels.
        width: Width of the video before it was resized, in pixels.
    """

    images: Tensor | LazyImages | StreamedImages | StoredImages
    height: int
    width: int


Video = str | os.PathLike[str] | bytes | Pixels | Tensor | Sequence[Picture] | Frames


def load_frames(
    video: Video,
    image_size: int,
    device: torch.device | str,
    *,
    offload_to_cpu: bool = False,
    async_loading: bool = False,
) -> Frames:
    """Read a video, resize its frames to squares and normalise them.

    Equal to ``load_video_frames`` of ``utils/misc.py`` to the last bit, although that decodes files
    with decord. The largest difference from it measured on x86-64 was 0 (decord 0.6.0; PyAV 14.2,
    15.1, 17.1 and 18.1; H.264 with B-frames, MPEG-4, VP9; BT.601 and BT.709, 4:2:0 to 4:4:4, 8 and
    10 bit, odd sizes, rotated videos).

    Args:
        video: One of

            - a folder of pictures ``<number>.jpg`` or ``.jpeg``, which are taken in the order of
              their numbers; or ``<number>.png``, which the official code does not take;
            - a file that PyAV decodes, such as an MP4, or the bytes of one;
            - frames in memory, treated like the pictures of a folder: a sequence of PIL images or
              of ``H x W x 3`` uint8 RGB, or one array or tensor of ``T x H x W x 3`` uint8;
            - :class:`Frames`, which are taken as they are.
        image_size: Side ``S`` of the model's input, in pixels.
        device: Where the frames go.
        offload_to_cpu: Whether they stay in main memory instead.
        async_loading: Whether the pictures of a folder are read by a thread while the first ones
            are in use. Of other videos all frames are always read at once.

    Returns:
        The frames, ``3 x S x S`` each, and the size that the video had.

    Raises:
        FileNotFoundError: If there is no such path.
        ValueError: If the video cannot be read, has no frames, or has frames of different sizes; it
            names the file or frame. A :class:`~.pictures.MediaError` if it is too large for the
            memory that is free, or in a format that is not opened.
    """
    if isinstance(video, Frames):
        return video
    target = torch.device("cpu" if offload_to_cpu else device)
    room = Room.on(target, image_size, _BYTES_PER_PIXEL)
    if isinstance(video, bytes):
        return _video_file(BytesIO(video), "video", room, target)
    if not isinstance(video, (str, os.PathLike)):
        return _in_memory(video, room, target)
    path = Path(video)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.is_dir():
        return _video_file(path, str(path), room, target)
    paths = numbered(path)
    room.check(str(path), len(paths))
    if async_loading:
        lazy = LazyImages(paths, image_size, target)
        return Frames(lazy, lazy.height, lazy.width)
    squares = (read_square(path, image_size) for path in paths)
    return _stacked(str(path), squares, len(paths), image_size, target)


def stream_frames(folder: Path, image_size: int, device: torch.device) -> Frames:
    """Open a folder of pictures, of which no more than one is in memory.

    Args:
        folder: The folder, as for :func:`load_frames`.
        image_size: Side ``S`` of the model's input, in pixels.
        device: Where the frames go.

    Returns:
        Frames that are those of :func:`load_frames` to the last bit. Each is read when it is asked
        for, so asking raises what reading a picture does.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there is no picture, or the first cannot be read.
    """
    streamed = StreamedImages(numbered(folder), image_size, device)
    return Frames(streamed, streamed.height, streamed.width)


def store_frames(video: Path, image_size: int, device: torch.device, folder: Path) -> Frames:
    """Read a video, and keep its frames in a file: one at a time is in memory.

    Args:
        video: A folder of pictures or a file, as for :func:`load_frames`.
        image_size: Side ``S`` of the model's input, in pixels.
        device: Where each frame goes.
        folder: Where the file lies, which has no name: ``3 x S x S`` bytes for each frame.

    Returns:
        Frames that are those of :func:`load_frames` to the last bit.

    Raises:
        FileNotFoundError: If there is no such path.
        ValueError: As :func:`load_frames` does.
        OSError: If the disk is full.
    """
    stored = StoredSquares(video, image_size, folder, device)
    return Frames(StoredImages(stored, device), stored.height, stored.width)


class StoredImages:
    """Frames that are kept as bytes in a file, and normalised whenever one is asked for.

    Args:
        squares: The file.
        device: Where the frames go.
    """

    def __init__(self, squares: StoredSquares, device: torch.device) -> None:
        self._squares, self._device = squares, device

    def __len__(self) -> int:
        return len(self._squares)

    def __getitem__(self, number: int) -> Tensor:
        """Get a frame by its number, ``3 x S x S``."""
        return _normalised(self._squares[number], torch.float32).to(self._device)


class _FolderImages:
    """Pictures of a folder as frames.

    Args:
        paths: The pictures, in the order of the frames.
        image_size: Side of the model's input, in pixels.
        device: Where the frames go.
    """

    computed_in = torch.float32
    height: int
    width: int

    def __init__(self, paths: Sequence[Path], image_size: int, device: torch.device) -> None:
        self._paths, self._image_size, self._device = paths, image_size, device

    def __len__(self) -> int:
        return len(self._paths)

    def _first(self) -> Tensor:
        """Read the first picture, whose size all others must have."""
        first = read_square(self._paths[0], self._image_size)
        self.height, self.width = first.height, first.width
        return self._finished(first)

    def _read(self, number: int) -> Tensor:
        square = read_square(self._paths[number], self._image_size)
        square.expect_size(self.height, self.width)
        return self._finished(square)

    def _finished(self, square: Square) -> Tensor:
        return _normalised(square.pixels, self.computed_in).to(self._device)


class StreamedImages(_FolderImages):
    """Pictures of a folder, each read when it is asked for; the last one is kept.

    Args:
        paths: The pictures, in the order of the frames.
        image_size: Side of the model's input, in pixels.
        device: Where the frames go.

    Raises:
        ValueError: If the first picture cannot be read.
    """

    def __init__(self, paths: Sequence[Path], image_size: int, device: torch.device) -> None:
        super().__init__(paths, image_size, device)
        self._last = 0, self._first()

    def __getitem__(self, number: int) -> Tensor:
        """Get a frame by its number, ``3 x S x S``."""
        if self._last[0] != number:
            self._last = number, self._read(number)
        return self._last[1]


class LazyImages(_FolderImages):
    """Pictures of a folder, read by a thread in order, or earlier when they are asked for.

    After the thread has failed, every access raises a ValueError that says why.

    Args:
        paths: The pictures, in the order of the frames.
        image_size: Side of the model's input, in pixels.
        device: Where the frames go.

    Raises:
        ValueError: If the first picture cannot be read.
    """

    # The official loader computes in float64 here, but in float32 if it reads all at once.
    computed_in = torch.float64

    def __init__(self, paths: Sequence[Path], image_size: int, device: torch.device) -> None:
        super().__init__(paths, image_size, device)
        self._images: list[Tensor | None] = [None] * len(paths)
        self._failure: Exception | None = None
        self._images[0] = self._first()
        stop = Event()
        thread = Thread(target=partial(self._read_all, stop), daemon=True)
        # Python would crash at exit if the thread were killed inside torch while still reading.
        finalize(self, _end, stop, thread)
        thread.start()

    def __getitem__(self, number: int) -> Tensor:
        """Get a frame by its number, ``3 x S x S``."""
        if self._failure is not None:
            raise ValueError(str(self._failure)) from self._failure
        image = self._images[number]
        if image is None:
            image = self._images[number] = self._read(number)
        return image

    def _read_all(self, stop: Event) -> None:
        try:
            for number in range(len(self)):
                if stop.is_set():
                    return
                self[number]
        except Exception as error:
            self._failure = error


def _end(stop: Event, thread: Thread) -> None:
    """Stop the thread after the frame that it is reading, and wait for it."""
    stop.set()
    if thread is not current_thread():
        thread.join()


def _stacked(
    name: str, squares: Iterable[Square], count: int, image_size: int, device: torch.device
) -> Frames:
    """Put ``count`` frames into one tensor on ``device``."""
    if count == 0:
        raise ValueError(f"{name}: expected at least one frame, found none")
    shape = count, 3, image_size, image_size
    images = torch.empty(shape, dtype=torch.float32, device=device)
    height = width = 0
    for number, square in enumerate(squares):
        if number == 0:
            height, width = square.height, square.width
        square.expect_size(height, width)
        images[number] = _normalised(square.pixels, torch.float32)
    return Frames(images, height, width)


def _normalised(pixels: Pixels, precision: torch.dtype) -> Tensor:
    """``S x S x 3`` bytes to ``3 x S x S`` float32, computed in ``precision``."""
    planes = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # 3, S, S
    unit = planes.to(precision) / 255
    unit -= MEAN
    unit /= STD
    return unit.float()


def _in_memory(video: Any, room: Room, device: torch.device) -> Frames:
    if isinstance(video, (np.ndarray, Tensor)):
        if video.ndim != 4:
            shape = " x ".join(map(str, video.shape)) or "a scalar"
            raise ValueError(f"video: expected an array T x H x W x 3, found {shape}")
    elif not isinstance(video, Sequence):
        found = type(video).__name__
        raise ValueError(f"video: expected a path, the bytes of a file, or frames; found {found}")
    room.check("video", len(video))
    squares = (
        square_of(f"frame {number}", _as_picture(number, frame), room.image_size)
        for number, frame in enumerate(video)
    )
    return _stacked("video", squares, len(video), room.image_size, device)


def _as_picture(number: int, frame: Any) -> Image.Image:
    if isinstance(frame, Image.Image):
        return frame
    found = type(frame).__name__
    if isinstance(frame, (np.ndarray, Tensor)):
        dtype = str(frame.dtype).removeprefix("torch.")
        if dtype == "uint8" and frame.ndim == 3 and frame.shape[2] == 3 and 0 not in frame.shape:
            return Image.fromarray(np.asarray(frame.cpu() if isinstance(frame, Tensor) else frame))
        found = f"{' x '.join(map(str, frame.shape))} {dtype}"
    raise ValueError(f"frame {number}: expected H x W x 3 uint8 or a PIL image, found {found}")


def _video_file(file: Path | BytesIO, name: str, room: Room, device: torch.device) -> Frames:
    # Collected as bytes first: the header of a file is not reliable about the number of frames.
    squares = deque(decode_squares(file, name, room))
    return _stacked(name, _emptying(squares), len(squares), room.image_size, device)


def _emptying(squares: deque[Square]) -> Iterator[Square]:
    """Hand out the frames one by one, and keep none that was handed out."""
    while squares:
        yield squares.popleft()
