"""A drawn video, and things to do with a video predictor that end in masks.

Every scenario uses only methods that the official predictor has, and so runs with either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

Answer = tuple[int, list[int], Tensor]
Scenario = Callable[[Any, Any], Iterator[Answer]]

HEIGHT, WIDTH = 90, 120
LENGTH = 22
POINT, BOX = [[30.0, 46.0]], [14.0, 30.0, 48.0, 62.0]


def frame(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A disc that crosses the picture, is gone for a while and comes back, before moving waves."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / [[[HEIGHT]], [[WIDTH]]]
    picture = np.stack([x, y, 0.5 + 0.3 * np.sin(9 * x + 0.5 * number)], axis=-1)
    at_x, at_y = 0.25 + 0.6 * number / LENGTH, 0.5 + 0.2 * np.sin(number / 2)
    if not LENGTH / 3 <= number < LENGTH / 2:
        picture[(x - at_x) ** 2 + (y - at_y) ** 2 < 0.02] = (1.0, 0.2, 0.1)
    return (picture.clip(0, 1) * 255).astype(np.uint8)


def jpeg_folder(folder: Path) -> str:
    """The video as the official code reads it."""
    for number in range(LENGTH):
        Image.fromarray(frame(number)).save(folder / f"{number:05}.jpg", quality=95)
    return str(folder)


def disc_mask() -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The disc on the first frame."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / [[[HEIGHT]], [[WIDTH]]]
    mask: np.ndarray[Any, np.dtype[np.bool_]] = (x - 0.25) ** 2 + (y - 0.5) ** 2 < 0.02
    return mask


def clicks(points: Any, labels: Any) -> dict[str, Any]:
    """Arguments for points."""
    return {"points": np.array(points, np.float32), "labels": np.array(labels, np.int32)}


def point(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state)


def several_points(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_points(state, 0, 1, **clicks([*POINT, [90.0, 20.0]], [1, 0]))
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=3)


def shares_of_the_sides(predictor: Any, state: Any) -> Iterator[Answer]:
    given = clicks([[0.25, 0.5]], [1])
    yield predictor.add_new_points_or_box(state, 0, 1, **given, normalize_coords=False)


def box(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_points_or_box(state, 0, 1, box=np.array(BOX, np.float32))
    yield from predictor.propagate_in_video(state)


def box_and_point(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]), box=BOX)
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=3)


def mask(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_mask(state, 0, 1, disc_mask())
    yield from predictor.propagate_in_video(state)


def empty_mask(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_mask(state, 0, 1, np.zeros((HEIGHT, WIDTH), bool))
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=3)


def two_objects(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_points_or_box(state, 0, "disc", **clicks(POINT, [1]))
    yield predictor.add_new_mask(state, 2, "waves", ~disc_mask())
    yield from predictor.propagate_in_video(state, start_frame_idx=2)


def late_object(predictor: Any, state: Any) -> Iterator[Answer]:
    """A second object is pointed at after tracking began, on a frame that was tracked."""
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=8)
    yield predictor.add_new_points_or_box(state, 5, 2, box=BOX)
    yield from predictor.propagate_in_video(state, start_frame_idx=5)


def correction(predictor: Any, state: Any) -> Iterator[Answer]:
    """Clicks on a frame that was prompted and on one that was tracked; old logits are fed back."""
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    more = clicks([[90.0, 20.0]], [0])
    yield predictor.add_new_points_or_box(state, 0, 1, **more, clear_old_points=False)
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=10)
    yield predictor.add_new_points_or_box(state, 6, 1, **clicks([[50.0, 60.0]], [1]))
    yield predictor.add_new_points_or_box(state, 6, 1, **more, clear_old_points=False)
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks([[80.0, 70.0]], [0]))
    yield from predictor.propagate_in_video(state)


def mask_correction(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=4)
    yield predictor.add_new_mask(state, 3, 1, disc_mask())
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=6)


def corrections_of_two(predictor: Any, state: Any) -> Iterator[Answer]:
    """A new object and a correction of another one on the same frame, in both orders."""
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=4)
    yield predictor.add_new_points_or_box(state, 3, 2, box=BOX)
    yield predictor.add_new_points_or_box(state, 3, 1, **clicks([[80.0, 70.0]], [0]))
    yield predictor.add_new_points_or_box(state, 3, 2, **clicks([[80.0, 70.0]], [1]))
    yield from predictor.propagate_in_video(state, start_frame_idx=3, max_frame_num_to_track=6)


def reverse(predictor: Any, state: Any) -> Iterator[Answer]:
    """From the middle to the beginning, then forwards, then a correction of what went backwards."""
    yield predictor.add_new_points_or_box(state, 18, 1, **clicks([[90.0, 50.0]], [1]))
    yield predictor.add_new_points_or_box(state, 20, 1, **clicks([[90.0, 50.0]], [1]))
    yield from predictor.propagate_in_video(state, start_frame_idx=19, reverse=True)
    yield from predictor.propagate_in_video(state)
    yield predictor.add_new_points_or_box(state, 4, 1, **clicks([[50.0, 60.0]], [1]))
    yield from predictor.propagate_in_video(
        state, start_frame_idx=6, max_frame_num_to_track=4, reverse=True
    )
    assert not list(predictor.propagate_in_video(state, start_frame_idx=0, reverse=True))


def cleared(predictor: Any, state: Any) -> Iterator[Answer]:
    """Prompts are taken back, before and after tracking."""
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield predictor.add_new_points_or_box(state, 4, 1, **clicks(POINT, [1]))
    yield predictor.clear_all_prompts_in_frame(state, 4, 1)
    yield predictor.add_new_points_or_box(state, 2, 1, box=BOX)
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=6)
    yield predictor.clear_all_prompts_in_frame(state, 0, 1)
    assert predictor.clear_all_prompts_in_frame(state, 1, 1, need_output=False) is None
    yield from predictor.propagate_in_video(state)


def removed(predictor: Any, state: Any) -> Iterator[Answer]:
    """An object is removed, then all, then a new one is followed."""
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield predictor.add_new_mask(state, 0, 2, disc_mask())
    yield predictor.add_new_points_or_box(state, 1, 2, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=3)
    ids, updated = predictor.remove_object(state, 2)
    yield from ((number, list(ids), masks) for number, masks in updated)
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=3)
    assert predictor.remove_object(state, 7) == ([1], [])
    assert predictor.remove_object(state, 1) == ([], [])
    yield predictor.add_new_points_or_box(state, 2, 3, box=BOX)
    predictor.reset_state(state)
    yield predictor.add_new_points_or_box(state, 1, 4, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=3)


def story(predictor: Any, state: Any) -> Iterator[Answer]:
    """A bit of everything, on all frames."""
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state)
    yield predictor.add_new_mask(state, 2, 2, disc_mask())
    yield predictor.add_new_points_or_box(state, 12, 1, **clicks([[60.0, 50.0]], [1]))
    more = clicks([[100.0, 80.0]], [0])
    yield predictor.add_new_points_or_box(state, 12, 1, **more, clear_old_points=False)
    yield predictor.add_new_points_or_box(state, 14, 2, box=BOX)
    yield from predictor.propagate_in_video(state, start_frame_idx=12, max_frame_num_to_track=4)
    yield predictor.clear_all_prompts_in_frame(state, 14, 2)
    yield from predictor.propagate_in_video(
        state, start_frame_idx=13, max_frame_num_to_track=3, reverse=True
    )


SCENARIOS: tuple[Scenario, ...] = (
    point,
    several_points,
    shares_of_the_sides,
    box,
    box_and_point,
    mask,
    empty_mask,
    two_objects,
    late_object,
    correction,
    mask_correction,
    corrections_of_two,
    reverse,
    cleared,
    removed,
    story,
)


def many_prompts(predictor: Any, state: Any) -> Iterator[Answer]:
    """More prompted frames than may be attended to, on both sides of those that are tracked."""
    for number in (0, 3, 9, 14, 20):
        yield predictor.add_new_points_or_box(state, number, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state)
    yield predictor.add_new_points_or_box(state, 7, 1, **clicks([[60.0, 60.0]], [1]))
    yield from predictor.propagate_in_video(state, start_frame_idx=16, reverse=True)
