"""Fill what a part of a model has not from a whole one of the same size: the argument ``base``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..checkpoint.mismatch import describe, missing_text
from ..checkpoint.open import Checkpoint
from ..checkpoint.remap import to_canonical
from ..dialects.keymap import covers
from ..dialects.rules import Dialect
from ..errors import MismatchError, RefusedError
from ..io.tensor import TensorRef


def adopt_size_of(checkpoint: Checkpoint, base: Checkpoint | None) -> Checkpoint:
    """A part whose size nothing in it tells has that of the checkpoint that it is filled from.

    Raises :class:`MismatchError` where what is there has no place in that.
    """
    if base is None or checkpoint.keymap is not None:
        return checkpoint
    _same_generation(checkpoint, base)
    part = replace(checkpoint, shipped=base.shipped, generation=base.generation, config=base.config)
    if part.fit is not None and part.fit.faults > len(part.fit.missing):
        wrong = replace(part.fit, missing=())
        raise MismatchError(
            f"{part.source.path} is no part of a model like {base.source.path}\n  "
            + "\n  ".join(describe(wrong)),
            hint="give a base of the same size",
        )
    return part


def fill_missing(
    checkpoint: Checkpoint,
    base: Checkpoint | None,
    dialect: Dialect,
    canonical: dict[str, TensorRef],
    origins: dict[str, tuple[str, ...]],
) -> Checkpoint:
    """Add to ``canonical`` and ``origins`` what ``dialect`` holds and ``checkpoint`` has not.

    Returns the checkpoint that is whole: ``checkpoint`` where nothing was absent, else ``base``.
    Raises :class:`RefusedError` when something is absent that ``base``, if there is one, has not
    either, and :class:`MismatchError` when it is of another model.
    """
    assert checkpoint.keymap is not None
    assert checkpoint.dialect is not None
    wanted = (name for name in checkpoint.keymap.canonical if covers(dialect, name))
    absent = [name for name in wanted if name not in canonical]
    if not absent:
        return checkpoint
    if base is None:
        raise RefusedError(
            f"{checkpoint.source.path}: {checkpoint.dialect.name} holds "
            + missing_text(checkpoint.dialect, len(absent), checkpoint.generation),
            hint="`base=CHECKPOINT` takes them from a checkpoint of the same size",
        )
    _fill(checkpoint, base, absent, canonical, origins)
    return base


def _fill(
    checkpoint: Checkpoint,
    base: Checkpoint,
    absent: Sequence[str],
    canonical: dict[str, TensorRef],
    origins: dict[str, tuple[str, ...]],
) -> None:
    """Add what the source has not, from the base."""
    assert checkpoint.keymap is not None
    path, base_path = checkpoint.source.path, base.source.path
    theirs, names = to_canonical(base, partial=True)
    assert base.keymap is not None
    if none := [name for name in absent if name not in theirs and name in base.keymap.canonical]:
        raise RefusedError(
            f"{base_path}: has no {none[0]} either, nor {len(none) - 1} others of what is missing",
            hint="give a whole checkpoint as `base`",
        )
    _same_generation(checkpoint, base)
    inventory = base.keymap.canonical
    if any(checkpoint.keymap.canonical[name] != inventory.get(name) for name in canonical):
        raise MismatchError(
            f"{base_path}: is a SAM 2 of another size than {path}",
            hint="give a base of the same size",
        )
    for name in inventory:
        if name not in canonical and name in theirs:
            canonical[name] = theirs[name]
            origins[name] = tuple(f"{base_path}: {origin}" for origin in names[name])


def _same_generation(checkpoint: Checkpoint, base: Checkpoint) -> None:
    if checkpoint.generation not in (None, base.generation):
        raise MismatchError(
            f"{base.source.path}: is of SAM {base.generation}, "
            f"{checkpoint.source.path} of SAM {checkpoint.generation}",
            hint="give a base of the same generation",
        )
