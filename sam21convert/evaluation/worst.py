"""The worst frame of a video, in pictures: the frame, the true masks, and those of each checkpoint.

Masks are gone when a report is written, so the pictures are made while a video is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..model.pictures import MediaError, frame_files, load_picture
from ..prediction.draw import Pixels, drawing_of
from .datasets import Video
from .masks import Masks, ids_in
from .measure import Mask
from .protocols import ObjectScore

FRAME, TRUTH, FIRST, SECOND = (f"{name}.jpg" for name in ("frame", "truth", "first", "second"))
_SIDE = 480  # the longer side of a picture, in pixels
_QUALITY = 85  # of a JPEG


def over_frames(scores: Sequence[ObjectScore]) -> dict[str, float]:
    """J&F of a video on each frame.

    Args:
        scores: The scores of its objects.

    Returns:
        The name of a frame to the mean over the objects that count on it, in percent; by name.
    """
    values: dict[str, list[float]] = {}
    for one in scores:
        for name, j, f in zip(one.names, one.j_of, one.f_of, strict=True):
            values.setdefault(name, []).append(50 * (j + f))
    return {name: sum(found) / len(found) for name, found in sorted(values.items())}


def worst_frame(scores: Sequence[Sequence[ObjectScore]]) -> str | None:
    """The frame on which most is lost.

    Args:
        scores: The scores of the objects of one video, for one checkpoint or two.

    Returns:
        The name of the frame on which the second is furthest below the first; where it is nowhere
        below, or there is none, the frame with the lowest J&F of the first. None without scores.
    """
    first, *others = map(over_frames, scores)
    if not first:
        return None
    if others:
        apart = {name: others[0][name] - jf for name, jf in first.items() if name in others[0]}
        lost = min(apart, key=apart.__getitem__, default=None)
        if lost is not None and apart[lost] < 0:
            return lost
    return min(first, key=first.__getitem__)


def draw_worst(
    video: Video,
    scores: Sequence[Sequence[ObjectScore]],
    folders: Sequence[Path],
    destination: Path,
) -> None:
    """Write the pictures of the worst frame of a video, if the frame is there and can be read.

    Args:
        video: The video.
        scores: The scores of its objects, for one checkpoint or two.
        folders: The masks of each.
        destination: The folder for ``frame.jpg``, ``truth.jpg``, ``first.jpg`` and ``second.jpg``,
            which is made.

    Raises:
        UnreadableError: If a mask is missing or damaged.
    """
    name = worst_frame(scores)
    if name is None or not video.frames.is_dir():
        return
    path = next((one for one in frame_files(video.frames) if one.stem == name), None)
    if path is None:
        return
    try:
        picture = load_picture(path).convert("RGB")
    except (MediaError, OSError):  # no reason not to score masks
        return
    size = _fitted(picture.size)
    pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
    destination.mkdir(parents=True, exist_ok=True)
    _save(Image.fromarray(pixels), destination / FRAME)
    for title, folder in zip((TRUTH, FIRST, SECOND), (video.truth, *folders), strict=False):
        _save(_overlaid(pixels, video, folder, name), destination / title)


def _overlaid(pixels: Pixels, video: Video, folder: Path, name: str) -> Image.Image:
    return drawing_of(pixels, _masks(pixels, video, folder, name))


def _masks(pixels: Pixels, video: Video, folder: Path, name: str) -> Iterator[Mask]:
    """The masks of a frame, in the size of the picture: of all objects, in one order."""
    if video.objects_apart:
        for inner in video.object_names(video.truth):
            yield _resized(Masks(folder).of_object(inner).read(name) > 0, pixels)
        return
    ids = Masks(folder).read(name)
    for number in range(1, max(ids_in(ids), default=0) + 1):  # so that colours are those of ids
        yield _resized(ids == number, pixels)


def _resized(mask: Mask, pixels: Pixels) -> Mask:
    size = pixels.shape[1], pixels.shape[0]
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    share = min(1.0, _SIDE / max(size))
    width, height = (max(1, round(side * share)) for side in size)
    return width, height


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, quality=_QUALITY, subsampling=0)  # outlines are thin
