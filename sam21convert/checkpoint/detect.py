"""Which dialect a state dict is in, and of which size and generation, from names and shapes."""

from __future__ import annotations

from collections.abc import Mapping

from ..config.registry import SHIPPED, Shipped
from ..dialects import DIALECTS, MLX
from ..dialects.keymap import target_name
from ..dialects.rules import Dialect
from ..errors import RefusedError
from ..io.open import Source
from ..io.tensor import TensorRef
from ..model.config import Generation
from .state_dict import ANCHORS, Unwrapped

_MEMORY = (
    "maskmem_tpos_enc",
    "memory_attention.norm.weight",
    "memory_encoder.out_proj.weight",
    "obj_ptr_proj.layers.1.weight",
)
GENERATION_TENSORS = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias")


def dialect_of(found: Unwrapped, source: Source) -> Dialect | None:
    """The dialect with that anchor; of several, the one with a place for just what is there.

    Raises :class:`RefusedError` when the shapes are not of the layout that the file records.
    """
    named = [d for d in DIALECTS if found.anchor in {target_name(d, name) for name in ANCHORS}]
    fitting = [d for d in named if _has_layout(d, found.tensors)] or named
    layouts = [dict(d.metadata).get("layout") for d in fitting]
    recorded = source.metadata.get("layout")
    if recorded in dict(MLX.metadata).values() and recorded not in layouts:
        raise RefusedError(
            f"{source.path}: records the layout {recorded}, and its tensors have another",
            hint="something transposed them without saying so: go back to the file before that",
        )
    for dialect in fitting:
        marks = {target_name(dialect, name) for name in _MEMORY}
        if marks == {None} or any(mark in found.tensors for mark in marks):
            return dialect
    return fitting[0] if fitting else None


def size_of(
    tensors: Mapping[str, TensorRef], dialect: Dialect
) -> tuple[Shipped | None, Generation | None]:
    """The shipped config of that size and generation, and the generation if it can be told."""
    shapes = [
        (tensors[name].spec.shape, axis)
        for truth_name, axis in ((ANCHORS[0], 1), (ANCHORS[1], 0))
        if (name := target_name(dialect, truth_name) or "") in tensors
    ]
    widths = {shape[axis] for shape, axis in shapes if len(shape) > axis}
    start = (target_name(dialect, "image_encoder.trunk.blocks.0.attn") or "").partition("0.")[0]
    numbers = [name.removeprefix(start).partition(".")[0] for name in tensors if start in name]
    blocks = 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)
    marks = [target_name(dialect, name) for name in GENERATION_TENSORS]
    generation: Generation | None = None
    memory = [target_name(dialect, name) for name in _MEMORY]
    if None not in marks and any(name in tensors for name in memory):
        generation = "2.1" if sum(mark in tensors for mark in marks) >= 2 else "2.0"
    for shipped in SHIPPED:
        same_size = {shipped.embed_dim} == widths and shipped.blocks == blocks
        if same_size and generation in (None, shipped.generation):
            return shipped, generation
    return None, generation


def _has_layout(dialect: Dialect, tensors: Mapping[str, TensorRef]) -> bool:
    """Whether the first convolution, if it is there, has its 3 input channels in their place."""
    name = target_name(dialect, ANCHORS[1]) or ""
    turned = {permute.canonical: permute.axes for permute in dialect.permutes}
    axes = turned.get(ANCHORS[1], (0, 1, 2, 3))
    shape = tensors[name].spec.shape if name in tensors else ()
    return len(shape) != 4 or shape[axes.index(1)] == 3
