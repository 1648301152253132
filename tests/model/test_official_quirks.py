"""Where the official code fails or surprises, each shown once, and what ours does instead.

Everything else is the same to the last bit; see ``test_video_parity``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sam21convert.config.registry import shipped_config
from sam21convert.model.config import TrackingOptions
from sam21convert.model.connected_components import small_components
from sam21convert.model.video_predictor import SAM2VideoPredictor

from ..support import videos
from ..support.official import DEBUG, build_official_predictor
from ..support.videos import BOX, POINT, Answer, Scenario, clicks
from .test_video_parity import weights_of

BOTH = pytest.mark.parametrize("name", DEBUG)
ELSEWHERE = clicks([[80.0, 70.0]], [0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return videos.jpeg_folder(tmp_path_factory.mktemp("video"))


@cache
def weights(name: str) -> dict[str, Tensor]:
    """Such that objects are always there."""
    drawn = weights_of(shipped_config(name))
    bias = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"
    return {**drawn, bias: drawn[bias] + 5}


def ours(name: str, **options: Any) -> Any:
    predictor = SAM2VideoPredictor(shipped_config(name), TrackingOptions(**options)).eval()
    predictor.load_state_dict(weights(name))
    return predictor


def theirs(name: str, **options: Any) -> Any:
    predictor = build_official_predictor(shipped_config(name), **options)
    predictor.load_state_dict(weights(name))
    return predictor


def played(predictor: Any, scenario: Scenario, folder: str) -> list[Tensor]:
    return [masks for _, _, masks in scenario(predictor, predictor.init_state(folder))]


def sound(masks: list[Tensor]) -> bool:
    """Finite, with a pixel above and one below 0 at least."""
    return all(bool(mask.isfinite().all() and mask.min() < 0 < mask.max()) for mask in masks)


def prompt_to_come(predictor: Any, state: Any) -> Iterator[Answer]:
    """Followed from a frame before the object's only prompt: there is a memory, but no pointer."""
    yield predictor.add_new_points_or_box(state, 2, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state, start_frame_idx=0, max_frame_num_to_track=4)


@BOTH
def test_float32_fails_where_the_only_prompt_is_still_to_come(name: str, folder: str) -> None:
    """Memories are bfloat16, and only beside a pointer in float32 are they made so again."""
    with pytest.raises(RuntimeError, match=r"mat1 and mat2 .*BFloat16 and Float"):
        played(theirs(name), prompt_to_come, folder)
    assert sound(played(ours(name), prompt_to_come, folder))


@BOTH
def test_memories_around_a_prompt_cannot_be_cleared(name: str, folder: str) -> None:
    """The method is called, but nowhere defined."""
    with pytest.raises(AttributeError, match="_clear_obj_non_cond_mem_around_input"):
        played(theirs(name, clear_non_cond_mem_around_input=True), videos.point, folder)
    masks = played(ours(name, clear_non_cond_mem_around_input=True), videos.point, folder)
    assert sound(masks)


def late_correction(predictor: Any, state: Any) -> Iterator[Answer]:
    """In a video of a single frame."""
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state)
    yield predictor.add_new_points_or_box(state, 0, 1, **ELSEWHERE)


@BOTH
def test_a_late_correction_in_a_single_frame_loses_the_object(name: str, tmp_path: Path) -> None:
    """Ages of pointers are shares of the longest, which is 0 here. SAM 2 does not tell ages."""
    folder = videos.jpeg_folder(tmp_path)
    for picture in sorted(tmp_path.iterdir())[1:]:
        picture.unlink()
    predictor = theirs(name)
    state = predictor.init_state(folder)
    *before, (_, _, corrected) = late_correction(predictor, state)
    pending = state["temp_output_dict_per_obj"][0]["non_cond_frame_outputs"][0]
    tells_ages = name == "debug/sam2.1_debug"
    assert sound([masks for _, _, masks in before])
    assert pending["object_score_logits"].isnan().all() == tells_ages
    assert (corrected == -1024).all() == tells_ages
    assert sound(played(ours(name), late_correction, folder))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the extension may be there")
@BOTH
def test_holes_are_filled_only_with_a_cuda_extension(name: str, folder: str) -> None:
    def first(predictor: Any, state: Any) -> Iterator[Answer]:
        yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))

    with pytest.warns(UserWarning, match="Skipping the post-processing"):
        skipped = played(theirs(name, fill_hole_area=30), first, folder)
    assert torch.equal(skipped[0], played(theirs(name), first, folder)[0])
    assert torch.equal(skipped[0], played(ours(name), first, folder)[0])
    predictor = ours(name, fill_hole_area=30)
    state = predictor.init_state(folder)
    list(first(predictor, state))
    filled = state.objects[1].pending.prompted[0].low_res
    assert not small_components(filled <= 0, 30).any()
    state = predictor.init_state(folder)
    predictor.fill_hole_area = 0
    list(first(predictor, state))
    assert small_components(state.objects[1].pending.prompted[0].low_res <= 0, 30).any()


class TestCorrectionsAfterTracking:
    """Surprises, that ours shares to the last bit."""

    @BOTH
    def test_a_correction_of_a_prompted_frame_is_shown_and_then_dropped(
        self, name: str, folder: str
    ) -> None:
        """It counts as one of a tracked frame, for which a prompted frame has no place."""

        def corrected(predictor: Any, state: Any) -> Iterator[Answer]:
            yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
            yield from predictor.propagate_in_video(state, max_frame_num_to_track=3)
            yield predictor.add_new_points_or_box(state, 0, 1, **ELSEWHERE)
            yield from predictor.propagate_in_video(state, max_frame_num_to_track=3)

        for build in (ours, theirs):
            _, *before, shown, first, second, third, fourth = played(build(name), corrected, folder)
            assert not torch.equal(shown, before[0])
            assert all(map(torch.equal, before, (first, second, third, fourth)))
            keeping = build(name, add_all_frames_to_correct_as_cond=True)
            *_, shown, first, _, _, _ = played(keeping, corrected, folder)
            assert torch.equal(shown, first)

    @BOTH
    def test_a_new_object_hides_an_unfinished_correction_of_another(
        self, name: str, folder: str
    ) -> None:
        """Of pending answers on a frame only prompts are shown, or only corrections."""

        def beside(predictor: Any, state: Any) -> Iterator[Answer]:
            yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
            yield from predictor.propagate_in_video(state, max_frame_num_to_track=3)
            yield predictor.add_new_points_or_box(state, 3, 2, box=BOX)
            yield predictor.add_new_points_or_box(state, 3, 1, **ELSEWHERE)
            yield from predictor.propagate_in_video(
                state, start_frame_idx=3, max_frame_num_to_track=0
            )

        for predictor in (ours(name), theirs(name)):
            *_, prompted, corrected, followed = played(predictor, beside, folder)
            assert prompted[1].max() > 0
            assert (corrected[1] == -1024).all()
            assert torch.equal(followed[1], prompted[1])
