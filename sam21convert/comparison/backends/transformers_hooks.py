"""Record the activations of models of transformers, under the names of the ground truth.

``Sam2Model`` and ``Sam2VideoModel`` have the same parts. Their tensors have an axis of images (B)
and an axis of prompts for each image (P); the ground truth has a single axis for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...prediction.backends.transformers_load import PACKAGE
from ..activations import Recorder
from .encodings import Encodings
from .hooks import Hooks, as_image

_FIRST_MASK = 2  # index of the first mask token, after those of the object score and the IoU


@contextmanager
def recording(
    model: Any, recorder: Recorder, encodings: Encodings, *, video: bool
) -> Iterator[Hooks]:
    """A context in which everything that a model of transformers computes is recorded.

    Args:
        model: A ``Sam2Model`` or a ``Sam2VideoModel``.
        recorder: Gets the activations.
        encodings: What is remembered of the trunk, which encodes no picture twice.
        video: Whether the memory and the object pointers are recorded as well.

    Yields:
        The hooks, to add further ones.
    """
    with Hooks(model, PACKAGE) as hooks:
        _image_encoder(hooks, recorder, encodings)
        _prompts(hooks, recorder)
        _masks(hooks, recorder)
        if video:
            _objects(hooks, recorder)
            _memories(hooks, recorder)
        yield hooks


def _image_encoder(hooks: Hooks, recorder: Recorder, encodings: Encodings) -> None:
    def stages(_: Any, found: Any) -> None:
        for number, stage in enumerate(found.intermediate_hidden_states):
            recorder.add(f"trunk.stage{number}", stage.permute(0, 3, 1, 2))  # B, C, H, W

    def levels(_: Any, found: tuple[Sequence[Tensor], Any]) -> None:
        for number, level in enumerate(found[0][:0:-1]):  # from the finest; the coarsest is unused
            recorder.add(f"neck.level{number}", level)

    hooks.once("vision_encoder.backbone", encodings.of)
    hooks.once("vision_encoder.neck", encodings.levels)
    hooks.after("vision_encoder.backbone", stages)
    hooks.after("vision_encoder.neck", levels)


def _prompts(hooks: Hooks, recorder: Recorder) -> None:
    def prompt(given: dict[str, Any], found: tuple[Tensor, Tensor]) -> None:
        sparse, dense = found
        points = given.get("input_points")
        if points is not None and given.get("input_boxes") is not None:
            # The corners of a box come after the points, and before the padding.
            count = points.shape[2]
            before, corners, padding = sparse.tensor_split((count, count + 2), dim=2)
            sparse = torch.cat((corners, before, padding), dim=2)  # B, P, T, C
        recorder.add("prompt.sparse", sparse.flatten(0, 1))  # B*P, T, C
        recorder.add("prompt.dense", dense)

    hooks.after("prompt_encoder", prompt)


def _masks(hooks: Hooks, recorder: Recorder) -> None:
    """Compute the logits of all four masks from their parts: the decoder only returns some."""
    parts: dict[str, Tensor] = {}
    weights: list[Tensor] = []

    def all_masks(*_: Any) -> None:
        count = len(weights)
        tokens = parts["tokens"][:, :, _FIRST_MASK : _FIRST_MASK + count]  # B, P, M, C
        image = parts["image"]  # B*P, C/8, 4H, 4W
        hyper = torch.stack(weights, dim=2).flatten(0, 1)  # B*P, M, C/8
        logits = (hyper @ image.flatten(2)).reshape(-1, count, *image.shape[2:])  # B*P, M, 4H, 4W
        recorder.add("decoder.tokens", tokens.flatten(0, 1))  # B*P, M, C
        recorder.add("decoder.logits", logits)
        recorder.add("decoder.iou", parts["iou"].flatten(0, 1))  # B*P, M
        recorder.add("decoder.object_score", parts["score"].flatten(0, 1))  # B*P, 1
        weights.clear()

    def part(name: str, path: str) -> None:
        hooks.after(path, lambda _, found: parts.update({name: found}))

    hooks.after("mask_decoder.transformer", lambda _, found: parts.update(tokens=found[0]))
    part("image", "mask_decoder.activation")  # its last call gives the upscaled image
    networks = "mask_decoder.output_hypernetworks_mlps"
    for number in range(len(hooks.part(networks))):
        hooks.after(f"{networks}.{number}", lambda _, found: weights.append(found))
    part("iou", "mask_decoder.iou_prediction_head")
    part("score", "mask_decoder.pred_obj_score_head")
    hooks.after("mask_decoder", all_masks)


def _objects(hooks: Hooks, recorder: Recorder) -> None:
    def run_frame(run: Any, **given: Any) -> Any:
        with recorder.within(_place(given, given["obj_idx"])):
            found = run(**given)
            pointer = found["object_pointer"]
            recorder.add("pointer", pointer.reshape(-1, pointer.shape[-1]))  # B, C
        return found

    hooks.around("_run_single_frame_inference", run_frame)


def _memories(hooks: Hooks, recorder: Recorder) -> None:
    def attended(given: dict[str, Any], found: Tensor) -> None:
        position = given["memory_posision_embeddings"]  # the spelling is theirs
        recorder.add("memory_attention.memory", given["memory"].transpose(0, 1))  # B, M, K
        recorder.add("memory_attention.position", position.transpose(0, 1))  # B, M, K
        output = found.flatten(0, -3)  # B, H*W, C: of one object
        recorder.add("memory_attention.output", as_image(output))  # B, C, H, W

    places: list[str] = []

    def together(encode: Any, **given: Any) -> Any:
        numbers = given["objects_needing_memory_encoding"]
        places[:] = [_place(given, number) for number in numbers]
        return encode(**given)

    def remembered(_: Any, found: tuple[Tensor, Any]) -> None:
        for place, memory in zip(places, found[0], strict=True):
            with recorder.within(place):
                recorder.add("memory_encoder.output", memory[None])  # 1, K, H, W

    def cut(masks: Tensor) -> Tensor:
        found = []
        for place, mask in zip(places, masks, strict=True):
            with recorder.within(place):
                found.append(recorder.remember_signs(mask[None]))  # 1, 1, S, S
        return torch.cat(found)

    def kept(encode: Any, **given: Any) -> Any:
        if given["is_mask_from_pts"]:
            given["pred_masks_high_res"] = cut(given["pred_masks_high_res"])
        memories, position = encode(**given)  # H*W, objects, K
        side = round(len(memories) ** 0.5)
        for number, place in enumerate(places):
            memory = memories[:, number].T.unflatten(1, (side, side))[None]  # 1, K, H, W
            with recorder.within(place):
                memories[:, number] = recorder.remember(memory)[0].flatten(1).T
        return memories, position

    hooks.after("memory_attention", attended)
    hooks.around("_batch_encode_memories", together)
    hooks.around("_encode_new_memory", kept)
    hooks.after("memory_encoder", remembered)


def _place(given: dict[str, Any], number: int) -> str:
    obj_id = given["inference_session"].obj_idx_to_id(number)
    return f"frame{given['frame_idx']}.object{obj_id}"
