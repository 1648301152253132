"""Track the objects of a data set's videos, by the rules of the official script for them.

As ``tools/vos_inference.py`` of the official repository does: the first true mask of each object is
its prompt, nothing is done to masks afterwards, and where a picture holds the masks of all objects,
no two of them overlap. Objects that appear later are tracked one by one, each from its first mask.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import MissingFileError, RefusedError, UnreadableError
from ..io.nearby import not_a_folder
from ..io.output.temporary import temporary_folder
from ..model.pictures import numbered
from ..prediction.media import naming_faults
from ..report import SILENT, Progress, counted
from .amounts import LATER
from .datasets import Layout, Video
from .masks import Masks, ids_in, write_ids
from .measure import Mask
from .trackers.base import Tracker

# Of ids that follow each other no two look alike: each bit of an id is a bit of a colour.
_PALETTE = bytes(
    sum(((number >> (3 * at + channel)) & 1) << (7 - at) for at in range(3))
    for number in range(256)
    for channel in range(3)
)

Prompts = Mapping[int, tuple[int, Mask]]  # by id: the frame of the first mask, and the mask


def computes_on(device: torch.device) -> str:
    """What a model computes on, as far as the last bits of its results depend on it.

    Args:
        device: Its device.

    Returns:
        The name of the GPU, or ``cpu`` with the number of threads.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    return f"cpu, {counted(torch.get_num_threads(), 'thread')}"


def track(
    tracker: Tracker,
    video: Video,
    layout: Layout,
    folder: Path,
    progress: Progress = SILENT,
) -> None:
    """Track the objects of a video and write their masks as its layout has them.

    Args:
        tracker: A package with a checkpoint, which does nothing to masks afterwards.
        video: The video.
        layout: The layout of its data set.
        folder: Where to write: a PNG for each frame, or for each object and frame.
        progress: Advanced by the frames, once for every object that is tracked by itself.

    Raises:
        UnreadableError: If frames or masks are missing, damaged or of other sizes.
        RefusedError: If there is no object to track.
    """
    names = _frame_names(video)
    prompts = _prompts(video, names, later=layout in LATER)
    with naming_faults():  # frames are read one by one
        shape = tracker.begin(video.frames)
        _refuse_other_sizes(video, shape)
        if layout in LATER:
            _one_by_one(tracker, prompts, names, shape, folder, progress)
        else:
            _together(tracker, prompts, names, video, folder, progress)


def _refuse_other_sizes(video: Video, shape: tuple[int, int]) -> None:
    """Refuse true masks of another size than the frames, also those that only a score needs."""
    for masks in _truth(video).values():
        for name in masks.names():
            if (found := masks.shape(name)) != shape:
                raise UnreadableError(
                    f"{masks.folder / name}.png: expected {shape[1]} x {shape[0]} pixels (width x "
                    f"height), as the frames have, found {found[1]} x {found[0]}"
                )


def _together(
    tracker: Tracker,
    prompts: Prompts,
    names: Sequence[str],
    video: Video,
    folder: Path,
    progress: Progress,
) -> None:
    """Track all objects from the first frame on."""
    for number, (frame, mask) in prompts.items():
        tracker.add(frame, number, mask)
    own = [folder / name for name in _numbers(video)] if video.objects_apart else []
    for place in own:
        place.mkdir()
    at_of = {number: at for at, number in enumerate(prompts)}
    numbers = np.array([*prompts])
    for frame, logits in tracker.follow():
        for place in own:
            ids = (logits[at_of[int(place.name)]] > 0).astype(np.uint8)
            write_ids(place / f"{names[frame]}.png", ids, None)
        if not own:
            # A pixel is that of the highest logit; of equal ones, that of the smaller id.
            ids = np.where(logits.max(axis=0) > 0, numbers[logits.argmax(axis=0)], 0)
            _write(folder / f"{names[frame]}.png", ids.astype(np.uint8))
        progress.advance(1)


def _one_by_one(
    tracker: Tracker,
    prompts: Prompts,
    names: Sequence[str],
    size: tuple[int, int],
    folder: Path,
    progress: Progress,
) -> None:
    """Track each object by itself, forwards from its first mask; a pixel is that of the highest."""
    shape = len(names), *size
    with temporary_folder() as scratch:
        # Files, as the logits of a long video do not fit into memory.
        highest = _on_disk(scratch / "highest.npy", np.dtype(np.float32), shape)
        owner = _on_disk(scratch / "owner.npy", np.dtype(np.uint8), shape)
        for number, (first, mask) in prompts.items():
            tracker.forget()
            tracker.add(first, number, mask)
            for at, (found,) in tracker.follow(first):
                above = found > highest[at]  # which is 0 where there is no object yet
                highest[at][above] = found[above]
                owner[at][above] = number
                progress.advance(1)
        for frame, name in enumerate(names):
            _write(folder / f"{name}.png", owner[frame])


def _on_disk(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of zeros in a file, whose room is taken now: a full disk would end the process."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                    raise OSError(error.errno, error.strerror, str(path)) from error
                # Not supported everywhere.
    return array


def _write(path: Path, ids: NDArray[np.uint8]) -> None:
    write_ids(path, np.asarray(ids), _PALETTE)


def _frame_names(video: Video) -> list[str]:
    if not video.frames.is_dir():
        raise not_a_folder(video.frames)
    with naming_faults():
        return [path.stem for path in numbered(video.frames)]


def _prompts(video: Video, names: list[str], *, later: bool) -> Prompts:
    """The first mask of each object: on the first frame, or on any."""
    found: dict[int, tuple[int, Mask]] = {}
    for number, masks in _truth(video).items():
        annotated = {*masks.names()}
        if absent := annotated.difference(names):
            raise MissingFileError(
                f"{masks.folder}: has a mask of frame {min(absent)}, which is not in {video.frames}"
            )
        frames = [at for at, name in enumerate(names) if name in annotated]
        if not later and (not frames or frames[0]):
            raise UnreadableError(
                f"{masks.folder}: expected a mask of the first frame, {names[0]}, from which the "
                "objects are tracked; found none"
            )
        for at in frames if later else frames[:1]:
            ids = masks.read(names[at])
            if number is not None:  # also if it is empty, as the official script takes it
                found[number] = at, ids == 1
                continue
            for one in ids_in(ids):
                found.setdefault(one, (at, ids == one))
    if not found:
        which = "the masks show" if later else f"the first mask, {names[0]}.png, shows"
        raise RefusedError(f"{video.truth}: {which} no object to track")
    return dict(sorted(found.items()))


def _truth(video: Video) -> dict[int | None, Masks]:
    """The true masks, by the id of their one object, or None for those of all objects."""
    if not video.objects_apart:
        return {None: Masks(video.truth)}
    return {int(name): Masks(video.truth / name, of_one=True) for name in _numbers(video)}


def _numbers(video: Video) -> Iterator[str]:
    names: dict[int, str] = {}
    for name in video.object_names(video.truth):
        if not name.isdecimal():
            raise UnreadableError(f"{video.truth / name}: expected objects named by their numbers")
        if (same := names.setdefault(int(name), name)) != name:
            raise UnreadableError(
                f"{video.truth}: expected a folder for each object, found {same} and {name}"
            )
        yield name
