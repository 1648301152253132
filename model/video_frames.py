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
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import finalize

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .config import PIXEL_MEAN, PIXEL_STD
from .pictures import load_picture, numbered
from .video_files import most_frames, open_video, stated_frames, too_many, undecodable

if TYPE_CHECKING:
    import av.filter

Pixels = NDArray[np.uint8]
Picture = Pixels | Tensor | Image.Image
Video = str | os.PathLike[str] | bytes | Pixels | Tensor | Sequence[Picture]

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

    images: Tensor | LazyImages
    height: int
    width: int


class _Square(NamedTuple):
    """A frame resized to ``S x S x 3`` bytes, its name for messages, and the size it had."""

    name: str
    pixels: Pixels
    height: int
    width: int


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
              their numbers;
            - a file that PyAV decodes, such as an MP4, or the bytes of one;
            - frames in memory, treated like the pictures of a folder: a sequence of PIL images or
              of ``H x W x 3`` uint8 RGB, or one array or tensor of ``T x H x W x 3`` uint8.
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
    target = torch.device("cpu" if offload_to_cpu else device)
    if isinstance(video, bytes):
        return _video_file(BytesIO(video), "video", image_size, target)
    if not isinstance(video, (str, os.PathLike)):
        return _in_memory(video, image_size, target)
    path = Path(video)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.is_dir():
        return _video_file(path, str(path), image_size, target)
    paths = numbered(path)
    _room(str(path), len(paths), image_size, target)
    if async_loading:
        lazy = LazyImages(paths, image_size, target)
        return Frames(lazy, lazy.height, lazy.width)
    squares = (_picture_file(path, image_size) for path in paths)
    return _stacked(str(path), squares, len(paths), image_size, target)


class LazyImages:
    """Pictures of a folder, read by a thread in order, or earlier when they are asked for.

    After the thread has failed, every access raises a ValueError that says why.

    Args:
        paths: The pictures, in the order of the frames.
        image_size: Side of the model's input, in pixels.
        device: Where the frames go.

    Raises:
        ValueError: If the first picture cannot be read.
    """

    def __init__(self, paths: Sequence[Path], image_size: int, device: torch.device) -> None:
        self._paths, self._image_size, self._device = paths, image_size, device
        self._images: list[Tensor | None] = [None] * len(paths)
        self._failure: Exception | None = None
        first = _picture_file(paths[0], image_size)
        self.height, self.width = first.height, first.width
        self._images[0] = self._finished(first)
        stop = Event()
        thread = Thread(target=partial(self._read_all, stop), daemon=True)
        # Python would crash at exit if the thread were killed inside torch while still reading.
        finalize(self, _end, stop, thread)
        thread.start()

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> Tensor:
        """Get a frame by its number, ``3 x S x S``."""
        if self._failure is not None:
            raise ValueError(str(self._failure)) from self._failure
        image = self._images[number]
        if image is None:
            square = _picture_file(self._paths[number], self._image_size)
            _expect_size(square, self.height, self.width)
            image = self._images[number] = self._finished(square)
        return image

    def _finished(self, square: _Square) -> Tensor:
        # The official loader computes in float64 here, but in float32 if it reads all at once.
        return _normalised(square.pixels, torch.float64).to(self._device)

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


def _room(name: str, count: int, image_size: int, device: torch.device) -> int | None:
    """How many frames fit into memory, if that is known, and are at least ``count``."""
    most = most_frames(image_size, device)
    if most is not None and count > most:
        raise too_many(name, count, most, image_size)
    return most


def _stacked(
    name: str, squares: Iterable[_Square], count: int, image_size: int, device: torch.device
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
        _expect_size(square, height, width)
        images[number] = _normalised(square.pixels, torch.float32)
    return Frames(images, height, width)


def _normalised(pixels: Pixels, precision: torch.dtype) -> Tensor:
    """``S x S x 3`` bytes to ``3 x S x S`` float32, computed in ``precision``."""
    planes = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # 3, S, S
    unit = planes.to(precision) / 255
    unit -= MEAN
    unit /= STD
    return unit.float()


def _expect_size(square: _Square, height: int, width: int) -> None:
    if (square.height, square.width) != (height, width):
        raise ValueError(
            f"{square.name}: expected {height} x {width} pixels (height x width) as in the first "
            f"frame, found {square.height} x {square.width}"
        )


def _picture_file(path: Path, image_size: int) -> _Square:
    return _resized(str(path), load_picture(path), image_size)


def _in_memory(video: Any, image_size: int, device: torch.device) -> Frames:
    if isinstance(video, (np.ndarray, Tensor)):
        if video.ndim != 4:
            shape = " x ".join(map(str, video.shape)) or "a scalar"
            raise ValueError(f"video: expected an array T x H x W x 3, found {shape}")
    elif not isinstance(video, Sequence):
        found = type(video).__name__
        raise ValueError(f"video: expected a path, the bytes of a file, or frames; found {found}")
    _room("video", len(video), image_size, device)
    squares = (
        _resized(f"frame {number}", _as_picture(number, frame), image_size)
        for number, frame in enumerate(video)
    )
    return _stacked("video", squares, len(video), image_size, device)


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


def _resized(name: str, picture: Image.Image, image_size: int) -> _Square:
    # The official loader names no filter; bicubic is PIL's default.
    square = picture.convert("RGB").resize((image_size, image_size), Image.Resampling.BICUBIC)
    return _Square(name, np.array(square), picture.height, picture.width)


def _video_file(file: Path | BytesIO, name: str, image_size: int, device: torch.device) -> Frames:
    # Collected as bytes first: the header of a file is not reliable about the number of frames.
    squares = deque(_decoded(file, name, image_size, device))
    count = len(squares)
    return _stacked(name, _emptying(squares), count, image_size, device)


def _emptying(squares: deque[_Square]) -> Iterator[_Square]:
    """Hand out the frames one by one, and keep none that was handed out."""
    while squares:
        yield squares.popleft()


def _decoded(
    file: Path | BytesIO, name: str, image_size: int, device: torch.device
) -> Iterator[_Square]:
    import av

    graph = None
    try:
        with open_video(file, name) as container:
            stream = container.streams.video[0]
            most = _room(name, stated_frames(container), image_size, device)
            for number, frame in enumerate(container.decode(stream)):
                if most is not None and number >= most:
                    raise too_many(name, None, most, image_size)
                turn = -frame.rotation % 360  # degrees clockwise
                graph = graph or _resizer(stream, turn, image_size)
                graph.push(frame)
                pixels = graph.vpull().to_ndarray().astype(np.uint8, copy=False)  # S, S, 3
                height, width = frame.height, frame.width
                if turn in (90, 270):
                    height, width = width, height
                yield _Square(f"{name}, frame {number}", pixels, height, width)
    except av.FFmpegError as error:
        raise undecodable(name, error) from error


def _resizer(stream: av.VideoStream, turn: int, image_size: int) -> av.filter.Graph:
    """The filters that decord applies: rotate upright, resize, convert to RGB.

    ``VideoFrame.reformat`` assumes other positions of the colour samples, and differs by up to
    58/255.
    """
    import av.filter

    graph = av.filter.Graph()
    quarters = {90: ["clock"], 180: ["clock", "clock"], 270: ["cclock"]}.get(turn, [])
    graph.link_nodes(
        graph.add_buffer(template=stream),
        *(graph.add("transpose", quarter) for quarter in quarters),
        graph.add("scale", f"{image_size}:{image_size}:flags=bilinear"),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    ).configure()
    return graph
