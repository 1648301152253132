"""Pictures, masks and videos at their own size, in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import MissingFileError, RefusedError, UnreadableError, UsageError
from .draw import Mask, Pixels


def read_picture(path: Path) -> Pixels:
    """A picture as ``H x W x 3`` bytes, upright, as viewers show it.

    Raises :class:`UnreadableError`, and :class:`RefusedError` for more than 8 bits per channel.
    """
    picture = _opened(path)
    if picture.mode[0] in "IF":  # Pillow would cut such values off at 255
        raise RefusedError(
            f"{path}: expected 8 bits per channel, found Pillow's mode {picture.mode}",
            hint="save it with 8 bits per channel, scaled as it is to be seen",
        )
    return np.asarray(picture.convert("RGB"))


def read_mask(path: Path, width: int, height: int) -> Mask:
    """A mask of a picture of that size: true where it is not black.

    Raises :class:`UnreadableError`, and :class:`UsageError` for another size or an empty mask.
    """
    picture = _opened(path)
    if picture.size != (width, height):
        raise UsageError(
            f"{path}: expected {width} x {height} pixels (width x height), those of the picture, "
            f"found {picture.width} x {picture.height}"
        )
    mask: Mask = np.asarray(picture.convert("RGB")).max(axis=-1) > 0
    if not mask.any():
        raise UsageError(f"{path}: expected an object that is not black, found only black")
    return mask


def frames_of(video: Path) -> Iterator[Pixels]:
    """The frames, ``H x W x 3`` bytes, in the order of :func:`.model.frames.load_frames`.

    ``video`` is what that function has read: a folder of ``<number>.jpg``, or a video file.
    """
    if video.is_dir():
        from ..model.video_frames import numbered

        for path in numbered(video):
            with Image.open(path) as picture:
                yield np.asarray(picture.convert("RGB"))
        return
    import av

    with av.open(str(video.absolute())) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24")
            upright = np.rot90(pixels, frame.rotation // 90)  # counterclockwise, as rotation is
            yield np.ascontiguousarray(upright).astype(np.uint8, copy=False)


def frame_rate(video: Path) -> Fraction:
    """Frames per second of a video file, on average; 25 where the file does not tell."""
    import av

    with av.open(str(video.absolute())) as container:
        return container.streams.video[0].average_rate or Fraction(25)


@contextmanager
def new_video(
    path: Path, rate: Fraction, width: int, height: int
) -> Iterator[Callable[[Pixels], None]]:
    """Yield a function that appends a frame to a new MP4 (H.264) of that size.

    H.264 halves the resolution of colours and so wants even sides: an odd one gets another line.
    """
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20"})
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"

        def append(pixels: Pixels) -> None:
            even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))

        yield append
        container.mux(stream.encode())


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    # what Pillow raises for damage depends on the format
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableError(f"{path}: cannot be read as a picture: {reason}") from error
