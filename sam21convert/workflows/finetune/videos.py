"""Videos in the layouts of ``evaluate``, without those that are for validation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import MissingFileError, RefusedError, UnreadableError
from ...evaluation.datasets import Dataset, Video, open_dataset
from ...evaluation.masks import Masks
from ...model.pictures import frame_files
from .footage import Apart, Frame, WithIds

_VOID = frozenset({255})  # in masks of DAVIS


def for_training(root: Path) -> tuple[Dataset, list[Video]]:
    """Find the videos to train on.

    Args:
        root: The data set.

    Returns:
        The data set, and its videos but for those of its own list for validation.

    Raises:
        RefusedError: If no other video has masks.
        Sam21ConvertError: As :func:`~sam21convert.evaluation.datasets.open_dataset` does.
    """
    dataset = open_dataset(root)
    if dataset.listed_in is None:
        return dataset, [*dataset.videos]
    validation = {video.name for video in dataset.videos}
    videos = [one for one in open_dataset(root, listed=False).videos if one.name not in validation]
    if not videos:
        raise RefusedError(
            f"{dataset.listed_in}: lists all videos that have masks, for validation: none is left "
            "to train on",
            hint="remove the list to train on them, and score on other videos",
        )
    return dataset, videos


def frames_of(dataset: Dataset, video: Video) -> Iterator[Frame]:
    """List the frames of a video that have masks.

    Args:
        dataset: Its data set.
        video: The video.

    Yields:
        The frames in the order of their names.

    Raises:
        MissingFileError: If a frame or a folder is missing.
        Sam21ConvertError: If a file of the data set names what are no ids.
    """
    pictures = _pictures(video.frames)
    known = frozenset(map(int, video.objects()))
    void = _VOID if dataset.layout == "davis" else frozenset()
    apart = {}
    if video.objects_apart:
        apart = {
            name: Masks(video.truth).of_object(name) for name in video.object_names(video.truth)
        }
    all_masks = [*apart.values()] or [Masks(video.truth)]
    for name in sorted({name for masks in all_masks for name in masks.names()}):
        if name not in pictures:
            raise MissingFileError(
                f"{video.frames}: there is no frame {name}, and {all_masks[0].folder} has "
                "a mask of it"
            )
        title = f"{video.name}, frame {name}"
        if apart:
            yield Apart(title, pictures[name], apart, name)
        else:
            yield WithIds(title, pictures[name], all_masks[0], name, void, known, video.stated_in)


def _pictures(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise MissingFileError(
            f"{folder}: there is no such folder, and training needs the frames of each video"
        )
    found = {path.stem: path for path in frame_files(folder)}
    if not found:
        raise UnreadableError(f"{folder}: expected pictures named <number>.jpg or .png, found none")
    return found
