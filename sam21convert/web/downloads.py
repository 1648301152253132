"""What was found, as files: masks in a zip, run lengths for COCO's tools, a video."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..model.run_lengths import RunLengths, area, as_text, decode
from ..prediction.draw import black_and_white, drawing
from ..prediction.image import box_around
from ..prediction.media import frame_rate, frames_of, new_video
from .clip import Clip
from .picture import Picture

KINDS = {"masks": ".zip", "coco": ".json", "video": ".mp4"}
_FOLDER_RATE = Fraction(25)  # frames per second of a video that is made of pictures
_DATE = (1980, 1, 1, 0, 0, 0)  # the first of zip files: equal masks give equal files


def write(kind: str, media: Picture | Clip, side: int, path: Path) -> None:
    """Write what a checkpoint found.

    Args:
        kind: One of ``KINDS``.
        media: Where.
        side: Number of the checkpoint.
        path: The file to write.

    Raises:
        UsageError: If nothing was found yet, or a picture is to be a video.
    """
    if not media.found[side]:
        raise UsageError("nothing to download: no mask was found yet")
    if kind == "masks":
        _write_zip(media, side, path)
    elif kind == "coco":
        path.write_text(json.dumps(_as_coco(media, side)), encoding="utf-8")
    elif isinstance(media, Clip):
        _write_video(media, side, path)
    else:
        raise UsageError(f"{media.name}: is a picture, of which no video is made")


def _masks(media: Picture | Clip, side: int) -> Iterator[tuple[int, str, RunLengths]]:
    """Frame, name and mask of each."""
    if isinstance(media, Picture):
        for name, runs in media.found[side].items():
            yield 0, name, runs
        return
    for frame, objects in sorted(media.found[side].items()):
        for obj_id, runs in objects.items():
            yield frame, obj_id, runs


def _write_zip(media: Picture | Clip, side: int, path: Path) -> None:
    """The files that predict writes, under their names."""
    stem = Path(media.name).stem
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed
        for frame, name, runs in _masks(media, side):
            data = io.BytesIO()
            black_and_white(decode(runs)).save(data, "PNG")
            clip = isinstance(media, Clip)
            inside = f"masks/{name}/{frame:05}.png" if clip else f"{stem}.mask{name}.png"
            archive.writestr(zipfile.ZipInfo(inside, _DATE), data.getvalue())


def _as_coco(media: Picture | Clip, side: int) -> dict[str, Any]:
    facts = media.facts()
    size = {"width": facts["width"], "height": facts["height"]}
    clip = isinstance(media, Clip)
    names = (f"{frame:05}.jpg" if clip else media.name for frame in range(facts["frames"]))
    found = [*_masks(media, side)]
    objects = [*dict.fromkeys(name for _, name, _ in found)] if clip else ["object"]
    number = {name: at for at, name in enumerate(objects, 1)}
    return {
        "images": [{"id": at, "file_name": name, **size} for at, name in enumerate(names, 1)],
        "categories": [{"id": at, "name": name} for name, at in number.items()],
        "annotations": [
            {
                "id": at,
                "image_id": frame + 1,
                "category_id": number.get(name, 1),
                "iscrowd": 0,
                "segmentation": as_text(runs),
                "area": area(runs),
                "bbox": box_around(decode(runs)),
            }
            for at, (frame, name, runs) in enumerate(found, 1)
        ],
    }


def _write_video(clip: Clip, side: int, path: Path) -> None:
    rate = _FOLDER_RATE if clip.path.is_dir() else frame_rate(clip.path)
    prompts = clip.prompts()
    with new_video(path, rate, clip.width, clip.height) as append:
        for frame, pixels in enumerate(frames_of(clip.path)):
            found = clip.found[side].get(frame, {})
            masks = {obj_id: decode(runs) for obj_id, runs in found.items()}
            here = {
                obj_id: frames[frame]
                for obj_id, frames in prompts.items()
                if frame in frames and obj_id in masks
            }
            append(np.asarray(drawing(pixels, masks, here)))
