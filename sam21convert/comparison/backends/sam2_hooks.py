"""Record the activations of the official model, under the names of the ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..activations import Recorder
from .encodings import Encodings
from .hooks import Hooks, as_image

PACKAGE = "sam2"


@contextmanager
def recording(model: Any, recorder: Recorder, encodings: Encodings) -> Iterator[Hooks]:
    """A context in which everything that the official ``SAM2VideoPredictor`` computes is recorded.

    Args:
        model: The official predictor.
        recorder: Gets the activations.
        encodings: What is remembered of the trunk, which encodes no picture twice.

    Yields:
        The hooks, to add further ones.
    """
    with Hooks(model, PACKAGE) as hooks:
        _image_encoder(hooks, recorder, encodings)
        _prompts_and_masks(hooks, recorder)
        _memories(hooks, recorder)
        _places(hooks, recorder)
        yield hooks


def _image_encoder(hooks: Hooks, recorder: Recorder, encodings: Encodings) -> None:
    def stages(_: Any, found: list[Tensor]) -> None:
        for number, stage in enumerate(found):
            recorder.add(f"trunk.stage{number}", stage)

    def levels(_: Any, found: tuple[list[Tensor], list[Tensor]]) -> None:
        for number, level in enumerate(found[0][:3]):  # nothing uses the coarsest
            recorder.add(f"neck.level{number}", level)

    hooks.once("image_encoder.trunk", encodings.of)
    hooks.after("image_encoder.trunk", stages)
    hooks.after("image_encoder.neck", levels)


def _prompts_and_masks(hooks: Hooks, recorder: Recorder) -> None:
    def prompt(_: Any, found: tuple[Tensor, Tensor]) -> None:
        recorder.add("prompt.sparse", found[0])
        recorder.add("prompt.dense", found[1])

    def all_masks(predict: Any, **given: Any) -> Any:
        found = logits, iou, tokens, score = predict(**given)
        recorder.add("decoder.tokens", tokens)
        recorder.add("decoder.logits", logits)
        recorder.add("decoder.iou", iou)
        recorder.add("decoder.object_score", score)
        return found

    def pointer(track: Any, *args: Any, **given: Any) -> Any:
        found = track(*args, **given)
        recorder.add("pointer", found[1][5])
        return found

    hooks.after("sam_prompt_encoder", prompt)
    hooks.around("sam_mask_decoder.predict_masks", all_masks)
    hooks.around("_track_step", pointer)  # before the frame may become a memory


def _memories(hooks: Hooks, recorder: Recorder) -> None:
    def attended(given: dict[str, Any], found: Tensor) -> None:
        recorder.add("memory_attention.memory", given["memory"].transpose(0, 1))  # B, M, K
        recorder.add("memory_attention.position", given["memory_pos"].transpose(0, 1))  # B, M, K
        recorder.add("memory_attention.output", as_image(found.transpose(0, 1)))  # B, C, H, W

    def remembered(_: Any, found: dict[str, Any]) -> None:
        recorder.add("memory_encoder.output", found["vision_features"])

    def cut(encode: Any, **given: Any) -> Any:
        if given["is_mask_from_pts"] and hooks.model.binarize_mask_from_pts_for_mem_enc:
            given["pred_masks_high_res"] = recorder.remember_signs(given["pred_masks_high_res"])
        return encode(**given)

    hooks.after("memory_attention", attended)
    hooks.around("_encode_new_memory", cut)
    hooks.after("memory_encoder", remembered)


def _places(hooks: Hooks, recorder: Recorder) -> None:
    """Tell the recorder which object on which frame the model works on."""

    def run_frame(run: Any, **given: Any) -> Any:
        state, own = given["inference_state"], given["output_dict"]
        objects = state["output_dict_per_obj"].items()
        number = next(number for number, outputs in objects if outputs is own)
        with recorder.within(_place(given, number)):
            outcome, masks = run(**given)
            if outcome["maskmem_features"] is not None:
                outcome["maskmem_features"] = recorder.remember(outcome["maskmem_features"])
            return outcome, masks

    def remembered(run: Any, **given: Any) -> Any:
        # The call does not say which object it is for; the score tensor is that of one object.
        score = given["object_score_logits"]
        number = next(
            number
            for number, outputs in given["inference_state"]["temp_output_dict_per_obj"].items()
            for outcomes in outputs.values()
            for outcome in outcomes.values()
            if outcome["object_score_logits"] is score
        )
        with recorder.within(_place(given, number)):
            memory, position = run(**given)
            return recorder.remember(memory), position

    hooks.around("_run_single_frame_inference", run_frame)
    hooks.around("_run_memory_encoder", remembered)


def _place(given: dict[str, Any], number: int) -> str:
    obj_id = given["inference_state"]["obj_idx_to_id"][number]
    return f"frame{given['frame_idx']}.object{obj_id}"
