"""Drawn masks of small videos, true and predicted, with all that the rules of a score part on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Ids = NDArray[np.uint8]
Shapes = dict[int, tuple[float, float, float]]  # by id: x, y and radius in pixels

HEIGHT, WIDTH, FRAMES = 48, 80, 9
UNSEEN = ("R3UJGYwy", "K3OUeINk", "058oeZ2p", "xpI7xRWN", "FiRTBMg2", "nfcT3owb")


def picture(shapes: Shapes) -> Ids:
    """A mask of discs; a later one hides an earlier one."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, (across, down, radius) in shapes.items():
        ids[(x - across) ** 2 + (y - down) ** 2 <= radius**2] = number
    return ids


def video(shapes_at: Callable[[int], Shapes]) -> Ids:
    """The masks of a video, ``T x H x W``."""
    return np.stack([picture(shapes_at(frame)) for frame in range(FRAMES)])


def moved(ids: Ids, down: int, across: int) -> Ids:
    """All masks moved, with what leaves on one side coming back on the other."""
    return np.roll(ids, (down, across), (1, 2))


def _two(frame: int) -> Shapes:
    return {1: (20 + 2 * frame, 20, 9), 2: (55, 25 + frame, 6)}


def _without(number: int, frames: range, shapes_at: Callable[[int], Shapes]) -> Ids:
    def there(frame: int) -> Shapes:
        return {n: at for n, at in shapes_at(frame).items() if n != number or frame not in frames}

    return video(there)


def _specked(ids: Ids, frames: range, number: int) -> Ids:
    ids = ids.copy()
    ids[frames.start : frames.stop, 3, 3] = number
    return ids


def cases() -> dict[str, tuple[Ids, Ids]]:
    """True and predicted masks by the name of the video."""
    two = video(_two)
    half, middle = range(FRAMES // 2, FRAMES), range(3, 6)
    gone, hidden = _without(2, half, _two), _without(2, middle, _two)
    later = _without(2, range(4), _two)
    touching = video(lambda frame: {1: (30, 24, 10), 2: (49 - frame, 24, 9)})
    gaps = np.where(two == 2, 5, two).astype(np.uint8)
    noise = np.random.default_rng(1).random(two.shape) < 0.02
    whole = np.ones_like(two)
    return {
        "equal": (two, two.copy()),
        "moved": (two, moved(two, 1, 2)),
        "far": (two, moved(two, 20, 30)),
        "gone": (gone, moved(gone, 0, 1)),
        "gone-one-pixel": (gone, _specked(moved(gone, 0, 1), half, 2)),
        "hidden": (hidden, moved(hidden, 1, 0)),
        "hidden-missed": (hidden, moved(two, 1, 0)),
        "touching": (touching, moved(touching, 0, 1)),
        "border": (
            video(lambda frame: {1: (0, 0, 12), 2: (79, 47 - frame, 9)}),
            video(lambda frame: {1: (1, 0, 12), 2: (79, 46 - frame, 9)}),
        ),
        "pixels": (
            video(lambda frame: {1: (5 + frame, 5, 0), 2: (40, 30, 1)}),
            video(lambda frame: {1: (6 + frame, 5, 0), 2: (41, 30, 1)}),
        ),
        "specks": (two, np.where(noise, 1, two).astype(np.uint8)),
        "whole": (whole, np.where(np.arange(WIDTH) < 70, whole, 0).astype(np.uint8)),
        "lost": (two, np.zeros_like(two)),
        "gaps": (gaps, moved(gaps, 1, 1)),
        "swapped": (two, np.select([two == 1, two == 2], [2, 1]).astype(np.uint8)),
        "first-only": (_without(2, range(1, FRAMES), _two), moved(_without(2, half, _two), 0, 1)),
        "later": (later, moved(later, 0, 1)),
        "later-one-pixel": (later, _specked(moved(later, 0, 1), range(1, 2), 2)),
    }


# In these, an object is not in the first mask, which DAVIS does not score.
LATER = ("later", "later-one-pixel")


def write(folder: Path, masks: Ids, first: int = 0, step: int = 1, digits: int = 5) -> None:
    """Write the masks of a video as PNGs with a palette."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, ids in enumerate(masks):
        shown = Image.fromarray(ids)
        shown.putpalette([value for one in range(256) for value in (one, 255 - one, 128)])
        shown.save(folder / f"{first + step * number:0{digits}d}.png")


def write_apart(folder: Path, masks: Ids, objects: list[int]) -> None:
    """Write the masks of a video as SA-V has them: a folder for each object."""
    for at, number in enumerate(objects):
        (folder / f"{at:03d}").mkdir(parents=True)
        for frame, ids in enumerate(masks):
            one = Image.fromarray(np.where(ids == number, 255, 0).astype(np.uint8))
            one.save(folder / f"{at:03d}" / f"{4 * frame:05d}.png")


def davis(root: Path) -> tuple[Path, Path]:
    """Write a data set with the folders of DAVIS 2017, and predictions for it."""
    names = [name for name in cases() if name not in LATER]
    for name in names:
        truth, predicted = cases()[name]
        write(root / "DAVIS/Annotations/480p" / name, truth)
        write(root / "masks" / name, predicted)
    listed = root / "DAVIS/ImageSets/2017/val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("".join(f"{name}\n" for name in names))
    return root / "DAVIS", root / "masks"


def mose(root: Path) -> tuple[Path, Path]:
    """Write a data set with the folders of MOSE v2, and predictions for it."""
    stated = {}
    for name, (truth, predicted) in cases().items():
        write(root / "MOSE/Annotations" / name, truth)
        write(root / "masks" / name, predicted)
        objects = [str(number) for number in np.unique(truth) if number]
        size = {"length": FRAMES, "height": HEIGHT, "width": WIDTH}
        stated[name] = {"objects": objects, **size}
    (root / "MOSE/meta_valid.json").write_text(json.dumps({"videos": stated}))
    return root / "MOSE", root / "masks"


def named(case: str) -> str:
    """The name of a video in the data set of LVOS: a third of them are of unseen categories."""
    at = [*cases()].index(case)
    return case if at % 3 else UNSEEN[at // 3]


def lvos(root: Path) -> tuple[Path, Path]:
    """Write a data set with the folders of LVOS, and predictions for it."""
    stated = {}
    for case, (truth, predicted) in cases().items():
        name = named(case)
        write(root / "LVOS/Annotations" / name, truth, 1, 5, 8)
        write(root / "masks" / name, predicted, 1, 5, 8)
        objects = {}
        for number in np.unique(truth):
            frames = np.flatnonzero((truth == number).any(axis=(1, 2)))
            if not number or len(frames) < 3:
                continue
            start, end = 1 + 5 * int(frames[0]), 1 + 5 * int(frames[-1])
            count = str(frames[-1] - frames[0] + 1)
            span = {"start": str(start), "end": str(end), "frame_nums": count}
            objects[str(number)] = {"frame_range": span}
        stated[name] = {"objects": objects}
    (root / "LVOS/valid_meta.json").write_text(json.dumps({"videos": stated}))
    return root / "LVOS", root / "masks"


def sav(root: Path) -> tuple[Path, Path]:
    """Write a data set with the folders of SA-V, and predictions for it."""
    for name, (truth, predicted) in cases().items():
        objects = [int(number) for number in np.unique(truth[1:-1]) if number]
        write_apart(root / "sav_val/Annotations_6fps" / name, truth, objects)
        write_apart(root / "masks" / name, predicted, objects)
    return root / "sav_val", root / "masks"
