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
        both = _Packed(self._masks, _disk(radius))
        boundaries = both.boundaries()
        (predicted, true), (near_predicted, near_true) = map(
            both.split, (boundaries, both.dilated(boundaries))
        )
        matched = (predicted & near_true, true & near_predicted)
        return Counts(*regions, *map(_count, (predicted, true, *matched)))


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
        disk: Where pixels are near.
    """

    def __init__(self, masks: tuple[Mask, Mask], disk: _Disk) -> None:
        self._disk = disk
        self._height, width = masks[0].shape
        stride = -(-(width + 1 + disk.reach) // _BITS)  # words of a row
        self._gap = disk.reach * stride  # words between the masks
        self._words = np.zeros(2 * (self._gap + (self._height + 1) * stride) + self._gap, "<u8")
        for rows, mask in zip(self._rows(self._words), masks, strict=True):
            packed = np.packbits(mask, axis=1, bitorder="little")
            rows.view(np.uint8)[:-1, : packed.shape[1]] = packed
            # What is beyond the last column or row equals it, so that it makes no boundary.
            word, bit = divmod(width, _BITS)
            rows[:-1, word] |= mask[:, -1].astype(np.uint64) << np.uint64(bit)
            rows[-1] = rows[-2]
        inside = np.arange(stride * _BITS) < width
        self._inside = np.packbits(inside, bitorder="little").view("<u8")

    def _rows(self, words: _Words) -> _Words:
        """The rows of each mask and the one below them, ``2 x (H + 1) x words``."""
        size = (len(words) - self._gap) // 2
        stride = (size - self._gap) // (self._height + 1)
        return words[: 2 * size].reshape(2, size)[:, self._gap :].reshape(2, -1, stride)

    def split(self, words: _Words) -> _Words:
        """The rows of each mask, ``2 x H x words``."""
        return self._rows(words)[:, :-1]

    def boundaries(self) -> _Words:
        """Pixels that differ from the right, the lower or the lower right one."""
        words, found = self._words, np.zeros_like(self._words)
        right = _shifted(words, 1, *(np.empty_like(words) for _ in range(2)))
        here, there = self.split(words), self.split(found)
        beside, below, across = (
            self.split(right),
            self._rows(words)[:, 1:],
            self._rows(right)[:, 1:],
        )
        there[:] = ((here ^ beside) | (here ^ below) | (here ^ across)) & self._inside
        return found

    def dilated(self, words: _Words) -> _Words:
        """Pixels around which the disk holds a pixel of the mask."""
        near, spare = (np.empty_like(words) for _ in range(2))
        found = np.zeros_like(words)
        stride = self._gap // self._disk.reach
        inner = found[self._gap : -self._gap]
        run, length = words.copy(), 1  # whether a pixel, or one of the next ``length - 1``, is set
        for wanted, first, rows in self._disk.spans:
            while length < wanted:
                step = min(length, wanted - length)
                run |= _shifted(run, step, near, spare)
                length += step
            _shifted(run, first, near, spare)
            for below in rows:
                start = self._gap + below * stride
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
    """The number of pixels."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return int(np.bitwise_count(words).sum())
    return int(np.count_nonzero(np.unpackbits(np.ascontiguousarray(words).view(np.uint8))))


class _Disk(NamedTuple):
    """The pixels that are near another.

    Attributes:
        spans: Length, first column and rows of the lines that it consists of, the shortest first;
            columns and rows are counted from the centre.
        reach: How far the furthest pixel is to a side.
    """

    spans: tuple[tuple[int, int, tuple[int, ...]], ...]
    reach: int


@cache
def _disk(radius: float) -> _Disk:
    """Make a disk as scikit-image and OpenCV place it.

    A radius that is not whole gives one that reaches a pixel further up and to the left than down
    and to the right. One without a pixel is taken for one whose only pixel is its first.
    """
    steps = np.arange(-radius, radius + 1)
    inside = steps[:, None] ** 2 + steps**2 <= radius**2
    inside[0, 0] |= not inside.any()
    centre = len(steps) // 2
    spans: dict[tuple[int, int], list[int]] = {}
    for number, row in enumerate(inside):
        columns = np.flatnonzero(row)
        if columns.size:
            span = int(columns[-1] - columns[0]) + 1, int(columns[0]) - centre
            spans.setdefault(span, []).append(number - centre)
    lines = tuple((*span, tuple(rows)) for span, rows in sorted(spans.items()))
    return _Disk(lines, max(centre, 1))
