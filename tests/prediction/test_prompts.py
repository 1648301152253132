"""Prompts mean what they say."""

from __future__ import annotations

import pytest

from sam21convert import Box, Point, UsageError
from sam21convert.prediction.prompts import (
    Prompt,
    Prompted,
    check_inside,
    check_object,
    grouped,
    parse_box,
    parse_point,
)


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("210,350", Point(210, 350)),
        ("210.5, 0", Point(210.5, 0)),
        ("210,350,1", Point(210, 350, 1)),
        ("210,350,0", Point(210, 350, 0)),
        ("210,350@12", Point(210, 350, 1, 12)),
        ("210,350,0@12", Point(210, 350, 0, 12)),
        ("dog:210,350", Point(210, 350, obj_id="dog")),
        ("2:210,350,0@3", Point(210, 350, 0, 3, "2")),
        ("Big_dog-2:-1,1e3", Point(-1, 1000, obj_id="Big_dog-2")),
    ],
)
def test_points(text: str, point: Point) -> None:
    assert parse_point(text) == point


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("1,2,30,40", Box(1, 2, 30, 40)),
        ("dog:1,2,30.5,40", Box(1, 2, 30.5, 40, obj_id="dog")),
        ("dog:1,2,30,40@5", Box(1, 2, 30, 40, 5, "dog")),
    ],
)
def test_boxes(text: str, box: Box) -> None:
    assert parse_box(text) == box


MALFORMED = """210|210,|,350|210;350|210 350|x,y|210,350,2|210,350,0.5|210,350,|1,2,1,4|nan,3|3,inf|
210,350@|210,350@-1|210,350@1.5|@3|dog|dog:|a:b:1,2|1,2@3@4|1,2@3:dog|"""


@pytest.mark.parametrize("text", [text.strip() for text in MALFORMED.split("|")])
def test_a_malformed_point_is_told_with_the_form(text: str) -> None:
    with pytest.raises(UsageError, match=r"^point .*: expected \[OBJECT:\]X,Y") as caught:
        parse_point(text)
    assert repr(text) in caught.value.message


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,3,x", "1,2,3,nan", "1,2,3,4@"])
def test_a_malformed_box_is_told_with_the_form(text: str) -> None:
    with pytest.raises(UsageError, match=r"^box .*: expected \[OBJECT:\]X0,Y0") as caught:
        parse_box(text)
    assert repr(text) in caught.value.message


def test_a_prompt_of_any_length_is_told_shortly() -> None:
    for text in (f"1,2@{'9' * 5000}", f"{'9' * 5000},2,3,4", f"{'a' * 5000}:1,2"):
        with pytest.raises(UsageError) as caught:
            parse_point(text)
        assert len(caught.value.message) < 250


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "ä", "a\\b", ".", "a" * 101])
def test_an_object_has_a_name_that_a_file_can_have(name: str) -> None:
    refusal = pytest.raises(UsageError, match="expected a name of letters")
    with refusal:
        check_object(name)
    with refusal:
        grouped([Point(1, 2, obj_id=name)])
    with refusal:
        parse_point(f"{name}:1,2")


def test_prompts_are_sorted_by_object_and_frame() -> None:
    a0, a7, a7_too = Point(1, 1), Point(2, 2, 1, 7), Point(3, 3, 0, 7)
    box, b2 = Box(1, 1, 9, 9, 7), Point(4, 4, 1, 2, "b")
    found = grouped([a7, b2, box, a7_too, a0])
    assert found == {
        "1": {0: Prompted([a0]), 7: Prompted([a7, a7_too], box)},
        "b": {2: Prompted([b2])},
    }
    assert [list(frames) for frames in found.values()] == [[0, 7], [2]]


def test_one_box_for_an_object_on_a_frame() -> None:
    boxes = [Box(1, 1, 9, 9), Box(1, 1, 9, 9, 1), Box(1, 1, 9, 9, obj_id="b")]
    grouped(boxes)
    with pytest.raises(
        UsageError,
        match=r"object 1 has a box on frame 0 already(.|\n)*give several objects names: dog:",
    ):
        grouped([*boxes, Box(2, 2, 5, 5)])


@pytest.mark.parametrize("corners", [(9, 1, 1, 9), (1, 9, 9, 1), (1, 1, 1, 9), (1, 1, 9, 1)])
def test_a_box_has_an_inside(corners: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="expected x0 < x1"):
        grouped([Box(*corners)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "inside"),
    [
        (Point(0, 0), True),
        (Point(29.9, 19.9), True),
        (Point(30, 5), False),
        (Point(5, 20), False),
        (Point(-0.1, 5), False),
        (Point(5, -0.1), False),
        (Box(0, 0, 30, 20), True),
        (Box(-0.1, 0, 30, 20), False),
        (Box(0, -0.1, 30, 20), False),
        (Box(0, 0, 30.1, 20), False),
        (Box(0, 0, 30, 20.1), False),
    ],
)
def test_prompts_lie_in_the_picture(prompt: Prompt, inside: bool) -> None:
    if inside:
        check_inside([prompt], 30, 20)
    else:
        with pytest.raises(UsageError, match="has 30 x 20 pixels"):
            check_inside([Point(1, 1), prompt], 30, 20)


@pytest.mark.parametrize("label", [-1, 2, 7, 0.5])
def test_a_point_is_on_the_object_or_outside_it(label: int) -> None:
    with pytest.raises(UsageError, match=rf"point 3,4: expected the label 1 .* found {label}"):
        grouped([Point(3, 4, label)])
