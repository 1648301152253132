"""J and F of one object in one frame: how well a region and its boundary are found.

J is the intersection over union of two masks (Jaccard). F is the harmonic mean of two shares: of
the predicted boundary that lies near the true one, and of the true boundary that lies near the
predicted one. Both as DAVIS defines them (Perazzi et al., 2016), to the last bit of a double.

Masks are packed, 64 pixels a word, so that a handful of operations on words does what would be one
for each pixel.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
_Words = NDArray[np.uint64]

_BITS = 64
_SHARE = 0.008  # of the diagonal: how far apart two boundaries may be


class Counts(NamedTuple):
    """What a predicted and a true mask have in common, in pixels.

    Attributes:
        intersection: Pixels of both masks.
        union: Pixels of either.
        predicted: Pixels of the predicted boundary.
        true: Pixels of the true boundary.
        near_true: Pixels of the predicted boundary that lie near the true one.
        near_predicted: Pixels of the true boundary that lie near the predicted one.
    """

    intersection: int
    union: int
    predicted: int
    true: int
    near_true: int
    near_predicted: int

    @property
    def j(self) -> float:
        """Intersection over union; 1 if both masks are empty."""
        return self.intersection / self.union if self.union else 1.0

    @property
    def f(self) -> float:
        """The boundary measure; 1 if both have no boundary, 0 if one has none."""
        if not self.predicted or not self.true:
            return float(self.predicted == self.true)
        precision, recall = self.near_true / self.predicted, self.near_predicted / self.true
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def diagonal_share(shape: tuple[int, ...]) -> float:
    """How far boundaries may be apart by default, before it is rounded.

    Args:
        shape: Height and width of the frame in pixels.

    Returns:
        0.8 % of its diagonal, in pixels.
    """
    return _SHARE * float(np.linalg.norm(shape))


class Pair:
    """A predicted and a true mask of one object in one frame.

    Args:
        predicted: The predicted mask, ``H x W``.
        true: The true mask, of the same shape.

    Attributes:
        shape: Height and width of the frame.
        area: Pixels of the true mask.
        intersection: Pixels of both masks.
        union: Pixels of either.
    """

    def __init__(self, predicted: Mask, true: Mask) -> None:
        self.shape = true.shape
        self._masks = predicted, true = _cut(predicted, true)
        self.area = int(np.count_nonzero(true))
        self.intersection = int(np.count_nonzero(predicted & true))
        self.union = self.area + int(np.count_nonzero(predicted)) - self.intersection

    def counts(self, radius: float | None = None) -> Counts:
        """Count what the two masks have in common.

        Args:
            radius: How far apart two pixels of boundaries may be to match, in pixels; None for
                0.8 % of the diagonal, rounded up.

        Returns:
            The counts.
        """
        radius = math.ceil(diagonal_share(self.shape)) if radius is None else radius
        regions = self.intersection, self.union
        if not self.union:
            return Counts(*regions, 0, 0, 0, 0)
        disk = _disk(radius)
        both = _Packed(self._masks, max(max(map(abs, row)) for row in disk))
        boundaries = both.boundaries()
        near = both.dilated(boundaries, disk)
        (predicted, true), (near_predicted, near_true) = map(both.split, (boundaries, near))
        return Counts(
            *regions,
            _count(predicted),
            _count(true),
            _count(predicted & near_true),
            _count(true & near_predicted),
        )


def _cut(predicted: Mask, true: Mask) -> tuple[Mask, Mask]:
    """The part of both that holds their boundaries, and nothing if both are empty.

    A pixel of a boundary may lie one row above its object, or one column before it. Below the part
    and on its right, both masks are empty or the frame ends.
    """
    either = predicted | true
    rows = np.flatnonzero(either.any(axis=1))
    if not rows.size:
        return predicted[:0], true[:0]
    high = slice(max(rows[0] - 1, 0), rows[-1] + 2)
    columns = np.flatnonzero(either[high].any(axis=0))
    wide = slice(max(columns[0] - 1, 0), columns[-1] + 2)
    return predicted[high, wide], true[high, wide]


class _Packed:
    """Two masks as one row of words, for operations on both at once.

    The lowest bit of a word is its leftmost pixel. Rows follow each other with so many empty pixels
    between them, and the masks with so many empty rows around them, that no pixel within the reach
    of a disk belongs to another row or mask. So to look at a neighbour is to shift all bits.

    Args:
        masks: The masks, ``H x W`` each.
        reach: How far the disk reaches.
    """

    def __init__(self, masks: tuple[Mask, Mask], reach: int) -> None:
        self._height, width = masks[0].shape
        self._gap = reach = max(reach, 1)
        self._stride = -(-(width + 1 + reach) // _BITS)  # words of a row
        padded = np.zeros((2, self._height + 1, self._stride * _BITS), bool)
        for into, mask in zip(padded, masks, strict=True):
            # What is beyond the last row or column equals it, so that it makes no boundary.
            into[:-1, :width] = mask
            into[:-1, width] = mask[:, -1]
            into[-1] = into[-2]
        packed = np.packbits(padded.reshape(-1, self._stride * _BITS), axis=1, bitorder="little")
        rows = packed.view("<u8").astype(np.uint64, copy=False).reshape(2, -1, self._stride)
        self._words = self._with_gaps(rows)
        inside = np.zeros(self._stride * _BITS, np.uint8)
        inside[:width] = 1
        self._inside = np.packbits(inside, bitorder="little").view("<u8").astype(np.uint64)

    def _with_gaps(self, rows: _Words) -> _Words:
        gap = self._gap
        spread = np.zeros((2, gap + rows.shape[1], self._stride), np.uint64)
        spread[:, gap:] = rows
        return np.concatenate([spread.ravel(), np.zeros(gap * self._stride, np.uint64)])

    def split(self, words: _Words) -> _Words:
        """The rows of each mask, ``2 x H x words``."""
        spread = words[: -self._gap * self._stride].reshape(2, -1, self._stride)
        return spread[:, self._gap : self._gap + self._height]

    def boundaries(self) -> _Words:
        """Pixels that differ from the right, the lower or the lower right one."""
        words = self._words
        right = _shifted(words, 1, *(np.empty_like(words) for _ in range(2)))
        below, across = (np.roll(one, -self._stride) for one in (words, right))
        found = (words ^ right) | (words ^ below) | (words ^ across)
        return self._with_gaps(self.split(found) & self._inside)

    def dilated(self, words: _Words, disk: tuple[tuple[int, int, int], ...]) -> _Words:
        """Pixels around which a disk holds a pixel of the mask."""
        near, spare = (np.empty_like(words) for _ in range(2))
        found = np.zeros_like(words)
        margin = self._gap * self._stride
        inner = found[margin:-margin]
        spans: dict[tuple[int, int], list[int]] = {}
        for below, first, final in disk:
            spans.setdefault((final - first + 1, first), []).append(below)
        run, length = words.copy(), 1  # whether a pixel, or one of the next ``length - 1``, is set
        for (wanted, first), rows in sorted(spans.items()):
            while length < wanted:
                step = min(length, wanted - length)
                run |= _shifted(run, step, near, spare)
                length += step
            _shifted(run, first, near, spare)
            for below in rows:
                start = margin + below * self._stride
                inner |= near[start : start + len(inner)]
        return found


def _shifted(words: _Words, by: int, into: _Words, spare: _Words) -> _Words:
    """Give each bit the value of the one ``by`` places after it; 0 beyond the ends.

    What is allocated anew takes longer than the shift, so it is written into arrays that are there.
    """
    skip, bits = divmod(by, _BITS)
    size = len(words)
    start, stop = max(-skip, 0), size - max(skip, 0)
    into[:start] = into[stop:] = 0
    np.right_shift(words[start + skip : stop + skip], np.uint64(bits), out=into[start:stop])
    if bits:
        start, stop = max(-skip - 1, 0), size - max(skip + 1, 0)
        part = spare[start:stop]
        np.left_shift(words[start + skip + 1 : stop + skip + 1], np.uint64(_BITS - bits), out=part)
        into[start:stop] |= part
    return into


def _count(words: _Words) -> int:
    return int(np.count_nonzero(np.unpackbits(np.ascontiguousarray(words).view(np.uint8))))


@cache
def _disk(radius: float) -> tuple[tuple[int, int, int], ...]:
    """Rows of a disk: how far below its centre, and its first and last column beside it.

    As scikit-image and OpenCV place it: a radius that is not whole gives a disk that reaches one
    pixel further up and to the left than down and to the right.
    """
    steps = np.arange(-radius, radius + 1)
    inside = steps[:, None] ** 2 + steps**2 <= radius**2
    centre = len(steps) // 2
    rows = []
    for number, row in enumerate(inside):
        columns = np.flatnonzero(row)
        if columns.size:
            rows.append((number - centre, int(columns[0]) - centre, int(columns[-1]) - centre))
    # OpenCV takes a disk without a pixel for one whose only pixel is its first.
    return tuple(rows) or ((-centre, -centre, -centre),)
