"""The modules and layers that a tensor belongs to, by its official name."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Module -> the first segments of its tensors, in the order of the data flow.
MODULES: dict[str, tuple[str, ...]] = {
    "image_encoder.trunk": ("image_encoder.trunk",),
    "image_encoder.neck": ("image_encoder.neck",),
    "sam_prompt_encoder": ("sam_prompt_encoder",),
    "sam_mask_decoder": ("sam_mask_decoder",),
    "object pointers": ("obj_ptr_proj", "obj_ptr_tpos_proj", "no_obj_ptr", "mask_downsample"),
    "memory_encoder": ("memory_encoder",),
    "memory embeddings": (
        "maskmem_tpos_enc",
        "no_mem_embed",
        "no_mem_pos_enc",
        "no_obj_embed_spatial",
    ),
    "memory_attention": ("memory_attention",),
}
OTHER = "other"  # tensors that SAM 2 does not have
_REPEATED = re.compile(r".*?\.(?:blocks|convs|layers)\.\d+(?=\.)")
_NUMBER = re.compile("[0-9]{1,9}")
_LEAF = re.compile(r"\.(?:weight|bias)$")


def module_of(name: str) -> str:
    """Find the module that a tensor belongs to.

    Args:
        name: the official name of the tensor.

    Returns:
        A key of ``MODULES``, or ``OTHER``.
    """
    for module, starts in MODULES.items():
        if any(name == start or name.startswith(f"{start}.") for start in starts):
            return module
    return OTHER


def layer_of(name: str) -> str:
    """Find the block, layer or level that a tensor belongs to.

    ``image_encoder.trunk.blocks.3.attn.qkv.weight`` belongs to ``image_encoder.trunk.blocks.3``,
    ``sam_mask_decoder.iou_prediction_head.layers.0.bias`` to
    ``sam_mask_decoder.iou_prediction_head``.

    Args:
        name: the official name of the tensor.

    Returns:
        The name of the layer; the name of the tensor, cut short, if it is in no numbered layer.
    """
    depth = 3 if name.startswith(("image_encoder.", "sam_mask_decoder.transformer.")) else 2
    repeated = _REPEATED.match(name)
    if repeated is not None and repeated[0].count(".") <= depth:
        return repeated[0]
    return _LEAF.sub("", ".".join(name.split(".")[:depth]))


def natural(segments: Sequence[str]) -> list[tuple[int, str]]:
    """Make a key that sorts names with numbers by their value: 2 before 10.

    Args:
        segments: the segments of a name.

    Returns:
        The key. Names come before numbers.
    """
    return [(int(s) if _NUMBER.fullmatch(s) else -1, s) for s in segments]


def rank(module: str) -> int:
    """Give the place of a module in the data flow.

    Args:
        module: a key of ``MODULES``, or ``OTHER``.

    Returns:
        Its index, from 0. ``OTHER`` comes last.
    """
    return [*MODULES, OTHER].index(module)
