"""How often each step of the model runs while a video is tracked, by its frames and objects.

Nearly all of the time is spent in these steps, and their number does not depend on a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2VideoPredictor

from ..support.official import DEBUG, randomise

STEPS = (
    "encode_frame",
    "attend_to_memory",
    "predict_single_mask",
    "use_mask_as_output",
    "encode_memory",
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The calls so far, by step."""
    found = Counter[str]()

    def counting(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            found[name] += 1
            return step(*given, **more)

        return call

    for name in STEPS:
        step = getattr(SAM2VideoPredictor, name)
        monkeypatch.setattr(SAM2VideoPredictor, name, counting(name, step))
    return found


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    built = SAM2VideoPredictor(shipped_config(DEBUG[0])).eval()
    randomise(built, seed=0)
    return built


@pytest.mark.parametrize("objects", [1, 3])
@pytest.mark.parametrize("frames", [1, 4, 10])
def test_a_click_for_each_object_on_the_first_frame(
    predictor: SAM2VideoPredictor, calls: Counter[str], frames: int, objects: int
) -> None:
    """A frame is encoded once, for all objects; every other step runs for each of them."""
    pictures = [np.full((48, 64, 3), 20 * number, np.uint8) for number in range(frames)]
    state = predictor.init_state(pictures)
    for obj_id in range(objects):
        predictor.add_new_points_or_box(state, 0, obj_id, points=[[20, 20]], labels=[1])
    assert len([*predictor.propagate_in_video(state)]) == frames
    assert calls == Counter(
        encode_frame=frames,
        attend_to_memory=(frames - 1) * objects,
        predict_single_mask=frames * objects,
        encode_memory=frames * objects,
    )


def test_a_mask_is_decoded_once_where_it_is_given(
    predictor: SAM2VideoPredictor, calls: Counter[str]
) -> None:
    """It is the answer itself; what the decoder makes of it is the pointer to the object."""
    state = predictor.init_state([np.zeros((48, 64, 3), np.uint8)] * 3)
    predictor.add_new_mask(state, 0, 1, torch.ones(48, 64, dtype=torch.bool))
    assert len([*predictor.propagate_in_video(state)]) == 3
    assert calls == Counter(
        encode_frame=3,
        attend_to_memory=2,
        predict_single_mask=3,
        use_mask_as_output=1,
        encode_memory=3,
    )


def test_going_back_over_frames_encodes_each_once_more(
    predictor: SAM2VideoPredictor, calls: Counter[str]
) -> None:
    """Only the features of the last frame are kept: those of a video would not fit in memory."""
    state = predictor.init_state([np.zeros((48, 64, 3), np.uint8)] * 4)
    predictor.add_new_points_or_box(state, 2, 1, points=[[20, 20]], labels=[1])
    forward = [frame for frame, *_ in predictor.propagate_in_video(state)]
    back = [frame for frame, *_ in predictor.propagate_in_video(state, reverse=True)]
    assert (forward, back) == ([2, 3], [2, 1, 0])
    assert calls["encode_frame"] == 1 + len(forward[1:]) + len(back)
    assert calls["attend_to_memory"] == 1 + 2
