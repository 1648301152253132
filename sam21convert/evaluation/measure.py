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
_LARGE = 8192  # words, from which on a shorter way pays
_DEARER = 8  # steps for a word take as long as one for a pixel
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
        masks = _cut(predicted, true)
        self._width = masks[0].shape[1]
        self._masks = first, second = _packed(masks)
        self.area = _count(second)
        self.intersection = _count(first & second)
        self.union = self.area + _count(first) - self.intersection

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
        grid = _Grid(self._masks, self._width, disk.reach)
        boundaries = grid.boundaries()
        predicted, true = map(_count, grid.halves(boundaries))
        return Counts(*regions, predicted, true, *grid.near(boundaries, disk))


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


def _packed(masks: tuple[Mask, Mask]) -> _Words:
    """Both masks in words, ``2 x H x words``; the lowest bit of a word is its leftmost pixel."""
    height, width = masks[0].shape
    words = np.zeros((2, height, -(-width // _BITS)), "<u8")
    for rows, mask in zip(words, masks, strict=True):
        packed = np.packbits(mask, axis=1, bitorder="little")
        rows.view(np.uint8)[:, : packed.shape[1]] = packed
    return words


class _Grid:
    """Two masks as one row of words, for operations on both at once.

    Rows follow each other with so many empty pixels between them, and the masks with so many empty
    rows around them, that no pixel within reach belongs to another row or mask. So to look at a
    neighbour is to shift all bits.

    Args:
        masks: The masks in words, ``2 x H x words``.
        width: Their width in pixels.
        reach: How far a pixel may be from another to be compared with it.
    """

    def __init__(self, masks: _Words, width: int, reach: int) -> None:
        _, self._height, words = masks.shape
        self._stride = -(-(width + 1 + reach) // _BITS)  # words of a row
        self._gap = reach * self._stride  # words between the masks
        size = self._gap + (self._height + 1) * self._stride
        self._words = np.zeros(2 * size + self._gap, "<u8")
        rows = self._rows(self._words)
        rows[:, :-1, :words] = masks
        # What is beyond the last column or row equals it, so that it makes no boundary.
        (word, bit), (end, at) = divmod(width, _BITS), divmod(width - 1, _BITS)
        edge = (masks[:, :, end] >> np.uint64(at)) & np.uint64(1)
        rows[:, :-1, word] |= edge << np.uint64(bit)
        rows[:, -1] = rows[:, -2]
        self._inside = np.zeros(self._stride, "<u8")
        self._inside[:word], self._inside[word] = 2**_BITS - 1, 2**bit - 1

    def halves(self, words: _Words) -> _Words:
        """The words of each mask with those before its first row, ``2 x words``."""
        size = (len(words) - self._gap) // 2
        return words[: 2 * size].reshape(2, size)

    def _rows(self, words: _Words) -> _Words:
        """The rows of each mask and the one below them, ``2 x (H + 1) x words``."""
        return self.halves(words)[:, self._gap :].reshape(2, -1, self._stride)

    def boundaries(self) -> _Words:
        """Pixels that differ from the right, the lower or the lower right one."""
        words, found = self._words, np.zeros_like(self._words)
        right = _shifted(words, 1, *(np.empty_like(words) for _ in range(2)))
        here, beside, there = (self._rows(rows)[:, :-1] for rows in (words, right, found))
        below, across = (self._rows(rows)[:, 1:] for rows in (words, right))
        there[:] = ((here ^ beside) | (here ^ below) | (here ^ across)) & self._inside
        return found

    def near(self, boundaries: _Words, disk: _Disk) -> tuple[int, int]:
        """Count the pixels of each boundary that lie near the other.

        Most lie nearer than they need. Where there is much to look through, a smaller disk finds
        these in half the time, and what it does not find is looked at pixel by pixel.
        """
        of_each = self.halves(boundaries)
        inner = disk.inner if len(boundaries) > _LARGE else None
        found = self.halves(self._dilated(boundaries, inner or disk))
        if inner is not None:
            left = of_each & ~found[::-1]
            if _count(left) * len(disk.pieces) * _DEARER < len(boundaries) * len(disk.spans):
                first, second = map(_count, of_each)
                missed = self._missed(boundaries, left, disk)
                return first - missed[0], second - missed[1]
            found = self.halves(self._dilated(boundaries, disk))
        first, second = map(_count, of_each & found[::-1])
        return first, second

    def _missed(self, boundaries: _Words, left: _Words, disk: _Disk) -> tuple[int, int]:
        """Of pixels of each boundary, how many have none of the other in their disk."""
        filled = np.flatnonzero(left)
        bits = np.unpackbits(left.ravel()[filled].view(np.uint8), bitorder="little")
        at, bit = np.nonzero(bits.reshape(-1, _BITS))
        which, word = np.divmod(filled[at], left.shape[1])
        places = ((1 - which) * left.shape[1] + word) * _BITS + bit  # in the other mask
        first, second = np.bincount(which[~self._seen_from(places, boundaries, disk)], minlength=2)
        return int(first), int(second)

    def _seen_from(
        self, places: NDArray[np.int64], words: _Words, disk: _Disk
    ) -> NDArray[np.bool_]:
        """Whether the disk around each place, counted in bits, holds a pixel."""
        rows, first, length = disk.pieces.T
        starts = places[:, None] + (rows * self._stride * _BITS + first)
        at, by = starts // _BITS, (starts % _BITS).astype(np.uint64)
        # Shifted in two steps, as no word can be shifted by all of its bits.
        found = (words[at] >> by) | (words[at + 1] << np.uint64(1) << (np.uint64(_BITS - 1) - by))
        wanted = np.uint64(2**_BITS - 1) >> (_BITS - length).astype(np.uint64)
        seen: NDArray[np.bool_] = ((found & wanted) != 0).any(axis=1)
        return seen

    def _dilated(self, words: _Words, disk: _Disk) -> _Words:
        """Pixels around which the disk holds a pixel of the mask."""
        near, spare = (np.empty_like(words) for _ in range(2))
        found = np.zeros_like(words)
        inner = found[self._gap : -self._gap]
        run, length = words.copy(), 1  # whether a pixel, or one of the next ``length - 1``, is set
        for wanted, first, rows in disk.spans:
            while length < wanted:
                step = min(length, wanted - length)
                run |= _shifted(run, step, near, spare)
                length += step
            _shifted(run, first, near, spare)
            for below in rows:
                start = self._gap + below * self._stride
                inner |= near[start : start + len(inner)]
        return found


def _shifted(words: _Words, by: int, into: _Words, spare: _Words) -> _Words:
    """Give each bit the value of the one ``by`` places after it; 0 beyond the ends.

    What is allocated anew takes longer than the shift, so it is written into arrays that are there.
    """
    skip, bits = divmod(by, _BITS)
    size = len(words)
    start, stop = (0, size - skip) if skip > 0 else (-skip, size)
    if skip:
        into[:start] = into[stop:] = 0
    np.right_shift(words[start + skip : stop + skip], bits, out=into[start:stop])
    if bits:
        skip += 1
        start, stop = (0, size - skip) if skip > 0 else (-skip, size)
        part, here = spare[start:stop], into[start:stop]
        np.left_shift(words[start + skip : stop + skip], _BITS - bits, out=part)
        np.bitwise_or(here, part, out=here)
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
        pieces: Row, first column and length of each line, in pieces of a word at most.
        inner: A disk of half the size within it; None if it is too small for one.
    """

    spans: tuple[tuple[int, int, tuple[int, ...]], ...]
    reach: int
    pieces: NDArray[np.int64]
    inner: _Disk | None = None


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
    pieces = [
        (row, first + done, min(length - done, _BITS))
        for length, first, rows in lines
        for row in rows
        for done in range(0, length, _BITS)
    ]
    # One of less than four pixels could reach beyond one that is not whole.
    inner = _disk(radius // 2) if radius >= 4 else None
    return _Disk(lines, max(centre, 1), np.array(pieces), inner)
