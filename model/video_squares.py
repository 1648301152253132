"""The frames of a video as squares of bytes, before a model's own numbers are made of them.

Needs no torch, as runtimes beside it decode videos as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .pictures import load_picture, numbered, refuse_deep
from .video_files import Room, open_video, stated_frames, undecodable

if TYPE_CHECKING:
    import av.filter

Pixels = NDArray[np.uint8]


class Square(NamedTuple):
    """A frame resized to ``S x S``.

    Attributes:
        name: What messages call it.
        pixels: ``S x S x 3`` bytes.
        height: Before it was resized, in pixels.
        width: Before it was resized, in pixels.
    """

    name: str
    pixels: Pixels
    height: int
    width: int

    def expect_size(self, height: int, width: int) -> None:
        """Check that it had the size of the first frame.

        Args:
            height: In pixels.
            width: In pixels.

        Raises:
            ValueError: If it had another.
        """
        if (self.height, self.width) != (height, width):
            raise ValueError(
                f"{self.name}: expected {height} x {width} pixels (height x width) as in the first "
                f"frame, found {self.height} x {self.width}"
            )


def square_of(name: str, picture: Image.Image, image_size: int) -> Square:
    """Resize a picture.

    Args:
        name: What messages call it.
        picture: The picture, in any mode.
        image_size: Side ``S``, in pixels.

    Returns:
        The square.
    """
    # The official loader names no filter; bicubic is PIL's default.
    square = picture.convert("RGB").resize((image_size, image_size), Image.Resampling.BICUBIC)
    return Square(name, np.array(square), picture.height, picture.width)


def read_square(path: Path, image_size: int) -> Square:
    """Read a picture and resize it.

    Args:
        path: The picture.
        image_size: Side ``S``, in pixels.

    Returns:
        The square.

    Raises:
        FileNotFoundError: If there is no such file.
        MediaError: If it cannot be read, or is not taken.
    """
    picture = load_picture(path)
    refuse_deep(path, picture)
    return square_of(str(path), picture, image_size)


def squares_of(video: Path, room: Room) -> Iterator[Square]:
    """Read the frames of a folder of pictures or of a video file, one by one.

    Args:
        video: A folder of pictures, as :func:`~.pictures.numbered` lists them, or a file that PyAV
            decodes.
        room: The memory that is free, and the side ``S``.

    Yields:
        The frames in order.

    Raises:
        FileNotFoundError: If there is no such path.
        MediaError: If it cannot be read, is not taken, or does not fit into memory.
    """
    if not video.is_dir():
        yield from decode_squares(video, str(video), room)
        return
    paths = numbered(video)
    room.check(str(video), len(paths))
    for path in paths:
        yield read_square(path, room.image_size)


def decode_squares(file: Path | BytesIO, name: str, room: Room) -> Iterator[Square]:
    """Decode a video file, resized as decord does.

    Args:
        file: The file, or its content.
        name: Its name in error messages.
        room: The memory that is free, and the side ``S``.

    Yields:
        The frames, upright, in order.

    Raises:
        FileNotFoundError: If there is no such file.
        MediaError: If it cannot be decoded, is not taken, or does not fit into memory.
    """
    import av

    graph = None
    try:
        with open_video(file, name) as container:
            stream = container.streams.video[0]
            room.check(name, stated_frames(container))
            for number, frame in enumerate(container.decode(stream)):
                room.check_next(name, number)
                turn = -frame.rotation % 360  # degrees clockwise
                graph = graph or _resizer(stream, turn, room.image_size)
                graph.push(frame)
                pixels = graph.vpull().to_ndarray().astype(np.uint8, copy=False)  # S, S, 3
                height, width = frame.height, frame.width
                if turn in (90, 270):
                    height, width = width, height
                yield Square(f"{name}, frame {number}", pixels, height, width)
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
