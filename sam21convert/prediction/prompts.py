"""Prompts: points and boxes of named objects, in pixels of the picture, and their text form.

::

    [OBJECT:]X,Y[,LABEL][@FRAME[/ROUND]]    210,350    210,350,0    dog:210,350@12
    [OBJECT:]X0,Y0,X1,Y1[@FRAME[/ROUND]]    10,20,300,400    cat:10,20,300,400@12

Objects are followed after each round of prompts, so that those of a later round correct what was
found: ``dog:190,340,0@12/2`` takes a part of frame 12 away from the dog, once it was followed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import UsageError

POINT_FORM = "[OBJECT:]X,Y[,LABEL][@FRAME[/ROUND]]"
BOX_FORM = "[OBJECT:]X0,Y0,X1,Y1[@FRAME[/ROUND]]"

HOW_TO_PROMPT = (
    "for example --point 210,350 or --box 10,20,300,400; in Python, Point(210, 350) or "
    "Box(10, 20, 300, 400)"
)

_PROMPT = re.compile(
    r"(?:(?P<obj>[^:@]*):)?(?P<numbers>[^:@]*)"
    r"(?:@(?P<frame>[0-9]{1,18})(?:/(?P<round>[1-9][0-9]{0,8}))?)?"
)
_SHOWN = 100  # characters of a wrong prompt that an error message shows
_OBJECT = re.compile(r"[A-Za-z0-9_-]{1,100}")  # it names files and folders


@dataclass(frozen=True)
class Point:
    """A clicked point.

    Attributes:
        x: Pixels from the left.
        y: Pixels from the top.
        label: 1 on the object, 0 outside it.
        frame_idx: The frame of a video, counted from 0; 0 for a picture.
        obj_id: The name of the object: letters, digits, ``-`` and ``_``.
        round: In a video, 1 for a prompt that is given before anything is followed, 2 for one that
            corrects what was followed then, and so on.

    Example:
        >>> sam21convert.Point(210, 350, label=0, obj_id="girl")
        Point(x=210, y=350, label=0, frame_idx=0, obj_id='girl', round=1)
    """

    x: float
    y: float
    label: int = 1
    frame_idx: int = 0
    obj_id: str = "1"
    round: int = 1

    def __str__(self) -> str:
        return f"point {self.x:g},{self.y:g}"


@dataclass(frozen=True)
class Box:
    """A box around an object.

    Attributes:
        x0: Left side, in pixels.
        y0: Upper side, in pixels.
        x1: Right side, in pixels.
        y1: Lower side, in pixels.
        frame_idx: The frame of a video, counted from 0; 0 for a picture.
        obj_id: The name of the object: letters, digits, ``-`` and ``_``.
        round: In a video, 1 for a prompt that is given before anything is followed, 2 for one that
            corrects what was followed then, and so on.

    Example:
        >>> sam21convert.Box(300, 0, 500, 400, frame_idx=5)
        Box(x0=300, y0=0, x1=500, y1=400, frame_idx=5, obj_id='1', round=1)
    """

    x0: float
    y0: float
    x1: float
    y1: float
    frame_idx: int = 0
    obj_id: str = "1"
    round: int = 1

    def __str__(self) -> str:
        return f"box {self.x0:g},{self.y0:g},{self.x1:g},{self.y1:g}"


Prompt = Point | Box


@dataclass
class Prompted:
    """The prompts of one object on one frame.

    Attributes:
        points: Any number of points.
        box: At most one box.
    """

    points: list[Point] = field(default_factory=list)
    box: Box | None = None

    @property
    def all(self) -> list[Prompt]:
        """The points, then the box."""
        return [*self.points, *([] if self.box is None else [self.box])]

    @property
    def coordinates(self) -> list[tuple[float, float]] | None:
        """The points as predictors take them, ``N x 2``; None without points."""
        return [(point.x, point.y) for point in self.points] or None

    @property
    def labels(self) -> list[int] | None:
        """The labels of the points; None without points."""
        return [point.label for point in self.points] or None

    @property
    def corners(self) -> tuple[float, float, float, float] | None:
        """The box as predictors take it, ``x0, y0, x1, y1``; None without a box."""
        box = self.box
        return None if box is None else (box.x0, box.y0, box.x1, box.y1)

    def then(self, later: Prompted) -> Prompted:
        """Add prompts that are given after these.

        Args:
            later: The prompts of a later round, for the same object on the same frame.

        Returns:
            The points of both, and the later box if it has one.
        """
        return Prompted([*self.points, *later.points], later.box or self.box)


def parse_point(text: str) -> Point:
    """Parse a point of the form ``[OBJECT:]X,Y[,LABEL][@FRAME]``.

    Args:
        text: The point as a user writes it.

    Returns:
        The point.

    Raises:
        UsageError: If the text has another form; the message quotes it.
    """
    numbers, place = _parse(text, "point", POINT_FORM)
    if len(numbers) not in (2, 3) or numbers[2:] not in ([], [0], [1]):
        raise _malformed(text, "point", POINT_FORM)
    x, y, label = [*numbers, 1][:3]
    return Point(x, y, int(label), *place)


def parse_box(text: str) -> Box:
    """Parse a box of the form ``[OBJECT:]X0,Y0,X1,Y1[@FRAME]``.

    Args:
        text: The box as a user writes it.

    Returns:
        The box.

    Raises:
        UsageError: If the text has another form; the message quotes it.
    """
    numbers, place = _parse(text, "box", BOX_FORM)
    if len(numbers) != 4:
        raise _malformed(text, "box", BOX_FORM)
    x0, y0, x1, y1 = numbers
    return Box(x0, y0, x1, y1, *place)


def parse_prompts(points: Iterable[str], boxes: Iterable[str]) -> list[Prompt]:
    """Parse the points and boxes of a command line.

    Args:
        points: As for :func:`parse_point`.
        boxes: As for :func:`parse_box`.

    Returns:
        The points, then the boxes.

    Raises:
        UsageError: If one has another form; the message quotes it.
    """
    return [*map(parse_point, points), *map(parse_box, boxes)]


def grouped(prompts: Iterable[Prompt]) -> dict[str, dict[int, Prompted]]:
    """Group prompts by object and frame.

    Args:
        prompts: Points and boxes in any order.

    Returns:
        Name of an object to frame to prompts. Frames are in ascending order, and objects in the
        order of the frames of their first prompts.

    Raises:
        UsageError: If an object has a second box on a frame, or a box, a label or a name is
            impossible.
    """
    found: dict[str, dict[int, Prompted]] = {}
    for prompt in sorted(prompts, key=lambda prompt: prompt.frame_idx):
        check_object(prompt.obj_id)
        prompted = found.setdefault(prompt.obj_id, {}).setdefault(prompt.frame_idx, Prompted())
        if isinstance(prompt, Point):
            if prompt.label not in (0, 1):  # for which the model has nothing to add
                raise UsageError(
                    f"point {prompt.x:g},{prompt.y:g}: expected the label 1 for a point on the "
                    f"object, or 0, found {prompt.label}"
                )
            prompted.points.append(prompt)
        elif not (prompt.x0 < prompt.x1 and prompt.y0 < prompt.y1):
            raise UsageError(f"{prompt}: expected x0 < x1 and y0 < y1")
        elif prompted.box is not None:
            raise UsageError(
                f"{prompt}: object {prompt.obj_id} has a box on frame {prompt.frame_idx} already",
                hint="give several objects names: dog:10,20,90,80 and cat:40,50,120,140",
            )
        else:
            prompted.box = prompt
    return found


def in_rounds(prompts: Iterable[Prompt]) -> list[dict[str, dict[int, Prompted]]]:
    """Group prompts by round, object and frame.

    Args:
        prompts: Points and boxes in any order.

    Returns:
        For each round in turn what :func:`grouped` gives of its prompts, each with the earlier ones
        for the same object on the same frame: its points are added to theirs, and its box takes the
        place of theirs.

    Raises:
        UsageError: As :func:`grouped` does.
    """
    given, found = [*prompts], []
    before: dict[tuple[str, int], Prompted] = {}
    for number in sorted({prompt.round for prompt in given}):
        objects = grouped(prompt for prompt in given if prompt.round == number)
        for obj_id, frames in objects.items():
            for frame, new in frames.items():
                frames[frame] = before.get((obj_id, frame), Prompted()).then(new)
                before[obj_id, frame] = frames[frame]
        found.append(objects)
    return found


def check_object(obj_id: str) -> None:
    """Check that files can be named after an object.

    Args:
        obj_id: The name of the object.

    Raises:
        UsageError: If the name has other characters than letters, digits, ``-`` and ``_``.
    """
    if not _OBJECT.fullmatch(obj_id):
        raise UsageError(
            f"object {obj_id[:_SHOWN]!r}: expected a name of letters, digits, - and _, at most 100"
        )


def check_inside(prompts: Iterable[Prompt], width: int, height: int) -> None:
    """Check that prompts lie inside a picture.

    Args:
        prompts: Points and boxes.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.

    Raises:
        UsageError: If one does not; the message names it.
    """
    for prompt in prompts:
        if isinstance(prompt, Point):
            inside = 0 <= prompt.x < width and 0 <= prompt.y < height
        else:
            inside = min(prompt.x0, prompt.y0) >= 0 and prompt.x1 <= width and prompt.y1 <= height
        if not inside:
            raise UsageError(
                f"{prompt}: is not inside the picture, which has {width} x {height} pixels "
                "(width x height)"
            )


def _parse(text: str, kind: str, form: str) -> tuple[list[float], tuple[int, str, int]]:
    """The numbers of a prompt; and its frame, its object and its round."""
    hit = _PROMPT.fullmatch(text)
    if hit is None:
        raise _malformed(text, kind, form)
    try:
        numbers = [float(number) for number in hit["numbers"].split(",")]
    except ValueError:
        raise _malformed(text, kind, form) from None
    if not all(map(math.isfinite, numbers)):
        raise _malformed(text, kind, form)
    obj_id = "1" if hit["obj"] is None else hit["obj"]
    check_object(obj_id)
    return numbers, (int(hit["frame"] or 0), obj_id, int(hit["round"] or 1))


def _malformed(text: str, kind: str, form: str) -> UsageError:
    examples = {
        "point": "210,350 on the object, 210,350,0 outside it, dog:210,350@12 for the object dog "
        "on frame 12",
        "box": "10,20,300,400 or dog:10,20,300,400@12 for the object dog on frame 12",
    }
    shown = repr(text[:_SHOWN])
    return UsageError(f"{kind} {shown}: expected {form}", hint=f"for example {examples[kind]}")
