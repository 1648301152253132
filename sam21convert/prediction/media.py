"""Read and write pictures, masks and videos at their own size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import MissingFileError, RefusedError, Sam21ConvertError, UnreadableError, UsageError
from ..io.nearby import missing
from ..model.pictures import MediaError, load_picture, numbered, refuse_deep, rgb
from .draw import Mask, Pixels

_SLOWEST, _FASTEST = Fraction(1, 3600), 1000  # frames per second, of time lapses and slow motion


def read_picture(path: Path, most: int | None = None) -> Pixels:
    """Read a picture, turned upright as its EXIF data says.

    Args:
        path: A JPEG, PNG, WebP, BMP or TIFF file. Of several pictures in it the first is read.
        most: Number of pixels that it may have; 67,108,864 if None.

    Returns:
        The RGB picture, ``H x W x 3`` bytes.

    Raises:
        UnreadableError: If the file cannot be read or is damaged.
        RefusedError: If it is in another format, has more than 8 bits per channel or is too large.
    """
    picture = _opened(path, most)
    with naming_faults():
        refuse_deep(path, picture)
    return rgb(picture)


def read_mask(path: Path, width: int, height: int) -> Mask:
    """Read the mask of a picture from a picture of the same size.

    Args:
        path: A file as for :func:`read_picture`.
        width: Expected width in pixels.
        height: Expected height in pixels.

    Returns:
        ``H x W``, true where the picture is not black.

    Raises:
        UnreadableError: If the file cannot be read or is damaged.
        RefusedError: If it is in another format or too large.
        UsageError: If it has another size or is black throughout.
    """
    picture = _opened(path)
    if picture.size != (width, height):
        raise UsageError(
            f"{path}: expected {width} x {height} pixels (width x height), those of the picture, "
            f"found {picture.width} x {picture.height}"
        )
    mask: Mask = rgb(picture).max(axis=-1) > 0
    if not mask.any():
        raise UsageError(f"{path}: expected an object that is not black, found only black")
    return mask


def frames_of(video: Path) -> Iterator[Pixels]:
    """Read the frames of a video one by one.

    Args:
        video: A folder of ``<number>.jpg`` or ``.png``, or a video file, which
            :func:`~sam21convert.model.video_frames.load_frames` has read before.

    Yields:
        RGB frames, ``H x W x 3`` bytes, in the order of that function.
    """
    if video.is_dir():
        for path in numbered(video):
            yield rgb(load_picture(path))
        return
    from ..model.video_files import open_video

    with open_video(video, str(video)) as container:
        for frame in container.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24")
            upright = np.rot90(pixels, frame.rotation // 90)  # counterclockwise, as rotation is
            yield np.ascontiguousarray(upright).astype(np.uint8, copy=False)


def frame_rate(video: Path) -> Fraction:
    """Read the frame rate of a video.

    Args:
        video: A video file.

    Returns:
        Frames per second, on average; 25 if the file does not state it, or states what no camera
        records.
    """
    from ..model.video_files import open_video

    with open_video(video, str(video)) as container:
        rate = container.streams.video[0].average_rate
    return rate if rate is not None and _SLOWEST <= rate <= _FASTEST else Fraction(25)


@contextmanager
def new_video(
    path: Path, rate: Fraction, width: int, height: int
) -> Iterator[Callable[[Pixels], None]]:
    """Write an MP4 (H.264) frame by frame.

    H.264 stores colours at half the resolution and needs even sides: an odd side is extended by one
    line that repeats the last. The same frames give the same bytes.

    Args:
        path: The file to write.
        rate: Frames per second.
        width: Of each frame, in pixels.
        height: Of each frame, in pixels.

    Yields:
        A function that appends an RGB frame, ``height x width x 3`` bytes.
    """
    import av

    with av.open(str(path), "w", format="mp4") as container:
        # Where x264 propagates macroblock trees with AVX-512, it computes with memory that nobody
        # has written, and the same frames become another file each time.
        options = {"crf": "20", "mbtree": "0"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"

        def append(pixels: Pixels) -> None:
            even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))

        yield append
        container.mux(stream.encode())


def as_ours(error: FileNotFoundError | ValueError) -> Sam21ConvertError:
    """Turn what reading a picture or a video raises into an error of this package.

    Args:
        error: The error, with a message that names the file.

    Returns:
        The error to raise.
    """
    if isinstance(error, FileNotFoundError):
        return MissingFileError(str(error))
    if isinstance(error, MediaError):
        kind = RefusedError if error.intact else UnreadableError
        return kind(str(error), hint=error.hint)
    return UnreadableError(str(error))


@contextmanager
def naming_faults() -> Iterator[None]:
    """Turn the model's errors for a video that cannot be read into errors of this package.

    Yields:
        Nothing.

    Raises:
        UnreadableError: If the block raises an error that names a file or frame.
        RefusedError: If that is one which is not taken.
    """
    try:
        yield
    except Sam21ConvertError:
        raise
    except (FileNotFoundError, ValueError) as error:
        raise as_ours(error) from error


def _opened(path: Path, most: int | None = None) -> Image.Image:
    if not path.exists():
        raise missing(path)
    try:
        return load_picture(path, upright=True, most=most)
    except (FileNotFoundError, MediaError) as error:
        raise as_ours(error) from error
