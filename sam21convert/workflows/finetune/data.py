"""Open data to train on, and look at every mask before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import RefusedError, UsageError
from ...evaluation.datasets import MASK_FOLDERS
from ...io.nearby import expanded, missing
from ...report import Progress, counted
from .coco import find_json, with_shapes
from .footage import Footage, Frame
from .pictures import folders_of, with_ids
from .videos import for_training, frames_of

Kind = Literal["images", "video"]

_NAMED = 5  # of the files that were found


@dataclass(frozen=True)
class Data:
    """Data to train on, every mask of which was looked at.

    Attributes:
        root: Their folder, or the JSON of COCO.
        layout: ``ids``, ``coco``, or that of a data set of videos.
        kind: Whether single pictures or clips of videos are drawn.
        footage: The videos or pictures; a video whose frames are drawn singly is one of them.
    """

    root: Path
    layout: str
    kind: Kind
    footage: tuple[Footage, ...]

    @property
    def frames(self) -> int:
        """Number of all pictures and frames."""
        return sum(len(one.frames) for one in self.footage)

    @property
    def objects(self) -> int:
        """Number of all objects, each once for its video."""
        return sum(len({name for seen in one.seen for name in seen}) for one in self.footage)


def open_data(data: str | Path, kind: Kind | None, length: int, progress: Progress) -> Data:
    """Open data to train on.

    Args:
        data: Videos in a layout of ``evaluate``; or pictures with a PNG of ids each, in the folders
            ``images`` and ``masks``; or pictures with masks in the JSON of COCO.
        kind: Whether to draw single pictures or clips; None for clips of videos.
        length: Number of frames of a clip.
        progress: Told of each picture and frame whose masks are looked at.

    Returns:
        The data.

    Raises:
        UsageError: If clips are asked for and there are pictures.
        RefusedError: If a video is shorter than a clip, or no mask shows an object.
        Sam21ConvertError: If the data are arranged in no known way, or a mask is missing, damaged
            or no mask.
    """
    root = expanded(Path(data))
    if not root.exists():
        raise missing(root)
    layout, found = _pictures(root)
    if found is not None:
        if kind == "video":
            raise UsageError(
                f"{root}: holds pictures, and clips are of videos",
                hint="`images=True` trains on pictures",
            )
        frames = [*found]
        progress.start("looking at masks", len(frames))
        footage = tuple(_looked_at(frame.name, [frame], progress) for frame in frames)
        return Data(root, layout, "images", _filled(root, footage))
    if not _has_videos(root):
        raise RefusedError(
            f"{root}: expected videos as `evaluate` reads them, the folders images and masks, or a "
            f"JSON of COCO; found {_seen(root)}"
        )
    dataset, videos = for_training(root)
    listed = [(video.name, [*frames_of(dataset, video)]) for video in videos]
    if kind != "images":
        _refuse_short(root, listed, length)
    progress.start("looking at masks", sum(len(frames) for _, frames in listed))
    footage = tuple(_looked_at(name, frames, progress) for name, frames in listed)
    for one, video in zip(footage, videos, strict=True):
        if not one.starts(1):
            raise RefusedError(
                f"{video.truth}: shows no object in any mask", hint="remove the video"
            )
        if kind != "images" and not one.starts(length):
            raise RefusedError(
                f"{video.truth}: no {length} frames in a row begin with one that shows an object",
                hint=f"`frames={len(one.frames) - one.starts(1)[-1]}` or fewer can be drawn of it",
            )
    return Data(dataset.root, dataset.layout, kind or "video", footage)


def _pictures(root: Path) -> tuple[str, Iterable[Frame] | None]:
    """The layout of pictures, and the pictures; None for what may be videos."""
    if root.is_file():
        return "coco", with_shapes(root)
    flat = folders_of(root)
    if flat is not None:
        return "ids", with_ids(*flat)
    if not _has_videos(root) and (source := find_json(root)) is not None:
        return "coco", with_shapes(source)
    return "", None


def _has_videos(root: Path) -> bool:
    """Whether it has, or a folder in it has, a folder for the masks of each of several videos."""
    return any(
        path.is_dir()
        for name in MASK_FOLDERS
        for pattern in (f"{name}/*", f"*/{name}/*")
        for path in root.glob(pattern)
    )


def _seen(root: Path) -> str:
    names = sorted(path.name for path in root.iterdir())
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "") or "nothing"


def _looked_at(name: str, frames: list[Frame], progress: Progress) -> Footage:
    def seen() -> Iterator[tuple[str, ...]]:
        for frame in frames:
            yield tuple(frame.masks())
            progress.advance(1)

    return Footage(name, tuple(frames), tuple(seen()))


def _filled(root: Path, footage: tuple[Footage, ...]) -> tuple[Footage, ...]:
    for one in footage:
        if not one.seen[0]:
            raise RefusedError(
                f"{one.frames[0].picture}: its mask shows no object",
                hint="remove the picture and its mask",
            )
    if not footage:
        raise RefusedError(f"{root}: has no picture with a mask")
    return footage


def _refuse_short(root: Path, listed: list[tuple[str, list[Frame]]], length: int) -> None:
    name, frames = min(listed, key=lambda one: len(one[1]))
    if len(frames) < length:
        hint = f"`frames={len(frames)}` fits all, and `images=True` trains on single frames"
        raise RefusedError(
            f"{root}: video {name} has masks of {counted(len(frames), 'frame')}, and clips have "
            f"{length}",
            hint=hint if frames else "remove the video",
        )
