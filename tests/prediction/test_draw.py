"""Drawings show masks and prompts, and leave the rest of the picture as it is."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam21convert import Box, Point
from sam21convert.prediction.draw import COLOURS, drawing, sheet
from sam21convert.prediction.prompts import Prompted


def test_masks_are_tinted_each_in_its_colour_and_the_rest_is_left() -> None:
    pixels = np.full((60, 90, 3), 128, np.uint8)
    left, right = np.zeros((2, 60, 90), bool)
    left[10:50, 10:40] = right[10:50, 50:80] = True
    found = np.asarray(drawing(pixels, {"a": left, "b": right}, {}))
    assert (found[~(left | right)] == 128).all()
    for mask, at, colour in ((left, (30, 25), COLOURS[0]), (right, (30, 65), COLOURS[1])):
        assert (found[mask] != 128).any(axis=-1).all()
        assert found[at] == pytest.approx(64 + np.array(colour) / 2, abs=1)
        assert tuple(found[10, at[1]]) == colour  # the outline


def test_prompts_are_marked() -> None:
    pixels, mask = np.full((60, 90, 3), 128, np.uint8), np.zeros((60, 90), bool)
    on, off, box = Point(20, 20), Point(20, 20, 0), Box(40, 10, 80, 50)
    drawn = [
        np.asarray(drawing(pixels, {"1": mask}, {"1": prompted}))
        for prompted in (Prompted([on]), Prompted([off]), Prompted(box=box))
    ]
    changed = [(picture != pixels).any(axis=-1) for picture in drawn]
    assert all(marks[12:29, 12:29].sum() == marks.sum() > 100 for marks in changed[:2])
    assert [tuple(picture[20, 18]) for picture in drawn[:2]] == [(255, 255, 255)] * 2
    assert [tuple(picture[18, 20]) for picture in drawn[:2]] == [(255, 255, 255), (220, 40, 40)]
    assert not changed[2][14:46, 44:76].any()
    for edge in (changed[2][10, 40:80], changed[2][50, 40:80], changed[2][10:50, 80]):
        assert edge.all()


def test_prompts_of_several_objects_carry_their_names_within_the_picture() -> None:
    pixels, mask = np.full((60, 90, 3), 128, np.uint8), np.zeros((60, 90), bool)
    corner = {"house": Prompted([Point(89, 0)])}
    alone = np.asarray(drawing(pixels, {"house": mask}, corner))
    named = np.asarray(drawing(pixels, {"house": mask, "sun": mask}, corner))
    assert (alone != named).any(axis=-1).sum() > 100


def test_titles_do_not_run_into_each_other() -> None:
    panel = Image.new("RGB", (10, 10), "red")
    wide, narrow = sheet(["a long title"] * 2, [panel] * 2, 2), sheet(["a"] * 2, [panel] * 2, 2)
    assert wide.width > narrow.width
