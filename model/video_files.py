"""Open video files that anybody may have made: few containers, bounded frames, no other file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from .memory_limit import free_memory
from .pictures import MediaError, for_shell, refuse_special

if TYPE_CHECKING:
    import av
    import torch
    from av.container import InputContainer

MAX_FRAME_PIXELS = 8192 * 4352  # the largest frame of any level of H.264, H.265 and AV1
CONTAINERS = "MP4, MOV, Matroska, WebM, AVI, MPEG, Ogg, FLV or WMV"


def _starts(pattern: bytes) -> Callable[[bytes], bool]:
    compiled = re.compile(pattern, re.DOTALL)
    return lambda head: compiled.match(head) is not None


def _has_packets(head: bytes) -> bool:
    """Whether the bytes are packets of an MPEG transport stream, which begin with 0x47."""
    starts = ((at, step) for step in (188, 192, 204) for at in range(step))
    return any(head[at : at + 2 * step + 1 : step] == b"GGG" for at, step in starts)


# FFmpeg's demuxer of each container. It is chosen here, for FFmpeg would also take playlists, which
# open other files and addresses.
_DEMUXERS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("mov", _starts(rb".{4}(ftyp|styp|moov|moof|mdat|free|skip|wide|pnot|sidx|uuid)")),
    ("matroska", _starts(rb"\x1aE\xdf\xa3")),
    ("avi", _starts(rb"RIFF.{4}AVI")),
    ("mpeg", _starts(rb"\0\0\x01\xba")),
    ("ogg", _starts(rb"OggS")),
    ("flv", _starts(rb"FLV")),
    ("asf", _starts(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11")),
    ("mpegts", _has_packets),
)
_HEAD = 1024  # bytes that tell the container


def is_video(path: Path) -> bool:
    """Tell by its first bytes whether a file is a video in one of ``CONTAINERS``.

    Args:
        path: The file.

    Returns:
        Whether it begins as one.
    """
    with path.open("rb") as file:
        return _demuxer_of(file.read(_HEAD)) is not None


def open_video(file: Path | BytesIO, name: str) -> InputContainer:
    """Open a video file, with at least one stream of pictures.

    Args:
        file: The file, or its content.
        name: Its name in error messages.

    Returns:
        The container, to be closed by the caller.

    Raises:
        FileNotFoundError: If there is no such file.
        MediaError: If it is not a video file, is in another container, or its frames are too large.
    """
    import av

    demuxer = _demuxer(file, name)
    # An absolute path, because FFmpeg would take "12:30.mp4" for a protocol called 12.
    source = str(file.absolute()) if isinstance(file, Path) else file
    options = {
        # FFmpeg decodes a frame here if the header tells too little; above it has no size.
        "max_pixels": str(4 * MAX_FRAME_PIXELS),
        "protocol_whitelist": "file",
        "format_whitelist": demuxer,
    }
    try:
        container = av.open(source, "r", format=demuxer, options=options)
    except av.FFmpegError as error:
        raise undecodable(name, error) from error
    if not container.streams.video:
        container.close()
        raise MediaError(f"{name}: expected a video, found none in the file")
    stream = container.streams.video[0]
    if stream.width * stream.height > MAX_FRAME_PIXELS:
        container.close()
        raise MediaError(
            f"{name}: has frames of {stream.width} x {stream.height} pixels (width x height), more "
            f"than the {MAX_FRAME_PIXELS:,} allowed",
            hint=f"make them smaller: ffmpeg -i {for_shell(name)} -vf scale=1920:-2 small.mp4",
            intact=True,
        )
    # Frames may grow later. FFmpeg counts the margins that it puts around them too.
    stream.codec_context.options = {"max_pixels": str(2 * MAX_FRAME_PIXELS)}
    stream.thread_type = "AUTO"
    return container


def undecodable(name: str, error: av.FFmpegError) -> MediaError:
    """Make the error for a file that FFmpeg does not read.

    Args:
        name: Its name.
        error: The error of FFmpeg.

    Returns:
        The error to raise.
    """
    return MediaError(f"{name}: cannot be decoded as a video: {error.strerror}")


def stated_frames(container: InputContainer) -> int:
    """Tell how many frames a video has by its header, which need not be true.

    Args:
        container: The opened file.

    Returns:
        The number, worked out from its duration if it is not stated; 0 if neither is.
    """
    stream = container.streams.video[0]
    if stream.frames or not container.duration or not stream.average_rate:
        return stream.frames
    return int(container.duration / 1_000_000 * stream.average_rate)


@dataclass(frozen=True)
class Room:
    """The memory that is free for a video in which objects are followed.

    Attributes:
        image_size: Side of the model's input, in pixels.
        each: What a frame takes, in bytes.
        most: Number of frames that fit; None if it is not known how much memory is free.
    """

    image_size: int
    each: int
    most: int | None

    @classmethod
    def on(cls, device: torch.device | None, image_size: int, per_pixel: int) -> Room:
        """Ask a device.

        Args:
            device: Where the frames go; None for the processor, without torch.
            image_size: Side of the model's input, in pixels.
            per_pixel: What a frame takes for each pixel of the input, in bytes, with what is kept
                of one object.

        Returns:
            The room there.
        """
        free, each = free_memory(device), per_pixel * image_size**2
        return cls(image_size, each, None if free is None else free // each)

    def check(self, name: str, count: int) -> None:
        """Check that a video fits.

        Args:
            name: Path of the file or folder, or what the video is.
            count: Number of frames.

        Raises:
            MediaError: If it does not.
        """
        if self.most is not None and count > self.most:
            raise self._too_many(name, f"{count:,} frames", count)

    def check_next(self, name: str, number: int) -> None:
        """Check that one more frame fits, of a video whose length is not known.

        Args:
            name: As for :meth:`check`.
            number: Number of the frame, counted from 0.

        Raises:
            MediaError: If it does not.
        """
        if self.most is not None and number >= self.most:
            raise self._too_many(name, f"more than {self.most:,} frames", None)

    def _too_many(self, name: str, found: str, count: int | None) -> MediaError:
        needed = "" if count is None else f", which need {count * self.each / 1e9:,.1f} GB"
        most, side = self.most or 0, self.image_size
        shorter = f"ffmpeg -i {for_shell(name)} -frames:v {max(1, most)} shorter.mp4"
        fewer = "take fewer frames, or a smaller image size"
        return MediaError(
            f"{name}: has {found}{needed}; the memory that is free holds {most:,} frames of "
            f"{side} x {side} pixels",
            hint=f"{fewer}: {shorter}" if Path(name).is_file() else fewer,
            intact=True,
        )


def _demuxer(file: Path | BytesIO, name: str) -> str:
    if isinstance(file, Path):
        refuse_special(file)
        with file.open("rb") as opened:
            head = opened.read(_HEAD)
    else:
        head = bytes(file.getbuffer()[:_HEAD])
    found = _demuxer_of(head)
    if found is None:
        raise MediaError(
            f"{name}: cannot be decoded as a video: expected {CONTAINERS}",
            hint=f"convert it first: ffmpeg -i {for_shell(name)} video.mp4"
            if b"\0" in head
            else "give the video itself; what a text names, such as a playlist, is not opened",
            intact=True,
        )
    return found


def _demuxer_of(head: bytes) -> str | None:
    return next((demuxer for demuxer, tells in _DEMUXERS if tells(head)), None)
