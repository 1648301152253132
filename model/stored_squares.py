"""The frames of a long video in a file instead of in memory.

Needs no torch, as :mod:`.video_squares`.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING
from weakref import finalize

import numpy as np

from .video_files import Room
from .video_squares import Pixels, squares_of

if TYPE_CHECKING:
    import torch

_BYTES_PER_PIXEL = 1  # of the model's input: in memory is what is kept of one object on a frame


class StoredSquares:
    """The frames of a video, kept as bytes in a file without a name, and read one by one.

    The file is gone when this is, or when the program ends, however it does.

    Args:
        video: A folder of pictures ``<number>.jpg`` or ``.jpeg``, or a file that PyAV decodes.
        side: Side ``S`` of the model's input, in pixels.
        folder: Where the file lies: ``3 x S x S`` bytes for each frame.
        device: Where results go; None for the processor, without torch.

    Attributes:
        height: Height of the video before it was resized, in pixels.
        width: Width of the video before it was resized, in pixels.

    Raises:
        FileNotFoundError: If there is no such path.
        ValueError: If the video cannot be read, has no frames, or has frames of different sizes.
        OSError: If the disk is full; it names the folder.
    """

    height: int
    width: int

    def __init__(
        self, video: Path, side: int, folder: Path, device: torch.device | None = None
    ) -> None:
        self._side, self._count = side, 0
        room = Room.on(device, side, _BYTES_PER_PIXEL)
        try:
            self._file = TemporaryFile(dir=folder)  # noqa: SIM115  # as long as this is
            finalize(self, self._file.close)
            for square in squares_of(video, room):
                if self._count == 0:
                    self.height, self.width = square.height, square.width
                square.expect_size(self.height, self.width)
                self._file.write(np.ascontiguousarray(square.pixels).data)
                self._count += 1
            self._file.flush()
        except OSError as error:
            if error.filename is None and error.errno is not None:
                error.filename = str(folder)  # that of writing names no file
            raise
        if self._count == 0:
            raise ValueError(f"{video}: expected at least one frame, found none")

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Pixels:
        """Get a frame by its number, ``S x S x 3``."""
        pixels = np.empty((self._side, self._side, 3), np.uint8)
        self._file.seek(number * pixels.nbytes)
        self._file.readinto(pixels.data.cast("B"))
        return pixels
