"""Points, boxes and masks as the graphs take them, in pixels of the model's input."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .resize import Floats

Labels = NDArray[np.int64]

PADDING = -1  # the label of a point that is none
_CORNERS = np.array([2, 3], np.int64)  # labels of the first and last corner of a box


class Prompts(NamedTuple):
    """``B`` prompts, each of which may have points, a box and a mask.

    Attributes:
        points: Points (x, y), ``B x N x 2``, or None.
        labels: ``B x N``: 1 on the object, 0 off it. None exactly if ``points`` is.
        boxes: The first and the last corner of each box, ``B x 2 x 2``, or None.
        mask: Logits, ``B x 1 x S/4 x S/4``, or one mask for all prompts, or None.
    """

    points: Floats | None = None
    labels: Labels | None = None
    boxes: Floats | None = None
    mask: Floats | None = None

    @property
    def sparse(self) -> bool:
        """Whether there are points or boxes."""
        return self.points is not None or self.boxes is not None

    @property
    def batch(self) -> int:
        """The number of prompts; 1 without any."""
        given = (one for one in (self.points, self.boxes, self.mask) if one is not None)
        return len(next(given, (None,)))

    def check(self, side: int) -> None:
        """Check that shapes fit each other.

        Args:
            side: Side ``S`` of the model's input, in pixels.

        Raises:
            ValueError: If they do not.
        """
        points, labels, boxes, mask = self
        if (points is None) != (labels is None):
            raise ValueError("points and labels: expected both or neither, found one")
        batch, quarter = self.batch, side // 4
        if points is not None and labels is not None:
            _expect_shape("points", points, batch, None, 2)
            _expect_shape("labels", labels, batch, points.shape[1])
        if boxes is not None:
            _expect_shape("boxes", boxes, batch, 2, 2)
        if mask is not None:
            rows = 1 if len(mask) == 1 else batch
            _expect_shape("mask_input", mask, rows, 1, quarter, quarter)

    def flat(self) -> tuple[Floats, Labels, Floats]:
        """Take points and boxes apart, for the graph that has an input for each.

        Returns:
            Points, ``B x N x 2``, and labels, ``B x N``, with ``N`` = 0 if there are none; and
            boxes, ``B x 4``, or ``0 x 4``.
        """
        points, labels = self._points()
        none = np.zeros((0, 4), np.float32)
        return points, labels, none if self.boxes is None else self.boxes.reshape(-1, 4)

    def tokens(self) -> tuple[Floats, Labels]:
        """Put the corners of boxes before the points, and the padding point after them.

        Returns:
            Points, ``B x N x 2``, and labels, ``B x N``; without points and boxes ``N`` is 0.
        """
        points, labels = self._points()
        if self.boxes is not None:
            kinds = np.broadcast_to(_CORNERS, (self.batch, 2))
            points = np.concatenate((self.boxes, points), axis=1)
            labels = np.concatenate((kinds, labels), axis=1)
        if self.sparse:
            points = np.pad(points, ((0, 0), (0, 1), (0, 0)))
            labels = np.pad(labels, ((0, 0), (0, 1)), constant_values=PADDING)
        return points, labels

    def _points(self) -> tuple[Floats, Labels]:
        if self.points is None or self.labels is None:
            return np.zeros((self.batch, 0, 2), np.float32), np.zeros((self.batch, 0), np.int64)
        return self.points, self.labels


def _expect_shape(name: str, array: NDArray[Any], *shape: int | None) -> None:
    fits = array.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        expected = " x ".join("any" if size is None else str(size) for size in shape)
        found = " x ".join(map(str, array.shape)) or "a scalar"
        raise ValueError(f"{name}: expected shape {expected}, found {found}")
