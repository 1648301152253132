"""Where transformers tracks objects differently from the official code.

Each difference is shown twice: how far the unchanged transformers is from our model, which follows
the official code, and that both agree once the cause is removed. So a test fails when transformers
changes. The amounts are given in docs/compatibility.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Sam2VideoInferenceSession
from transformers.models.sam2_video import modeling_sam2_video

from sam21convert.config.registry import shipped_config
from sam21convert.model.config import TrackingOptions
from sam21convert.model.position_encoding import rotary_grid, turn
from sam21convert.model.video_predictor import SAM2VideoPredictor

from ..support import videos
from ..support.official import DEBUG
from ..support.rounding import MULTIPLE, relative, rounding
from ..support.transformers import (
    Difference,
    TransformersPredictor,
    a_point,
    about,
    compared,
    difference,
    exact_memories,
    in_parity,
    new_predictor,
    noise,
    opened,
    our_predictor,
    their_predictor,
    weights,
)
from ..support.videos import BOX, POINT, Answer, Scenario, clicks

DEBUG_21 = "debug/sam2.1_debug"
ELSEWHERE = clicks([[90.0, 20.0]], [0])
BOTH = pytest.mark.parametrize("name", DEBUG)


def plain(name: str, scenario: Scenario, *, binary: bool = False) -> Difference:
    return compared(our_predictor(name), their_predictor(name), scenario, binary=binary)[0]


def without(
    name: str, scenario: Scenario, *causes: Callable[[Any], None], binary: bool = False
) -> Difference:
    """The difference after the causes were removed from the model of transformers."""
    theirs = TransformersPredictor(weights(name))
    for remove in causes:
        remove(theirs.model)
    return compared(our_predictor(name), theirs, scenario, binary=binary)[0]


def one_mask(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_mask(state, 0, 1, videos.disc_mask())
    yield from predictor.propagate_in_video(state, max_frame_num_to_track=9)


def pointer_of_the_best_of_three(model: Any) -> None:
    """Remove: the object pointer of a mask prompt comes from the best of three candidates."""
    model._single_frame_forward = partial(model._single_frame_forward, multimask_output=False)


def memory_of_the_given_mask(model: Any) -> None:
    """Remove: a mask prompt becomes a memory as it is, not at the resolution of other masks."""
    adopt = model._use_mask_as_output

    def adopted(*args: Any) -> Any:
        output = adopt(*args)
        side = (model.image_size, model.image_size)
        output.high_res_masks = F.interpolate(output.pred_masks, side, mode="bilinear")
        return output

    model._use_mask_as_output = adopted


class TestMaskPrompt:
    @BOTH
    def test_its_memory_and_pointer(self, name: str) -> None:
        ours, theirs = our_predictor(name), TransformersPredictor(weights(name))

        def remembered() -> tuple[float, float]:
            state = opened(ours)
            session = theirs.init_state(state)
            for _ in zip(one_mask(ours, state), one_mask(theirs, session), strict=True):
                pass
            mine = state.objects[1].settled.prompted[0]
            other = session.output_dict_per_obj[0]["cond_frame_outputs"][0]
            memory = other["maskmem_features"].float().permute(1, 2, 0)
            return (
                relative(mine.pointer, other["object_pointer"][:, 0]),
                relative(mine.memory.float().flatten(2), memory),
            )

        assert remembered() == (about(0.43), about(0.043))
        pointer_of_the_best_of_three(theirs.model)
        pointer, memory = remembered()
        assert pointer < MULTIPLE * noise(name)
        assert memory == about(0.043)
        memory_of_the_given_mask(theirs.model)
        assert remembered()[1] < 2**-8  # a last bit of bfloat16

    @BOTH
    def test_masks_of_later_frames(self, name: str) -> None:
        causes = (pointer_of_the_best_of_three, memory_of_the_given_mask)
        assert plain(name, one_mask).relative == about(5e-3)
        for cause in causes:
            assert not in_parity(without(name, one_mask, cause), noise(name))
        assert in_parity(without(name, one_mask, *causes), noise(name))


def another_click(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    yield predictor.add_new_points_or_box(state, 0, 1, **ELSEWHERE, clear_old_points=False)


def click_on_a_tracked_frame(predictor: Any, state: Any) -> Iterator[Answer]:
    yield from a_point(predictor, state)
    yield predictor.add_new_points_or_box(state, 6, 1, **ELSEWHERE)


def click_on_a_prompted_frame(predictor: Any, state: Any) -> Iterator[Answer]:
    yield from a_point(predictor, state)
    yield predictor.add_new_points_or_box(state, 0, 1, **ELSEWHERE)


def click_where_it_went_backwards(predictor: Any, state: Any) -> Iterator[Answer]:
    yield predictor.add_new_points_or_box(state, 9, 1, **clicks(POINT, [1]))
    yield from predictor.propagate_in_video(state, start_frame_idx=9, reverse=True)
    yield predictor.add_new_points_or_box(state, 4, 1, **ELSEWHERE)


def decoding_without_the_mask(model: Any) -> None:
    """Remove: a correcting click is decoded without the mask that it corrects."""
    run = model._run_single_frame_inference

    def fed(**given: Any) -> Any:
        outputs = given["inference_session"].output_dict_per_obj[given["obj_idx"]].values()
        found = [kind[given["frame_idx"]] for kind in outputs if given["frame_idx"] in kind]
        if found and given["point_inputs"] is not None:
            given["prev_sam_mask_logits"] = found[0]["pred_masks"].clamp(-32, 32)
        return run(**given)

    model._run_single_frame_inference = fed


class WithOfficialRecords(TransformersPredictor):
    """Prompted frames count as tracked, in the direction of tracking, and keep their memories.

    transformers does not count a frame with a prompt as tracked, so a correction replaces the
    prompt's memory. It also takes the direction of a correction from its caller.
    """

    def propagate_in_video(self, session: Any, **options: Any) -> Iterator[Answer]:
        for outputs in session.output_dict_per_obj.values():
            for frame in outputs["cond_frame_outputs"]:
                outputs["non_cond_frame_outputs"].pop(frame, None)
        for frame, ids, masks in super().propagate_in_video(session, **options):
            for followed in session.frames_tracked_per_obj.values():
                followed[frame] = {"reverse": options.get("reverse", False)}
            yield frame, ids, masks

    def respond(self, session: Any, frame: int) -> Answer:
        prompted = session.output_dict_per_obj[0]["cond_frame_outputs"]
        followed = session.frames_tracked_per_obj[0].get(frame)
        before = dict(prompted.get(frame, {}))
        reverse = followed is not None and followed["reverse"]
        output = self.model(session, frame_idx=frame, reverse=reverse)
        if followed and before:
            prompted[frame] = before
        return self.answer(session, output)


class TestCorrections:
    @BOTH
    @pytest.mark.parametrize(
        ("scenario", "amount"), [(another_click, 0.27), (click_on_a_tracked_frame, 0.35)]
    )
    def test_the_mask_to_correct_does_not_reach_the_decoder(
        self, scenario: Scenario, amount: float, name: str
    ) -> None:
        assert plain(name, scenario).relative == about(amount)
        assert in_parity(without(name, scenario, decoding_without_the_mask), noise(name))

    @BOTH
    @pytest.mark.parametrize(
        ("scenario", "amount"),
        [(click_on_a_prompted_frame, 1.1), (click_where_it_went_backwards, 0.12)],
    )
    def test_other_memories_are_attended_to(
        self, scenario: Scenario, amount: float, name: str
    ) -> None:
        with_mask = without(name, scenario, decoding_without_the_mask)
        assert with_mask.relative == about(amount)
        theirs = WithOfficialRecords(weights(name))
        decoding_without_the_mask(theirs.model)
        assert in_parity(compared(our_predictor(name), theirs, scenario)[0], noise(name))


def binary_for_all_objects(model: Any) -> None:
    """Remove: when one object has a prompt, the memories of all are made as if they had one."""
    encode = model._batch_encode_memories

    def each(inference_session: Any, frame_idx: int, **lists: list[Any]) -> None:
        for values in zip(*lists.values(), strict=True):
            one = {name: [value] for name, value in zip(lists, values, strict=True)}
            encode(inference_session=inference_session, frame_idx=frame_idx, **one)

    model._batch_encode_memories = each


def a_prompt_beside_a_tracked_object(predictor: Any, state: Any) -> Iterator[Answer]:
    """On frame 3 transformers tracks one object while it answers the prompt for another."""
    yield predictor.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
    until = 2 if isinstance(predictor, TransformersPredictor) else 3
    for answer in predictor.propagate_in_video(state, max_frame_num_to_track=until):
        if answer[0] < 3:
            yield answer
    predictor.add_new_points_or_box(state, 3, 2, box=BOX)
    yield from predictor.propagate_in_video(state, start_frame_idx=4, max_frame_num_to_track=9)


@BOTH
def test_a_prompt_for_one_object_makes_memories_of_all_binary(name: str) -> None:
    scenario = a_prompt_beside_a_tracked_object
    assert plain(name, scenario, binary=True).relative == about(4e-3)
    found = without(name, scenario, binary_for_all_objects, binary=True)
    assert in_parity(found, noise(name))


@pytest.mark.parametrize(
    "scenario",
    [videos.mask, videos.empty_mask, videos.correction, videos.mask_correction, videos.reverse],
)
@BOTH
def test_nothing_else_differs_for_an_object(name: str, scenario: Scenario) -> None:
    """Without these causes, the two agree in all common scenarios."""
    theirs = WithOfficialRecords(weights(name))
    for cause in (
        pointer_of_the_best_of_three,
        memory_of_the_given_mask,
        decoding_without_the_mask,
        binary_for_all_objects,
    ):
        cause(theirs.model)
    assert in_parity(compared(our_predictor(name), theirs, scenario)[0], noise(name))


def several_boxes(predictor: Any, state: Any) -> Iterator[Answer]:
    for frame in (0, 7, 14):
        yield predictor.add_new_points_or_box(state, frame, 1, box=BOX)
    yield from predictor.propagate_in_video(state, start_frame_idx=0)


def pointers_of_all_prompts(model: Any) -> None:
    """Remove: ``max_cond_frame_num`` limits the memories, but not the object pointers."""
    gather = model._get_object_pointers

    def nearest(session: Any, obj_idx: int, frame_idx: int, *args: Any, **kwargs: Any) -> Any:
        outputs = session.output_dict_per_obj[obj_idx]
        near, far = model._select_closest_cond_frames(
            frame_idx, outputs["cond_frame_outputs"], model.config.max_cond_frame_num
        )
        session.output_dict_per_obj[obj_idx] = {
            "cond_frame_outputs": near,
            "non_cond_frame_outputs": {**far, **outputs["non_cond_frame_outputs"]},
        }
        found = gather(session, obj_idx, frame_idx, *args, **kwargs)
        session.output_dict_per_obj[obj_idx] = outputs
        return found

    model._get_object_pointers = nearest


@BOTH
def test_a_limit_of_prompted_frames_leaves_all_their_pointers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = new_predictor(name, max_cond_frames_in_attn=2)
    theirs = TransformersPredictor(weights(name))
    monkeypatch.setattr(theirs.model.config, "max_cond_frame_num", 2)
    found, _ = compared(ours, theirs, several_boxes)
    assert found.relative == about(1e-3)
    pointers_of_all_prompts(theirs.model)
    assert in_parity(compared(ours, theirs, several_boxes)[0], noise(name))


def streamed(frames: list[Tensor]) -> Iterator[Answer]:
    """A point on the first frame; transformers gets the frames one by one."""
    theirs = their_predictor(DEBUG_21)
    session = Sam2VideoInferenceSession(
        video_height=videos.HEIGHT, video_width=videos.WIDTH, dtype=torch.float32
    )
    session.add_new_frame(frames[0])
    yield theirs.add_new_points_or_box(session, 0, 1, **clicks(POINT, [1]))
    for frame in frames[1:]:
        yield theirs.answer(session, theirs.model(session, frame=frame))


def test_a_stream_counts_as_a_long_video() -> None:
    """So the temporal positions of object pointers (SAM 2.1) differ in a short one."""
    ours: Any = our_predictor(DEBUG_21)

    def followed(length: int) -> Iterator[Answer]:
        state = ours.init_state([videos.frame(number) for number in range(length)])
        yield ours.add_new_points_or_box(state, 0, 1, **clicks(POINT, [1]))
        yield from list(ours.propagate_in_video(state, max_frame_num_to_track=5))[1:]

    frames = list(opened(ours).images[:6])
    with exact_memories():
        assert difference(followed(6), streamed(frames)).relative == about(1.8e-3)
        assert in_parity(difference(followed(16), streamed(frames)), noise(DEBUG_21))


def before_any_answer(predictor: Any, state: Any) -> Iterator[Answer]:
    """Two prompts before the model runs for the first time."""
    for frame in (0, 5):
        if isinstance(predictor, TransformersPredictor):
            predictor.processor.add_inputs_to_inference_session(
                state, frame, 1, input_boxes=[[BOX]]
            )
        else:
            predictor.add_new_points_or_box(state, frame, 1, box=BOX)
    yield from predictor.propagate_in_video(state, start_frame_idx=0, max_frame_num_to_track=9)


@BOTH
def test_a_prompt_is_lost_unless_the_model_runs_before_the_next(name: str) -> None:
    def at_once(predictor: Any, state: Any) -> Iterator[Answer]:
        for frame in (0, 5):
            yield predictor.add_new_points_or_box(state, frame, 1, box=BOX)
        yield from predictor.propagate_in_video(state, max_frame_num_to_track=9)

    assert plain(name, before_any_answer).relative == about(1.4)
    assert in_parity(plain(name, at_once), noise(name))


@BOTH
def test_frames_before_a_prompt_count_as_prompted_unless_the_model_ran_there(name: str) -> None:
    theirs = their_predictor(name)

    def prompted_frames(ids: list[int], at_once: bool) -> list[int]:
        session = theirs.init_state(opened(our_predictor(name)))
        theirs.processor.add_inputs_to_inference_session(session, 2, ids, input_boxes=[[BOX]])
        if at_once:
            theirs.model(session, frame_idx=2)
        for _ in theirs.propagate_in_video(session, start_frame_idx=0, max_frame_num_to_track=4):
            pass
        return list(session.output_dict_per_obj[0]["cond_frame_outputs"])

    ids = [1]
    assert prompted_frames(ids, at_once=False) == [0, 1, 2]
    assert ids == []  # the caller's own list was emptied
    assert prompted_frames([1], at_once=True) == [2]


class TestOptions:
    """Options of the official builders that transformers fixes or does not have."""

    @BOTH
    def test_memories_of_prompted_masks_are_binary(self, name: str) -> None:
        """Like ``binarize_mask_from_pts_for_mem_enc``, which ``apply_postprocessing`` turns on."""
        sigmoid = new_predictor(name, binarize_mask_from_pts_for_mem_enc=False)
        found, _ = compared(sigmoid, their_predictor(name), a_point, binary=True)
        assert found.relative == about(0.014)
        assert in_parity(plain(name, a_point, binary=True), noise(name))

    @BOTH
    def test_dynamic_multimask_is_on(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """``apply_postprocessing`` turns it on; otherwise it is off in the official code."""
        config = replace(shipped_config(name), dynamic_multimask_via_stability=False)
        options = TrackingOptions(binarize_mask_from_pts_for_mem_enc=True)
        ours = SAM2VideoPredictor(config, options).eval()
        ours.load_state_dict(weights(name))
        theirs = TransformersPredictor(weights(name))
        found, _ = compared(ours, theirs, videos.several_points)
        assert found.relative == about(1.0)
        monkeypatch.setattr(theirs.model.mask_decoder, "dynamic_multimask_via_stability", False)
        assert in_parity(compared(ours, theirs, videos.several_points)[0], noise(name))

    @BOTH
    def test_holes_are_not_filled(self, name: str) -> None:
        filled = new_predictor(name, fill_hole_area=8)
        found, _ = compared(filled, their_predictor(name), a_point)
        assert found.relative == about(0.45)
        assert in_parity(plain(name, a_point), noise(name))

    def test_the_areas_given_to_post_process_masks_are_ignored(self) -> None:
        mask = torch.ones(1, 1, 32, 32)
        mask[..., 10, 10] = -1
        post = their_predictor(DEBUG[0]).processor.post_process_masks
        (found,) = post([mask], [[32, 32]], max_hole_area=8, max_sprinkle_area=10**4)
        assert torch.equal(found, mask > 0)


def test_rotary_positions_use_cosine_and_sine_instead_of_complex_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, model = our_predictor(DEBUG[0]), their_predictor(DEBUG[0]).model
    grid, width = ours.config.embedding_size, ours.config.hidden_dim
    turns = rotary_grid(width, grid, grid, ours.config.memory_attention.rope_theta, "cpu")

    def turned(
        q: Tensor, k: Tensor, *_: Any, num_k_exclude_rope: int, repeat_freqs_k: bool
    ) -> tuple[Tensor, Tensor]:
        places = k.shape[-2] - num_k_exclude_rope
        placed, rest = k[..., :places, :], k[..., places:, :]
        times = places // len(turns)
        return turn(q, turns), torch.cat([turn(placed, turns.repeat(times, 1)), rest], dim=-2)

    drawn = torch.randn(grid**2 * 3, 1, width, generator=torch.Generator().manual_seed(0))
    frame, memory = drawn[: grid**2], drawn[..., : ours.config.memory_encoder.out_dim]
    own = model.vision_encoder.neck.position_encoding(
        torch.Size((1, width, grid, grid)), drawn.device, drawn.dtype
    )

    def attended(ours: SAM2VideoPredictor) -> dict[str, Tensor]:
        image = frame.permute(1, 2, 0).reshape(1, width, grid, grid)
        together = memory.transpose(0, 1)
        mine = ours.memory_attention(image, together, together, 0)
        return {"output": mine.flatten(2).transpose(1, 2)}

    def apart() -> float:
        theirs = model.memory_attention(frame, memory, own.flatten(2).permute(2, 0, 1), memory)
        return relative(attended(ours)["output"], theirs[:, 0])

    assert 0 < apart() < MULTIPLE * rounding(ours, attended)["output"]
    monkeypatch.setattr(modeling_sam2_video, "apply_rotary_pos_emb_2d", turned)
    assert apart() == 0
