"""The interface of what tracks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...checkpoint.open import Checkpoint

Logits = NDArray[np.float32]  # objects x H x W, in the order of their ids
Frame = tuple[int, Logits]


class Wanted(NamedTuple):
    """How to load a checkpoint.

    Attributes:
        opened: The checkpoint.
        image_size: Side of the model's input in pixels; None for what its config says.
        device: The device of the model, as torch names it, or ``"auto"``.
        dtype: The type to compute in, by autocast unless it is ``"float32"``.
    """

    opened: Checkpoint
    image_size: int | None
    device: str
    dtype: str = "float32"


class Tracker(Protocol):
    """A package with a checkpoint loaded into it, which tracks one video at a time."""

    def begin(self, frames: Path) -> tuple[int, int]:
        """Open a video; what was tracked before is forgotten.

        Args:
            frames: The folder of its frames.

        Returns:
            Height and width of the frames in pixels.

        Raises:
            UnreadableError: If the package cannot read them.
        """

    def forget(self) -> None:
        """Forget all objects of the video."""

    def add(self, frame: int, number: int, mask: NDArray[np.bool_]) -> None:
        """Point at an object by its mask.

        Args:
            frame: The number of the frame.
            number: The id of the object; ids come in ascending order.
            mask: ``H x W``, true on the object.
        """

    def follow(self, start: int | None = None) -> Iterator[Frame]:
        """Track all objects forwards.

        Args:
            start: The number of the first frame; None for that of the first mask.

        Yields:
            The number of each frame, and the logits of all objects on it: above 0 is object.
        """


class Predictor:
    """A tracker around an object with the methods of the official video predictor.

    Args:
        predictor: The object. Its answers may be tensors or arrays.
    """

    def __init__(self, predictor: Any) -> None:
        self.predictor = predictor
        self.state: Any = None

    def forget(self) -> None:
        """Forget all objects of the video."""
        self.predictor.reset_state(self.state)

    def add(self, frame: int, number: int, mask: NDArray[np.bool_]) -> None:
        """Point at an object by its mask.

        Args:
            frame: As for :class:`Tracker`.
            number: As there.
            mask: As there.
        """
        self.predictor.add_new_mask(self.state, frame, number, mask)

    def follow(self, start: int | None = None) -> Iterator[Frame]:
        """Track all objects forwards.

        Args:
            start: As for :class:`Tracker`.

        Yields:
            As there.
        """
        options = {} if start is None else {"start_frame_idx": start}
        for frame, _, logits in self.predictor.propagate_in_video(self.state, **options):
            yield int(frame), _as_array(logits)


def _as_array(logits: Any) -> Logits:
    """Objects x 1 x H x W of whatever library, as objects x H x W."""
    if isinstance(logits, Tensor):
        logits = logits.float().cpu().numpy()
    return np.asarray(logits[:, 0], np.float32)
