"""Pictures with masks in a JSON file, as COCO keeps them: polygons, or run lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ...errors import MissingFileError, RefusedError, UnreadableError
from ...io.text import parse_json, read_text
from ...model.pictures import MAX_PIXELS
from ...model.run_lengths import decode, from_text
from .footage import Frame, Mask

ANNOTATIONS = "annotations"  # the folder that COCO keeps its JSON files in
_LARGEST = 1 << 30  # bytes; the JSON of COCO's own training set has 470 MB
_FAR = 1 << 20  # a coordinate of no picture
_SHOWN = 60  # characters of what was found


@dataclass(frozen=True)
class WithShapes(Frame):
    """A picture whose masks are in a JSON file.

    Attributes:
        stated: Height and width in pixels, as the JSON has them.
        shapes: The segmentation of each object, by the id of its annotation.
        source: The JSON.
    """

    stated: tuple[int, int]
    shapes: Mapping[str, Any]
    source: Path

    def masks(self) -> Mapping[str, Mask]:
        """Draw the masks.

        Returns:
            As :meth:`~.footage.Frame.masks`.

        Raises:
            RefusedError: If the picture has another size than the JSON says, or a mask is empty.
            Sam21ConvertError: Otherwise as there.
        """
        if (shape := self.shape()) != self.stated:
            raise RefusedError(
                f"{self.picture}: expected {self.stated[1]} x {self.stated[0]} pixels (width x "
                f"height), as {self.source} says, found {shape[1]} x {shape[0]}"
            )
        found = {}
        for name, shapes in self.shapes.items():
            where = f"{self.source}: annotation {name}"
            mask = _mask(where, shapes, shape)
            if not mask.any():
                raise RefusedError(
                    f"{where}: has an empty mask in {self.name}", hint="remove the annotation"
                )
            found[name] = mask
        return found


def find_json(root: Path) -> Path | None:
    """Find the JSON of a data set as COCO arranges it.

    Args:
        root: The folder of the data.

    Returns:
        The only JSON file in the folder, or else in its folder ``annotations``; None if there is
        none.

    Raises:
        RefusedError: If there are several.
    """
    for folder in (root, root / ANNOTATIONS):
        there = sorted(folder.glob("*.json")) if folder.is_dir() else []
        if len(there) > 1:
            raise RefusedError(
                f"{folder}: has several JSON files, {there[0].name} and {there[1].name} among them",
                hint=f"name the one to train on: {there[0]}",
            )
        if there:
            return there[0]
    return None


def with_shapes(source: Path) -> Iterator[Frame]:
    """List the pictures of a JSON that have masks.

    Args:
        source: The JSON. The pictures lie beside it, or in a folder beside it or above it.

    Yields:
        The pictures in the order of the JSON. Those without an annotation are left out, and so are
        annotations of crowds, which are no single objects.

    Raises:
        UnreadableError: If it is not JSON.
        RefusedError: If it is no such file, or a picture is missing.
    """
    content = parse_json(source, read_text(source, _LARGEST, "the annotations of a data set"))
    pictures, annotations = (
        content.get(name) if isinstance(content, dict) else None
        for name in ("images", "annotations")
    )
    if not isinstance(pictures, list) or not isinstance(annotations, list):
        raise RefusedError(
            f"{source}: expected the lists images and annotations, as COCO has them; found "
            f"{_short(sorted(content) if isinstance(content, dict) else type(content).__name__)}"
        )
    by_id = _by_id(source, pictures, "images")
    shapes: dict[Any, dict[str, Any]] = {}
    for name, one in _by_id(source, annotations, "annotations").items():
        number = one.get("image_id")
        if not isinstance(number, (int, str)) or number not in by_id:
            raise RefusedError(
                f"{source}: annotation {name} is of the picture {_short(number)}, which it does "
                "not list"
            )
        if not one.get("iscrowd"):
            shapes.setdefault(number, {})[str(name)] = one.get("segmentation")
    home = _Home(source)
    for number, stated in by_id.items():
        if number in shapes:
            name, size = _stated(source, number, stated)
            yield WithShapes(name, home.find(name), size, shapes[number], source)


class _Home:
    """Finds pictures where data sets keep them: the folder of the first is looked in first."""

    def __init__(self, source: Path) -> None:
        self._source = source
        root = source.parent.parent if source.parent.name == ANNOTATIONS else source.parent
        self._folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]

    def find(self, name: str) -> Path:
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        for at, folder in enumerate(self._folders if inside else ()):
            if (folder / name).is_file():
                self._folders.insert(0, self._folders.pop(at))
                return folder / name
        raise MissingFileError(
            f"{self._source.parent / name}: there is no such picture, here or in a folder beside "
            f"{self._source}"
        )


def _by_id(source: Path, entries: list[Any], where: str) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {}
    for one in entries:
        number = one.get("id") if isinstance(one, dict) else None
        if not isinstance(number, (int, str)) or number in found:
            raise UnreadableError(
                f"{source}: expected an id of its own in each of {where}, found {_short(one)}"
            )
        found[number] = one
    return found


def _stated(source: Path, number: Any, one: Mapping[str, Any]) -> tuple[str, tuple[int, int]]:
    """The file and the size of a picture."""
    name, height, width = (one.get(key) for key in ("file_name", "height", "width"))
    if (
        isinstance(name, str)
        and "\0" not in name
        and isinstance(height, int)
        and isinstance(width, int)
        and 0 < height * width <= MAX_PIXELS
        and height > 0
    ):
        return name, (height, width)
    raise UnreadableError(
        f"{source}: expected file_name, height and width of picture {number}, found "
        f"{_short(dict(one))}"
    )


def _mask(where: str, shapes: Any, shape: tuple[int, int]) -> Mask:
    if isinstance(shapes, dict):
        return _runs(where, shapes, shape)
    if not isinstance(shapes, list) or not all(map(_is_polygon, shapes)):
        raise UnreadableError(
            f"{where}: expected polygons or run lengths as its segmentation, found {_short(shapes)}"
        )
    drawn = Image.new("1", (shape[1], shape[0]))
    draw = ImageDraw.Draw(drawn)
    for polygon in shapes:
        draw.polygon(polygon, fill=1)
    mask: Mask = np.array(drawn, bool)
    return mask


def _is_polygon(one: Any) -> bool:
    return (
        isinstance(one, list)
        and len(one) >= 6
        and len(one) % 2 == 0
        and all(isinstance(value, (int, float)) and abs(value) < _FAR for value in one)
    )


def _runs(where: str, runs: Mapping[str, Any], shape: tuple[int, int]) -> Mask:
    size, counts = runs.get("size"), runs.get("counts")
    if size != [*shape]:
        raise RefusedError(
            f"{where}: expected run lengths of a mask of {shape[1]} x {shape[0]} pixels (width x "
            f"height), found the size {_short(size)} (height, width)"
        )
    try:
        lengths = from_text(counts) if isinstance(counts, str) else counts
    except ValueError:
        lengths = None
    whole = isinstance(lengths, list) and all(isinstance(one, int) and one >= 0 for one in lengths)
    if not whole or sum(lengths or []) != shape[0] * shape[1]:
        raise UnreadableError(
            f"{where}: expected run lengths of {shape[0] * shape[1]:,} pixels in all, found "
            f"{_short(counts)}"
        )
    return decode({"size": size, "counts": lengths})


def _short(value: Any) -> str:
    text = repr(value[:_SHOWN] if isinstance(value, Sequence) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
