"""Pictures with one PNG of ids each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import MissingFileError, RefusedError
from ...evaluation.masks import Masks
from .footage import Frame, WithIds

# Folders of pictures and of masks, and the ids in the masks that stand for no object.
_FOLDERS: tuple[tuple[str, str, frozenset[int]], ...] = (
    ("images", "masks", frozenset()),
    ("JPEGImages", "SegmentationObject", frozenset({255})),  # PASCAL VOC draws outlines with it
    ("JPEGImages", "Annotations", frozenset()),
)
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def folders_of(root: Path) -> tuple[Path, Masks, frozenset[int]] | None:
    """Find pictures with a PNG of ids each.

    Args:
        root: The folder of the data.

    Returns:
        The folder of the pictures, that of the masks, and the ids that stand for no object; None if
        the data are arranged otherwise.
    """
    for pictures, masks, void in _FOLDERS:
        folder = root / masks
        if (root / pictures).is_dir() and folder.is_dir() and Masks(folder).names():
            return root / pictures, Masks(folder), void
    return None


def with_ids(pictures: Path, masks: Masks, void: frozenset[int]) -> Iterator[Frame]:
    """List the pictures that have a mask.

    Args:
        pictures: Their folder.
        masks: The masks, named as the pictures are.
        void: Ids that stand for no object.

    Yields:
        The pictures, in the order of their names.

    Raises:
        MissingFileError: If a mask has no picture.
        RefusedError: If it has several.
    """
    by_name: dict[str, list[Path]] = {}
    for path in sorted(pictures.iterdir()):
        if path.suffix.lower() in _ENDINGS and not path.name.startswith("."):
            by_name.setdefault(path.stem, []).append(path)
    for name in masks.names():
        there = by_name.get(name, [])
        if not there:
            raise MissingFileError(
                f"{pictures}: expected a picture {name}, as there is {masks.folder / name}.png; "
                "found none"
            )
        if len(there) > 1:
            raise RefusedError(
                f"{pictures}: expected one picture {name}, found {there[0].name} and "
                f"{there[1].name}"
            )
        yield WithIds(name, there[0], masks, name, void)
