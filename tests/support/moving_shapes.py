"""Made data to train on: an orange disc that moves over a patchy ground, and a blue square."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 72, 96
_PATCH = 8  # pixels
_ORANGE, _BLUE = (240, 130, 20), (30, 60, 220)

Pixels = NDArray[np.uint8]


def clip(number: int, length: int) -> list[tuple[Pixels, Pixels]]:
    """The frames of a video and the ids in them: the disc is 1, and the square 2."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    patches = rng.integers(60, 200, (HEIGHT // _PATCH, WIDTH // _PATCH, 3))
    ground = patches.repeat(_PATCH, 0).repeat(_PATCH, 1)
    at, by = rng.uniform(20, 50, 2), rng.uniform(-3, 3, 2)
    other, radius = rng.uniform(10, 60, 2), rng.uniform(10, 15)
    found = []
    for frame in range(length):
        picture, ids = ground.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
        square = (abs(x - other[0]) < 8) & (abs(y - other[1]) < 8)
        down, across = at + frame * by
        disc = (x - across) ** 2 + (y - down) ** 2 < radius**2
        for mask, colour, id_ in ((square, _BLUE, 2), (disc, _ORANGE, 1)):
            picture[mask] = colour
            ids[mask] = id_
        found.append((picture.astype(np.uint8), ids))
    return found


def videos(root: Path, numbers: range, *, length: int = 6, objects: int = 2) -> Path:
    """Write videos as MOSE has them."""
    for number in numbers:
        folders = [root / kind / f"video{number}" for kind in ("JPEGImages", "Annotations")]
        for folder in folders:
            folder.mkdir(parents=True)
        for frame, (picture, ids) in enumerate(clip(number, length)):
            Image.fromarray(picture).save(folders[0] / f"{frame:05d}.jpg", quality=95)
            Image.fromarray(np.where(ids <= objects, ids, 0)).save(folders[1] / f"{frame:05d}.png")
    return root


def pictures(root: Path, count: int = 3) -> Path:
    """Write pictures with a PNG of ids each."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(count):
        [(picture, ids)] = clip(number, 1)
        Image.fromarray(picture).save(root / "images" / f"{number}.png")
        Image.fromarray(ids).save(root / "masks" / f"{number}.png")
    return root


def coco(root: Path, count: int = 3) -> Path:
    """Write the same pictures with their masks in the JSON of COCO: a polygon, and run lengths."""
    from sam21convert.model.run_lengths import as_text, encode

    (root / "images").mkdir(parents=True)
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        [(picture, ids)] = clip(number, 1)
        name = f"{number}.png"
        Image.fromarray(picture).save(root / "images" / name)
        listed.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
        rows, columns = np.nonzero(ids == 2)
        left, top, right, low = columns.min(), rows.min(), columns.max(), rows.max()
        corners = [left, top, right, top, right, low, left, low]
        for shapes in (as_text(encode(ids == 1)), [[*map(int, corners)]]):
            one = {"id": len(annotations), "image_id": number, "segmentation": shapes}
            annotations.append({**one, "iscrowd": 0, "category_id": 1})
    (root / "data.json").write_text(json.dumps({"images": listed, "annotations": annotations}))
    return root
