"""Follow the objects of a batch through its clips, as in training.

Follows ``forward_tracking`` and ``track_step`` of ``training/model/sam2.py``.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..model.layers import compute
from ..model.memory_bank import MemoryBank
from ..model.sam2 import SAM2, ImageFeatures, Segmentation
from .batch import Batch
from .points import Points
from .prompts import Plan, Prompter


class Step(NamedTuple):
    """What the model answers to one prompt, or to none, on one frame.

    Attributes:
        masks: Logits of the candidates, ``O x M x S x S``; ``M`` is 1 or 3.
        iou: The IoU that each is expected to have with the true mask, ``O x M``.
        object_score: ``O x 1``, a logit: above 0 the object is there.
    """

    masks: Tensor
    iou: Tensor
    object_score: Tensor


class _Memory(NamedTuple):
    spatial: Tensor  # O, K, H, W
    pointer: Tensor  # O, C


def follow(model: SAM2, batch: Batch, prompter: Prompter) -> list[list[Step]]:
    """Segment the objects on every frame.

    Frames that are prompted at the start come first, then the others in their order. Memories keep
    their gradients.

    Args:
        model: The model, in training mode or not.
        batch: The clips, on the device of the model.
        prompter: Where prompts come from. It is asked when all frames are encoded.

    Returns:
        For each frame, in the order of the frames, one step, and one more for each correction.
    """
    frames, count = batch.frames, len(batch.frames)
    features = model.encode_frame(frames.transpose(0, 1).reshape(-1, *frames.shape[2:]))
    plan = prompter.plan(batch.masks)
    prompted: dict[int, _Memory] = {}
    tracked: dict[int, _Memory] = {}
    steps: dict[int, list[Step]] = {}
    order = (*plan.first, *(n for n in range(count) if n not in plan.first))
    for number in order:
        frame = _of_objects(features, batch.clip * count + number)
        bank = MemoryBank(prompted, tracked, number)
        answers = _segment(model, frame, batch.masks[number], bank, plan, prompter, count)
        steps[number] = [Step(a.candidates, a.iou, a.object_score) for a in answers]
        if number == order[-1]:
            break  # nothing attends to its memory
        last = answers[-1]
        remembered = (frame, last.high_res, last.object_score)
        spatial = compute(model.recompute, model.encode_memory, *remembered)
        among = prompted if number in (*plan.first, *plan.corrected) else tracked
        among[number] = _Memory(spatial, last.pointer)
    return [steps[number] for number in range(count)]


def _of_objects(features: ImageFeatures, images: Tensor) -> ImageFeatures:
    """The features of the frame that each object is on, from those of all frames."""
    fine, middle = (_pick(level, images) for level in features.high_res)
    return ImageFeatures(_pick(features.embedding, images), (fine, middle))


def _pick(features: Tensor, images: Tensor) -> Tensor:
    """``B x C x H x W`` for each of the images.

    Places come first while they are picked, as in the official code: so the gradient has its places
    in the same order in memory, and is summed in that order.
    """
    _, c, h, w = features.shape
    places = features.flatten(2).permute(2, 0, 1)  # H*W, all, C
    return places[:, images].permute(1, 2, 0).reshape(-1, c, h, w)


def _segment(
    model: SAM2,
    frame: ImageFeatures,
    masks: Tensor,
    bank: MemoryBank[_Memory],
    plan: Plan,
    prompter: Prompter,
    count: int,
) -> list[Segmentation]:
    """The answers on one frame: the first one, and one to each correction."""
    number, first = bank.frame, bank.frame in plan.first
    if first and number not in plan.points:
        return [model.use_mask_as_output(frame, masks[:, None].float())]
    features = model.without_memory(frame) if first else _remember(model, frame, bank, count)
    points = plan.points.get(number)
    answers = [_answer(model, features, points, None, first=first)]
    for correction in range(plan.corrections if number in plan.corrected else 0):
        last = answers[-1]
        point = prompter.correct(number, correction, masks, last.high_res[:, 0] > 0)
        points = point if points is None else points.and_then(point)
        answers.append(_answer(model, features, points, last.low_res, first=first))
    return answers


def _answer(
    model: SAM2,
    features: ImageFeatures,
    points: Points | None,
    mask: Tensor | None,
    *,
    first: bool,
) -> Segmentation:
    candidates = model.config.wants_candidates(points.labels.shape[1] if points else 0, first=first)
    return compute(
        model.recompute,
        model.predict_single_mask,
        features,
        points.points if points else None,
        points.labels if points else None,
        mask,
        candidates,
    )


def _remember(
    model: SAM2, frame: ImageFeatures, bank: MemoryBank[_Memory], count: int
) -> ImageFeatures:
    most = model.config.max_obj_ptrs_in_encoder
    return model.attend_to_memory(
        frame,
        [(row, memory.spatial) for row, memory in bank.spatial(model.config.num_maskmem)],
        [
            (distance, memory.pointer)
            for distance, memory in bank.pointers(most, count, future=True)
        ],
        min(count, most) - 1,
    )
