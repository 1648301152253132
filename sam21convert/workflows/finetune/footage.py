"""Pictures with the masks of the objects in them, whatever files hold the masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import RefusedError, UnreadableError
from ...evaluation.masks import Ids, Masks, ids_in
from ...model.pictures import MAX_PIXELS, MediaError, load_picture, refuse_deep

Mask = NDArray[np.bool_]  # H x W

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_ENOUGH = 3  # ids of thin lines, from which on a mask is taken for a smoothed one


@dataclass(frozen=True)
class Frame(ABC):
    """A picture with the masks of the objects in it.

    Attributes:
        name: What messages call it.
        picture: The file of the picture.
    """

    name: str
    picture: Path

    @abstractmethod
    def masks(self) -> Mapping[str, Mask]:
        """Read the masks.

        Returns:
            The mask of each object that has a pixel in this picture, by its name.

        Raises:
            Sam21ConvertError: If a mask is missing, damaged, of another size than the picture, or
                holds what is no mask.
        """

    def load(self) -> Image.Image:
        """Read the picture.

        Returns:
            The picture, in RGB.

        Raises:
            UnreadableError: If it is missing or damaged.
            RefusedError: If it is no picture that is read here, is too large, or has more than 8
                bits per channel.
        """
        try:
            picture = load_picture(self.picture)
            refuse_deep(self.picture, picture)
            return picture.convert("RGB")
        except MediaError as error:
            kind = RefusedError if error.intact else UnreadableError
            raise kind(str(error), hint=error.hint) from error
        except OSError as error:
            raise UnreadableError(str(error)) from error

    def shape(self) -> tuple[int, int]:
        """Tell the size of the picture, without decoding it where its header tells.

        Returns:
            Height and width in pixels.

        Raises:
            Sam21ConvertError: As :meth:`load` does.
        """
        try:
            with Image.open(self.picture, formats=_FORMATS) as opened:
                if opened.width * opened.height <= MAX_PIXELS and opened.mode[0] not in "IF":
                    return opened.height, opened.width
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            pass
        whole = self.load()  # which says what is wrong
        return whole.height, whole.width


@dataclass(frozen=True)
class WithIds(Frame):
    """A picture whose masks are the ids in one PNG.

    Attributes:
        ids: The folder of the PNG.
        frame: The name of the PNG without its ending.
        void: Ids that stand for no object.
        known: The ids that a file of the data set lists; empty if none does.
        listed_in: That file.
    """

    ids: Masks
    frame: str
    void: frozenset[int] = frozenset()
    known: frozenset[int] = frozenset()
    listed_in: Path | None = None

    def masks(self) -> Mapping[str, Mask]:
        """Read the masks.

        Returns:
            As :meth:`Frame.masks`.

        Raises:
            RefusedError: If it has ids that are not listed, or another size than the picture.
            Sam21ConvertError: Otherwise as there.
        """
        found = self.ids.read(self.frame)
        path = self.ids.folder / f"{self.frame}.png"
        _expect_size(path, found.shape, self.shape(), self.picture)
        numbers = [one for one in ids_in(found) if one not in self.void]
        if self.known and (foreign := sorted({*numbers} - self.known)):
            raise RefusedError(
                f"{path}: has object {foreign[0]}, which {self.listed_in} does not list for this "
                "video",
                hint="correct the mask or the list, or remove the list",
            )
        _refuse_smoothed(path, found, numbers)
        return {str(number): found == number for number in numbers}


@dataclass(frozen=True)
class Apart(Frame):
    """A picture with a PNG for each object.

    Attributes:
        of: The masks of each object, by its name.
        frame: The name of the PNGs without their ending.
    """

    of: Mapping[str, Masks]
    frame: str

    def masks(self) -> Mapping[str, Mask]:
        """Read the masks.

        Returns:
            As :meth:`Frame.masks`; an object without a PNG is not in the picture.

        Raises:
            Sam21ConvertError: As there.
        """
        shape, found = self.shape(), {}
        for name, masks in self.of.items():
            path = masks.folder / f"{self.frame}.png"
            if not path.exists():
                continue
            mask = masks.read(self.frame) != 0
            _expect_size(path, mask.shape, shape, self.picture)
            if mask.any():
                found[name] = mask
        return found


@dataclass(frozen=True)
class Footage:
    """A picture or a video to train on.

    Attributes:
        name: Its name.
        frames: Its frames; one for a picture.
        seen: The names of the objects that each frame shows.
    """

    name: str
    frames: Sequence[Frame]
    seen: Sequence[tuple[str, ...]]

    def starts(self, length: int) -> list[int]:
        """Where a clip may begin: at a frame that shows an object.

        Args:
            length: Number of frames of the clip.

        Returns:
            Numbers of frames, counted from 0.
        """
        return [at for at in range(len(self.frames) - length + 1) if self.seen[at]]


def _expect_size(path: Path, found: tuple[int, ...], shape: tuple[int, int], picture: Path) -> None:
    if found != shape:
        raise RefusedError(
            f"{path}: expected {shape[1]} x {shape[0]} pixels (width x height), as {picture} has, "
            f"found {found[1]} x {found[0]}"
        )


def _refuse_smoothed(path: Path, ids: Ids, numbers: Sequence[int]) -> None:
    """Refuse a mask that was resized or saved with smoothing: its edges are ids of their own."""
    if len(numbers) < _ENOUGH:
        return
    inner = np.zeros_like(ids, bool)  # pixels whose neighbours on both sides have their id
    inner[1:-1] = (ids[1:-1] == ids[:-2]) & (ids[1:-1] == ids[2:])
    inner[:, 1:-1] &= (ids[:, 1:-1] == ids[:, :-2]) & (ids[:, 1:-1] == ids[:, 2:])
    inner[:, [0, -1]] = False
    thin = {*numbers} - {*ids_in(np.where(inner, ids, 0).astype(np.uint8))}
    if len(thin) >= _ENOUGH and 2 * len(thin) > len(numbers):
        raise RefusedError(
            f"{path}: {len(thin)} of its {len(numbers)} ids stand in thin lines only, as in a mask "
            "whose edges were smoothed; a pixel holds the id of one object, or 0",
            hint="resize masks with the nearest pixel, and save them as PNG",
        )
