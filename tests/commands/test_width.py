"""At 80 columns: words stay whole where they can, statistics take a line each, progress fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sam21convert.checkpoint.stats import Statistics, TensorStats
from sam21convert.commands.drawing import drawn
from sam21convert.comparison.report import scenario_row
from sam21convert.comparison.tables.facts import cells
from sam21convert.io.folding import braced, few, fold
from sam21convert.progress import Phase
from sam21convert.report import Line, Part, Table, share

from ..support.reports import KNOWN, PASSING

NAMES = [
    f"image_encoder.trunk.blocks.{at}.attn.{which}.weight" for at in range(12) for which in "qk"
]


def lines(*parts: Part, width: int = 80) -> list[str]:
    found = drawn(parts, width, colours=False, words=str).split("\n")
    assert max(map(len, found)) <= width
    return found


def test_a_line_breaks_between_names_and_else_after_a_dot() -> None:
    text = ", ".join(NAMES[:3])
    assert lines(Line((text,), 2)) == [
        f"{NAMES[0]},",
        f"  {NAMES[1]},",
        f"  {NAMES[2]}",
    ]
    assert lines(Line((NAMES[0],), 2), width=30) == [
        "image_encoder.trunk.blocks.0.",
        "  attn.q.weight",
    ]
    assert lines(Line(("x" * 50,), 2), width=30) == ["x" * 30, "  " + "x" * 20]


def test_wide_characters_are_counted_by_their_columns() -> None:
    found = drawn([Line(("漢字" * 30,), 2)], 40, colours=False, words=str).split("\n")
    assert [len(line.strip()) for line in found] == [21, 19, 19, 1]


def test_many_names_are_folded_to_the_first_and_the_last() -> None:
    assert few(NAMES[::2]) == "image_encoder.trunk.blocks.{0-11}.attn.q.weight"
    assert few(["a1.x", "b.y", "c.z"], 3) == "a1.x, b.y, c.z"
    assert few(["a1.x", "b.y", "c.z", "d.w", "e.v"], 3) == "a1.x, b.y ... e.v"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([4], "4"), ([1, 2], "{1,2}"), ([2, 0, 1], "{0-2}"), ([0, 1, 2, 5, 7, 8, 9], "{0-2,5,7-9}")],
)
def test_numbers_are_folded_in_one_way(numbers: list[int], text: str) -> None:
    assert braced(numbers) == text
    assert fold(f"b.{number}.w" for number in numbers) == [f"b.{text}.w"]


def test_statistics_take_a_line_a_tensor() -> None:
    stats = Statistics(
        tuple(
            TensorStats(name, "F32", (4096, 4096), -1.5, 2.5, -3e-12, 4e12, 0, 0, 16_777_216, 3.0)
            for name in NAMES
        ),
        (),
    )
    head, *rows = lines(*stats.shown())[: 1 + len(NAMES)]
    for row, name in zip(rows, NAMES, strict=True):
        assert row.endswith(name[-12:])
        assert row[head.index("tensor") :].startswith("...")
    whole = str(stats.shown()[0]).split("\n")
    assert whole[1].endswith(NAMES[0])
    named = Table((("n", "name"), ("1", "a.b")), cut=True)
    assert lines(named) == ["n  name", "1  a.b"]


@pytest.mark.parametrize("room", range(1, 60))
def test_progress_takes_no_more_than_its_room(room: int) -> None:
    phase = Phase("comparing", 14, doing="image-pixels of a picture", steps=3)
    assert len(phase.text(room)) <= room
    assert len(Phase("downloading a/very/long/name.safetensors", 0).text(room)) <= room


def test_what_progress_leaves_out() -> None:
    phase = Phase("comparing", 14, doing="image-pixels", steps=3)
    assert phase.text(40) == "comparing image-pixels (3 of 14)"
    assert phase.text(30) == "comparing ...-pixels (3 of 14)"
    assert phase.text(22) == "comparing (3 of 14)"
    assert phase.text(14) == "c... (3 of 14)"


def test_what_is_not_the_same_is_never_rounded_to_one() -> None:
    assert [share(one) for one in (None, 0.0, 0.5, 0.99999, 1.0)] == [
        "",
        "0",
        "0.5000",
        "0.9999",
        "1",
    ]
    scenario = next(one for one in PASSING.scenarios if one.iou is not None)
    activations = tuple(replace(one, iou=0.99996) for one in scenario.activations)
    almost = replace(scenario, activations=activations)
    assert "0.9999" in scenario_row(almost)
    assert "0.9999" in cells(almost, str)


def test_a_known_difference_shows_what_was_emulated_and_what_is() -> None:
    assert scenario_row(KNOWN)[2].endswith(" (3.0e-02)")
    assert cells(KNOWN, "{:g}".format)[2].endswith(" (0.03)")
    assert "(" not in scenario_row(PASSING.scenarios[0])[2]
