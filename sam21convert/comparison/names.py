"""The names of activations: see :mod:`~.activations`. Nothing here needs torch."""

from __future__ import annotations

import re

# The order in which the activations of one object on one frame are computed.
ORDER = (
    "pixels",
    *(f"trunk.stage{i}" for i in range(4)),
    *(f"neck.level{i}" for i in range(3)),
    *(f"features.level{i}" for i in range(3)),
    "memory_attention.memory",
    "memory_attention.position",
    "memory_attention.output",
    "prompt.sparse",
    "prompt.dense",
    "decoder.tokens",
    "decoder.logits",
    "decoder.iou",
    "decoder.object_score",
    "pointer",
    "memory_encoder.mask",
    "memory_encoder.output",
    "memory",
    "iou",
    "masks",
)
# Of a training step: the losses, and the parts of the model whose gradients are compared. They come
# in the order of the backward pass.
OF_TRAINING = (
    "loss",
    *(f"loss.{part}" for part in ("focal", "dice", "iou", "object_score")),
    "sam_mask_decoder",
    "sam_prompt_encoder",
    "memory_attention",
    "maskmem_tpos_enc",
    "obj_ptr_tpos_proj",
    "obj_ptr_proj",
    "no_obj_ptr",
    "memory_encoder",
    "no_obj_embed_spatial",
    "mask_downsample",
    "no_mem_pos_enc",
    "no_mem_embed",
    "image_encoder.neck",
    "image_encoder.trunk",
)
_GRADIENT = re.compile(r"(image_encoder\.\w+|\w+)(\.\w+)*\.grad")
# An object begins with a prompt, so prompt activations come before those of memory attention.
_AS_MET = (
    *sorted(ORDER, key=lambda activation: activation.startswith("memory_attention.")),
    *OF_TRAINING,
)
# Activations that depend on the frame only, not on an object.
OF_A_FRAME = ("trunk.", "neck.")
A_LOGIT = "decoder.object_score"
_PLACE = re.compile(r"^((?:frame\d+\.)?(?:object\w+\.)?)(.+?)(?: \(\d+\))?$")


def kind(name: str) -> str:
    """The name of an activation without its place and number.

    Args:
        name: A name such as ``frame3.object1.pointer (2)``, or ``neck.convs.0.conv.bias.grad``.

    Returns:
        What it is an activation of: ``pointer``. Of a gradient, the part of the model: ``neck``.
    """
    gradient = _GRADIENT.fullmatch(name)
    if gradient is not None:
        return gradient[1]
    match = _PLACE.match(name)
    assert match is not None
    return match[2]


def rank(activation: str | None) -> int:
    """The position of a kind of activation in the order in which differences are reported.

    An object begins with a prompt, and there must be a memory before anything attends to it. So
    memory attention comes last.

    Args:
        activation: A name in ``ORDER`` or ``OF_TRAINING``; None for what no activation shows.

    Returns:
        A number to sort by, the largest for None.
    """
    return _AS_MET.index(activation) if activation is not None else len(_AS_MET)
