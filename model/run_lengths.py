"""Masks as run lengths, the form in which COCO keeps them.

The pixels are taken column by column. ``counts`` are the lengths of the runs, of pixels outside the
mask and inside it in turn; the first is 0 for a mask that has the first pixel. COCO's files hold
the counts as text, as ``rleToString`` of ``maskApi.c`` in pycocotools writes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RunLengths = dict[str, Any]  # "size": [height, width]; "counts": a list, or text

_BITS = 40  # of a count at most; no mask has as many pixels


def encode(mask: NDArray[np.bool_]) -> RunLengths:
    """Turn a mask into run lengths.

    Args:
        mask: ``H x W``.

    Returns:
        ``size`` and ``counts``, a list.
    """
    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(edges, prepend=0, append=pixels.size).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if pixels[0] else counts}


def decode(runs: RunLengths) -> NDArray[np.bool_]:
    """Turn run lengths into a mask.

    Args:
        runs: As :func:`encode` returns them.

    Returns:
        The mask, ``H x W``.
    """
    height, width = runs["size"]
    counts = runs["counts"]
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return pixels.reshape(width, height).T


def area(runs: RunLengths) -> int:
    """Count the pixels of a mask.

    Args:
        runs: As :func:`encode` returns them.

    Returns:
        The number of pixels inside.
    """
    return sum(runs["counts"][1::2])


def as_text(runs: RunLengths) -> RunLengths:
    """Write the counts as COCO's files have them.

    From the fourth on, each count is given as its difference to the last but one. A number is
    written in digits of five bits, the lowest first; bit 6 tells that another follows.

    Args:
        runs: As :func:`encode` returns them.

    Returns:
        The same ``size``, and ``counts`` as text.
    """
    counts, text = runs["counts"], bytearray()
    for place, count in enumerate(counts):
        left = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            digit, left = left & 31, left >> 5
            more = left != (-1 if digit & 16 else 0)  # the top bit of the last digit is the sign
            text.append(48 + digit + 32 * more)
    return {"size": runs["size"], "counts": text.decode("ascii")}


def from_text(text: str) -> list[int]:
    """Read counts as COCO's files have them.

    Args:
        text: The counts, as :func:`as_text` writes them.

    Returns:
        The lengths of the runs.

    Raises:
        ValueError: If it holds another character, or ends within a number.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or shift > _BITS:
            raise ValueError("no run lengths")
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        value -= (digit & 16) and 1 << shift  # the top bit of the last digit is the sign
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError("no run lengths")
    return counts
