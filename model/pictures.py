"""Open pictures that anybody may have made: of few formats, of a bounded size, the pixels alone."""

from __future__ import annotations

import logging
import mmap
import re
import shlex
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil, sqrt
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_PIXELS = 2**26  # 8192 x 8192; a prediction needs up to 40 bytes for each
FORMATS = "JPEG, PNG, WebP, BMP or TIFF"
_MAX_BYTES = 2**29  # of a file, as some headers are read whole; MAX_PIXELS need half of it
_MAX_SCANS = 100  # of a JPEG: programs write about ten, and each takes time for the whole picture
_BAND = 2**20  # pixels that are copied at once
_FRAME_SUFFIXES = ((".jpg", ".jpeg"), (".png",))

_MAGIC: tuple[tuple[re.Pattern[bytes], Callable[..., ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImageFile),
    (re.compile(rb"BM"), BmpImageFile),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
)
_HEAD = 512  # bytes that tell the format, or a text

# Where a JPEG goes on after its compressed data, or after anything else that is no marker.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_SCAN, _END = 0xDA, 0xD9
_WITHOUT_LENGTH = (0x01, 0xD8)

_ORIENTATION = 0x0112  # the tag of EXIF
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Without any handler, Python prints what Pillow logs about odd files.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class MediaError(ValueError):
    """A picture or a video that is not read.

    Args:
        message: What was expected and what was found, beginning with the file.
        hint: What to do instead, or None.
        intact: Whether the file may be in order, but is not taken.
    """

    def __init__(self, message: str, *, hint: str | None = None, intact: bool = False) -> None:
        super().__init__(message)
        self.hint = hint
        self.intact = intact


def is_picture(path: Path) -> bool:
    """Tell by its first bytes whether a file is a picture in one of ``FORMATS``.

    Args:
        path: The file.

    Returns:
        Whether it begins as one.
    """
    with path.open("rb") as file:
        return _kind_of(file.read(_HEAD)) is not None


def load_picture(path: Path, *, upright: bool = False, most: int | None = None) -> Image.Image:
    """Load a picture. Of a file with several, this is the first.

    Nothing is decoded before the header tells that the picture is small enough.

    Args:
        path: A file in one of ``FORMATS``.
        upright: Whether to turn the picture as its EXIF data says.
        most: Number of pixels that it may have; ``MAX_PIXELS`` if None.

    Returns:
        The picture, in any mode of Pillow.

    Raises:
        FileNotFoundError: If there is no such file.
        MediaError: If the file cannot be read, is not such a picture or is too large.
    """
    refuse_special(path)
    with _naming_faults(path), path.open("rb") as file, _quietly():
        opened = _kind(path, file)(file, str(path))
        _refuse_large(path, opened, MAX_PIXELS if most is None else most)
        opened.load()
        picture: Image.Image = opened
        turn = _turn(opened) if upright else None
        return picture if turn is None else picture.transpose(turn)


def rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """Take the pixels of a picture, with little more memory than they need.

    Args:
        picture: A picture with 8 bits per channel, in any mode.

    Returns:
        ``H x W x 3`` bytes.
    """
    picture.info.pop("transparency", None)  # Pillow would warn that it is lost
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    rows = max(1, _BAND // picture.width)
    for top in range(0, picture.height, rows):
        bottom = min(top + rows, picture.height)
        band = picture.crop((0, top, picture.width, bottom))
        pixels[top:bottom] = np.asarray(band.convert("RGB"))
    return pixels


def refuse_deep(path: Path, picture: Image.Image) -> None:
    """Refuse more than 8 bits per channel: Pillow would clip such values at 255.

    Args:
        path: The file.
        picture: What was loaded from it.

    Raises:
        MediaError: If the picture has more.
    """
    if picture.mode[0] in "IF":
        raise MediaError(
            f"{path}: expected 8 bits per channel, found Pillow's mode {picture.mode}",
            hint="save it with 8 bits per channel",
            intact=True,
        )


def frame_files(folder: Path) -> list[Path]:
    """List the frames of a folder: its JPEGs or, if it has none, its PNGs.

    The official code takes JPEGs alone; PNGs beside them are often masks.

    Args:
        folder: The folder; files with other suffixes, and hidden ones, are ignored.

    Returns:
        Their paths, sorted by name; none if it has no pictures.
    """
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    kinds = ([one for one in files if one.suffix.lower() in kind] for kind in _FRAME_SUFFIXES)
    return next(filter(None, kinds), [])


def numbered(folder: Path) -> list[Path]:
    """List the frames ``<number>.jpg`` or ``<number>.png`` of a folder in order.

    Args:
        folder: The folder, as for :func:`frame_files`.

    Returns:
        The paths of the pictures, in the order of their numbers.

    Raises:
        ValueError: If there is no picture, the name of one is not a number, or two have the same
            number; it names the file.
    """
    found: dict[int, Path] = {}
    for path in frame_files(folder):
        try:
            number = int(path.stem)
        except ValueError:
            example = f"00012{path.suffix.lower()}"
            raise ValueError(f"{path}: expected a frame number as name, as in {example}") from None
        if number in found:
            raise ValueError(f"{path}: expected one frame {number}, found {found[number].name} too")
        found[number] = path
    if not found:
        raise ValueError(f"{folder}: expected pictures named <number>.jpg or .png, found none")
    return [found[number] for number in sorted(found)]


def refuse_special(path: Path) -> None:
    """Refuse what may never end: a device, a pipe or a socket. A folder is refused as well.

    Args:
        path: The file to open.

    Raises:
        FileNotFoundError: If there is no such file.
        MediaError: If it is not a regular file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise MediaError(f"{path}: is not a regular file", intact=True)


def for_shell(path: object) -> str:
    """Write a path as it is given to FFmpeg in a shell.

    Args:
        path: The path.

    Returns:
        The path, quoted, with a prefix where it would be taken for an address.
    """
    return shlex.quote(f"file:{path}" if ":" in str(path) else str(path))


def _kind(path: Path, file: IO[bytes]) -> Callable[..., ImageFile.ImageFile]:
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(0)
    kind = _kind_of(head)
    if kind is None:
        raise MediaError(
            f"{path}: cannot be read as a picture: expected {FORMATS}",
            hint=f"save it as PNG, for example: ffmpeg -i {for_shell(path)} -frames:v 1 out.png"
            if b"\0" in head
            else "give the picture itself",
            intact=True,
        )
    if size > _MAX_BYTES:
        raise MediaError(
            f"{path}: has {size:,} bytes, more than the {_MAX_BYTES:,} allowed for a picture",
            hint="save it again without metadata, or compressed",
            intact=True,
        )
    if kind is JpegImageFile and _scans(file) > _MAX_SCANS:
        raise MediaError(
            f"{path}: is a JPEG of more than {_MAX_SCANS} scans, which takes too long to decode",
            hint="save it again with another program",
            intact=True,
        )
    return kind


def _kind_of(head: bytes) -> Callable[..., ImageFile.ImageFile] | None:
    return next((kind for magic, kind in _MAGIC if magic.match(head)), None)


def _scans(file: IO[bytes]) -> int:
    """The number of scans of the first picture in a JPEG, up to one more than are allowed."""
    scans, at = 0, 2
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while scans <= _MAX_SCANS and (found := _MARKER.search(data, at)) is not None:
            marker, at = found[1][0], found.end()
            if marker == _END:
                break
            scans += marker == _SCAN
            if marker not in _WITHOUT_LENGTH:
                at += int.from_bytes(data[at : at + 2], "big")
    return scans


def _refuse_large(path: Path, picture: Image.Image, most: int) -> None:
    width, height = picture.size
    if width * height > most:
        part = ceil(sqrt(width * height / most))
        raise MediaError(
            f"{path}: has {width} x {height} pixels (width x height), {width * height:,} in all, "
            f"more than the {most:,} allowed",
            hint=f"make it smaller: ffmpeg -i {for_shell(path)} -vf scale=iw/{part}:-1 small.png",
            intact=True,
        )


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """How to turn a picture upright; damaged EXIF data says nothing."""
    try:
        return _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow raises whatever the damage leads to
        return None


@contextmanager
def _naming_faults(path: Path) -> Iterator[None]:
    """Turn all that Pillow raises for a damaged file into one error that quotes nothing of it."""
    try:
        yield
    except (MediaError, MemoryError):
        raise
    except Exception as error:  # Pillow raises whatever the damage leads to
        if isinstance(error, OSError) and error.errno is not None:
            raise MediaError(f"{path}: {error.strerror}") from error
        raise MediaError(
            f"{path}: cannot be read as a picture: it is damaged or cut short",
            hint="copy or download it again",
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep Pillow's warnings about odd metadata from the user."""
    if threading.current_thread() is not threading.main_thread():
        yield  # the filters are those of the whole process: two threads would mix them up
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
