"""Fill what a part of a model has not from a whole one of the same size: ``--base``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..checkpoint.mismatch import describe, lacking
from ..checkpoint.open import Checkpoint
from ..checkpoint.remap import to_truth
from ..dialects.keymap import covers
from ..dialects.rules import Dialect
from ..errors import MismatchError, RefusedError
from ..io.tensor import TensorRef


def sized(checkpoint: Checkpoint, filler: Checkpoint | None) -> Checkpoint:
    """A part whose size nothing in it tells has that of the checkpoint that it is filled from.

    Raises :class:`MismatchError` where what is there has no place in that.
    """
    if filler is None or checkpoint.keymap is not None:
        return checkpoint
    _same_generation(checkpoint, filler)
    part = replace(
        checkpoint, shipped=filler.shipped, generation=filler.generation, config=filler.config
    )
    if part.fit is not None and part.fit.faults > len(part.fit.missing):
        wrong = replace(part.fit, missing=())
        raise MismatchError(
            f"{part.source.path} is no part of a model like {filler.source.path}\n  "
            + "\n  ".join(describe(wrong)),
            hint="give a base of the same size",
        )
    return part


def complete(
    checkpoint: Checkpoint,
    filler: Checkpoint | None,
    dialect: Dialect,
    truth: dict[str, TensorRef],
    origins: dict[str, tuple[str, ...]],
) -> Checkpoint:
    """Add to ``truth`` and ``origins`` what ``dialect`` holds and ``checkpoint`` has not.

    Returns the checkpoint that is whole: ``checkpoint`` where nothing was absent, else ``filler``.
    Raises :class:`RefusedError` when something is absent that ``filler``, if there is one, has not
    either, and :class:`MismatchError` when it is of another model.
    """
    assert checkpoint.keymap is not None
    assert checkpoint.dialect is not None
    wanted = (name for name in checkpoint.keymap.truth if covers(dialect, name))
    absent = [name for name in wanted if name not in truth]
    if not absent:
        return checkpoint
    if filler is None:
        raise RefusedError(
            f"{checkpoint.source.path}: {checkpoint.dialect.name} holds "
            + lacking(checkpoint.dialect, len(absent), checkpoint.generation),
            hint="--base CHECKPOINT takes them from a checkpoint of the same size",
        )
    _fill(checkpoint, filler, absent, truth, origins)
    return filler


def _fill(
    checkpoint: Checkpoint,
    filler: Checkpoint,
    absent: Sequence[str],
    truth: dict[str, TensorRef],
    origins: dict[str, tuple[str, ...]],
) -> None:
    """Add what the source has not, from the base."""
    assert checkpoint.keymap is not None
    path, base = checkpoint.source.path, filler.source.path
    theirs, names = to_truth(filler, partial=True)
    assert filler.keymap is not None
    if none := [name for name in absent if name not in theirs and name in filler.keymap.truth]:
        raise RefusedError(
            f"{base}: has no {none[0]} either, nor {len(none) - 1} others of what is missing",
            hint="give a whole checkpoint as --base",
        )
    _same_generation(checkpoint, filler)
    inventory = filler.keymap.truth
    if any(checkpoint.keymap.truth[name] != inventory.get(name) for name in truth):
        raise MismatchError(
            f"{base}: is a SAM 2 of another size than {path}",
            hint="give a base of the same size",
        )
    for name in inventory:
        if name not in truth and name in theirs:
            truth[name] = theirs[name]
            origins[name] = tuple(f"{base}: {origin}" for origin in names[name])


def _same_generation(checkpoint: Checkpoint, filler: Checkpoint) -> None:
    if checkpoint.generation not in (None, filler.generation):
        raise MismatchError(
            f"{filler.source.path}: is of SAM {filler.generation}, "
            f"{checkpoint.source.path} of SAM {checkpoint.generation}",
            hint="give a base of the same generation",
        )
