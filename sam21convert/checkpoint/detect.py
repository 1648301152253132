"""Detect the dialect, size and generation of a state dict, from its names and shapes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..config.registry import SHIPPED, Shipped
from ..dialects import DIALECTS, MLX, OFFICIAL, OFFICIAL_IMAGE
from ..dialects.keymap import target_name
from ..dialects.rules import Dialect
from ..errors import RefusedError
from ..io.open import Source
from ..io.tensor import TensorRef
from ..model.config import Generation
from .parts import folded, known, names_of, namings
from .state_dict import ANCHORS, Unwrapped

# Tensors beside those in which the generations differ, and further ones of the memory.
_TOP = ("maskmem_tpos_enc", "no_obj_ptr", "obj_ptr_proj.layers.1.weight")
_MEMORY = (*_TOP, "memory_attention.norm.weight", "memory_encoder.out_proj.weight")
GENERATION_TENSORS = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias")


def dialect_of(found: Unwrapped, source: Source) -> Dialect | None:
    """Find the dialect of a state dict, by its names and the shapes of its tensors.

    Args:
        found: the state dict.
        source: the file that it is in, whose metadata may record a layout.

    Returns:
        The dialect that has most of the names; None when none of them is a name of SAM 2. Of
        several with these names, the first whose memory tensors are in the state dict, otherwise
        the first; for graphs without those of videos, the one without memory.

    Raises:
        RefusedError: when the shapes contradict the layout that the file records.
    """
    if not found.is_known:
        return None
    naming = _naming_of(found.tensors)
    named = [d for d in DIALECTS if _shares_names(d, naming)]
    fitting = [d for d in named if _has_layout(d, found.tensors)] or named
    layouts = [dict(d.metadata).get("layout") for d in fitting]
    recorded = source.metadata.get("layout")
    if recorded in dict(MLX.metadata).values():
        if recorded not in layouts:
            raise RefusedError(
                f"{source.path}: records the layout {recorded}, but its tensors have another",
                hint="a program transposed the tensors and left the metadata: use the original "
                "file",
            )
        return fitting[layouts.index(recorded)]
    for dialect in fitting:
        memory = {target_name(dialect, name) for name in _MEMORY}
        if memory == {None} or any(name in found.tensors for name in memory):
            return dialect
    no_memory = fitting[0] is OFFICIAL and source.container == "onnx folder"
    return OFFICIAL_IMAGE if no_memory else fitting[0]


def _shares_names(dialect: Dialect, naming: Dialect) -> bool:
    """Whether all names of a dialect are names of another, too."""
    anchor = next(name for each in ANCHORS if (name := target_name(dialect, each)) is not None)
    # Most are told apart by one name, before all of theirs are worked out.
    return folded(anchor) in names_of(naming) and names_of(dialect) <= names_of(naming)


def _naming_of(names: Collection[str]) -> Dialect:
    """The first dialect that has all of these names, or most of them."""
    most, best = -1, DIALECTS[0]
    for dialect in namings(DIALECTS):
        count = known(names, dialect)
        if count > most:
            most, best = count, dialect
        if count == len(names):
            break
    return best


def size_of(
    tensors: Mapping[str, TensorRef], dialect: Dialect, *, whole: bool = True
) -> tuple[Shipped | None, Generation | None]:
    """Find the size and generation of a model by the shapes and names of its tensors.

    Args:
        tensors: the state dict, by the names of ``dialect``.
        dialect: its dialect.
        whole: whether it holds a whole model, so that what is absent tells something.

    Returns:
        The shipped config of the same width and number of blocks, of this generation if that is
        known; None when no published model has this size. Then the generation, ``"2.1"`` if at
        least two of the three tensors that SAM 2.1 adds are there; None when no tensor beside those
        three tells it.
    """
    shapes = [
        (tensors[name].spec.shape, axis)
        for canonical, axis in ((ANCHORS[0], 1), (ANCHORS[1], 0))
        if (name := target_name(dialect, canonical) or "") in tensors
    ]
    widths = {shape[axis] for shape, axis in shapes if len(shape) > axis}
    start = (target_name(dialect, "image_encoder.trunk.blocks.0.attn") or "").partition("0.")[0]
    numbers = [name.removeprefix(start).partition(".")[0] for name in tensors if start in name]
    blocks = 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)
    marks = [target_name(dialect, name) for name in GENERATION_TENSORS]
    generation: Generation | None = None
    if None not in marks and sum(mark in tensors for mark in marks) >= 2:
        generation = "2.1"
    elif (
        whole and None not in marks and any(target_name(dialect, name) in tensors for name in _TOP)
    ):
        generation = "2.0"
    for shipped in SHIPPED:
        same_size = {shipped.embed_dim} == widths and shipped.blocks == blocks
        if same_size and generation in (None, shipped.generation):
            return shipped, generation
    return None, generation


def _has_layout(dialect: Dialect, tensors: Mapping[str, TensorRef]) -> bool:
    """Whether the first convolution has its 3 input channels on the dialect's axis, if present."""
    name = target_name(dialect, ANCHORS[1]) or ""
    permuted = {permute.canonical: permute.axes for permute in dialect.permutes}
    axes = permuted.get(ANCHORS[1], (0, 1, 2, 3))
    shape = tensors[name].spec.shape if name in tensors else ()
    return len(shape) != 4 or shape[axes.index(1)] == 3
