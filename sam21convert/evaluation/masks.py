"""Read and write masks of videos as data sets keep them: PNGs that hold ids, not colours."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import MissingFileError, RefusedError, UnreadableError
from ..io.nearby import not_a_folder
from ..model.pictures import MediaError, load_picture

Ids = NDArray[np.uint8]  # H x W: the id of the object that each pixel belongs to, or 0

_PNG = b"\x89PNG\r\n\x1a\n"
_SIZE = struct.Struct(">8s8xII")  # the beginning of a PNG, with its width and height
_LARGEST = 255  # id; a mask has a byte for each pixel
_MODES = ("1", "L", "P", "I", "I;16")  # of Pillow, in which a pixel is one number


def _values(path: Path) -> NDArray[np.generic]:
    """The pixels of a PNG, one number each; those of a palette are its indices."""
    try:
        picture = load_picture(path)
    except MediaError as error:
        kind = RefusedError if error.intact else UnreadableError
        raise kind(str(error), hint=error.hint) from error
    except OSError as error:
        raise UnreadableError(f"{path}: {error}") from error
    with path.open("rb") as file:
        if file.read(len(_PNG)) != _PNG:
            raise RefusedError(f"{path}: expected a PNG, found another format of pictures")
    if picture.mode not in _MODES:
        raise RefusedError(
            f"{path}: expected ids of objects, as indices of a palette or shades of grey, found "
            f"colours (Pillow's mode {picture.mode})",
            hint="save the indices: Image.fromarray(ids), with putpalette for colours to look at",
        )
    return np.asarray(picture)


def write_ids(path: Path, ids: Ids, palette: bytes | None) -> None:
    """Write a mask whose pixels are ids.

    Args:
        path: The PNG to write.
        ids: The ids, ``H x W``.
        palette: Colours to show them in, three bytes each; None for shades of grey. It is filled up
            to 256 colours: with fewer, the file would not hold larger ids.
    """
    picture = Image.fromarray(ids)
    if palette is not None:
        picture.putpalette(palette.ljust(768, b"\0"))
    picture.save(path)


@dataclass(frozen=True)
class Masks:
    """The masks of one video, or of one object in it.

    Attributes:
        folder: The folder with a PNG for each frame.
        of_one: Whether they are of one object: what is not 0 belongs to it, and has the id 1.
    """

    folder: Path
    of_one: bool = False

    def names(self) -> list[str]:
        """List the frames that have a mask; hidden files, such as those of macOS, are none.

        Returns:
            Their names, without ``.png``, sorted as text.

        Raises:
            MissingFileError: If there is no such folder.
        """
        if not self.folder.is_dir():
            raise not_a_folder(self.folder)
        return sorted(
            path.stem
            for path in self.folder.iterdir()
            if path.suffix == ".png" and not path.name.startswith(".")
        )

    def read(self, name: str, shape: tuple[int, ...] | None = None) -> Ids:
        """Read the mask of a frame.

        Args:
            name: The name of the frame.
            shape: The height and width that it must have; None for any.

        Returns:
            The ids, ``H x W``.

        Raises:
            MissingFileError: If it is missing.
            UnreadableError: If it is damaged or of another size.
            RefusedError: If it is no PNG, its pixels are colours or no ids, or it has the ids of
                several objects in place of one.
        """
        path = self.folder / f"{name}.png"
        if not self.folder.is_dir():
            raise not_a_folder(self.folder)
        if not path.exists():
            raise MissingFileError(f"{path}: there is no mask of frame {name}")
        ids = _values(path)
        if shape is not None and ids.shape != shape:
            height, width = ids.shape
            raise UnreadableError(
                f"{path}: expected {shape[1]} x {shape[0]} pixels (width x height), as the true "
                f"mask has, found {width} x {height}"
            )
        if self.of_one:
            values = [int(value) for value in np.unique(ids) if value]
            if len(values) > 1:
                raise RefusedError(
                    f"{path}: expected one object in a file, found the ids "
                    f"{', '.join(map(str, values[:3]))}"
                )
            belongs: Ids = (ids != 0).astype(np.uint8)
            return belongs
        if (largest := int(ids.max(initial=0))) > _LARGEST:
            raise RefusedError(f"{path}: expected ids from 0 to {_LARGEST}, found {largest}")
        return ids.astype(np.uint8, copy=False)

    def shape(self, name: str) -> tuple[int, ...]:
        """Tell the size of the mask of a frame, without reading all of it.

        Args:
            name: The name of the frame.

        Returns:
            Its height and width.

        Raises:
            Sam21ConvertError: If it is no PNG, as :meth:`read` does.
        """
        path = self.folder / f"{name}.png"
        if path.is_file():
            with path.open("rb") as file:
                head = file.read(_SIZE.size)
            if head.startswith(_PNG) and len(head) == _SIZE.size:
                _, width, height = _SIZE.unpack(head)
                return height, width
        return self.read(name).shape  # which says what is wrong

    def of_object(self, name: str) -> Masks:
        """The masks of one object, where each has a folder of its own.

        Args:
            name: The name of the folder.

        Returns:
            The masks.
        """
        return Masks(self.folder / name, of_one=True)


def ids_in(ids: Ids) -> list[int]:
    """The ids of the objects in a mask.

    Args:
        ids: The mask.

    Returns:
        The ids but 0, the smallest first.
    """
    found = np.flatnonzero(np.bincount(ids.ravel()))  # counting is faster than sorting
    return [int(one) for one in found if one]
