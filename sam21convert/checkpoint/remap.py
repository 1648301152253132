"""Carry tensors from the names of one dialect to those of the ground truth, and on to another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ..dialects.keymap import KeyMap, covers
from ..dialects.rules import Dialect
from ..errors import MismatchError
from ..io.tensor import Constant, Part, Tensor, TensorRef, TensorSpec
from .mismatch import mismatch
from .open import Checkpoint, unequal_copies


def to_canonical(
    checkpoint: Checkpoint, *, partial: bool = False, target: Dialect | None = None
) -> tuple[dict[str, TensorRef], dict[str, tuple[str, ...]]]:
    """The source's tensors and their names, under the names of the ground truth.

    Raises :class:`MismatchError` when they do not fit. If ``partial``, some may be missing, and
    always what ``target`` has no place for.
    """
    fit, keymap = checkpoint.fit, checkpoint.keymap
    if fit is None or keymap is None:
        raise mismatch(checkpoint)
    wanted = {
        entry.key
        for entry in keymap.entries
        if target is None or any(covers(target, name) for name in entry.canonical)
    }
    tolerated = [name for name in fit.missing if partial or name not in wanted]
    if fit.faults > len(tolerated):
        raise mismatch(checkpoint)
    return held_canonical(checkpoint)


def held_canonical(
    checkpoint: Checkpoint,
) -> tuple[dict[str, TensorRef], dict[str, tuple[str, ...]]]:
    """The same of a checkpoint that has a map and need not fit it: what has no place is left out.

    Raises :class:`MismatchError` where a tensor is held twice and the copies differ.
    """
    keymap, fit = checkpoint.keymap, checkpoint.fit
    assert keymap is not None
    assert fit is not None
    names, refs = dict(fit.names), checkpoint.tensors
    for fault in unequal_copies(checkpoint):
        raise MismatchError(
            f"{checkpoint.source.path}: {fault}",
            hint="one of the two was trained or replaced: copy the right one over the other",
        )
    for echo, of in keymap.tied.items():
        if of not in names and echo in names:
            names[of] = names[echo]
    canonical: dict[str, TensorRef] = {}
    origins: dict[str, tuple[str, ...]] = {}
    for entry in keymap.entries:
        if entry.key not in names:
            continue
        ref, start = refs[names[entry.key]], 0
        if (len(entry.canonical) > 1 or entry.axes) and ref.spec.shape != entry.spec.shape:
            continue
        if entry.axes:
            ref = ref.permuted(tuple(map(entry.axes.index, range(len(entry.axes)))))
        for name in entry.canonical:
            count = keymap.canonical[name].shape[0]
            canonical[name] = ref.rows(start, count) if len(entry.canonical) > 1 else ref
            origins[name] = (names[entry.key],)
            start += count
    return canonical, origins


def from_canonical(
    target: KeyMap, canonical: Mapping[str, Part], dtype: str | None
) -> dict[str, Tensor]:
    """The tensors to write, under the names of the target dialect."""
    tensors = {}
    for entry in target.entries:
        parts = tuple(canonical[name] for name in entry.canonical)
        found = {part.spec.dtype for part in parts}
        if dtype is None and len(found) > 1:
            raise MismatchError(
                f"{entry.key}: its parts {', '.join(entry.canonical)} are of different types",
                hint="`dtype=float32` brings them to one type",
            )
        kind = dtype or parts[0].spec.dtype
        if entry.axes:
            parts = tuple(_turned(part, entry.axes) for part in parts)
        tensors[entry.key] = Tensor(TensorSpec(kind, entry.spec.shape), parts)
    usual = dtype or usual_type(canonical)
    constants = {
        name: Tensor(TensorSpec(usual, fill.spec.shape), (fill,))
        for name, fill in target.constants.items()
    }
    return {**tensors, **{echo: tensors[of] for echo, of in target.tied.items()}, **constants}


def target_origins(
    target: KeyMap, origins: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The names in the source that each tensor of ``target`` is made of; none for a constant."""
    found = {
        entry.key: tuple(dict.fromkeys(o for name in entry.canonical for o in origins[name]))
        for entry in target.entries
    }
    constants: dict[str, tuple[str, ...]] = dict.fromkeys(target.constants, ())
    return {**found, **{echo: found[of] for echo, of in target.tied.items()}, **constants}


def usual_type(tensors: Mapping[str, Part]) -> str:
    """The type of most tensors."""
    return Counter(part.spec.dtype for part in tensors.values()).most_common(1)[0][0]


def _turned(part: Part, axes: tuple[int, ...]) -> Part:
    return part if isinstance(part, Constant) else part.permuted(axes)
