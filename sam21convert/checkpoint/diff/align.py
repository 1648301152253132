"""Open two checkpoints and bring their tensors under the same names, ready to be compared."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...dialects import OFFICIAL
from ...errors import MismatchError, RefusedError
from ...io.tensor import TensorRef
from ..detect import GENERATION_TENSORS
from ..identify import identify
from ..open import Checkpoint, open_checkpoint
from ..remap import CanonicalTensors, refuse_unequal_copies
from ..safety.report import naming_harm

_SIZED = "image_encoder.trunk.blocks."  # tensors whose shapes depend on the size of the model


@dataclass(frozen=True)
class DiffSide:
    """A checkpoint and its tensors.

    Attributes:
        checkpoint: the checkpoint.
        dialect: the name of its dialect.
        names: the name of the dialect whose names the tensors have: ``official``, or that of the
            file where nothing tells what model it is.
        tensors: name -> tensor. A tensor that has no place in the model keeps its name in the file.
    """

    checkpoint: Checkpoint
    dialect: str
    names: str
    tensors: Mapping[str, TensorRef]

    @property
    def path(self) -> Path:
        """The file or folder that was read."""
        return self.checkpoint.source.path

    @property
    def form(self) -> str:
        """Dialect and container, as in "hf-video, transformers folder"."""
        return f"{self.dialect}, {self.checkpoint.source.container}"

    def why_not(self, name: str) -> str:
        """Say why the checkpoint does not hold a tensor.

        Args:
            name: the name of a tensor that is not in ``tensors``.

        Returns:
            The reason, in a few words.
        """
        keymap = self.checkpoint.keymap
        if keymap is not None and name in keymap.dropped:
            return f"no place in {self.dialect}"
        if keymap is not None and name not in keymap.canonical:
            return "SAM 2 has none" if name in GENERATION_TENSORS else "not part of the model"
        return "missing"


def open_pair(a: str | Path, b: str | Path) -> tuple[DiffSide, DiffSide]:
    """Open two checkpoints, headers only, and give their tensors the same names.

    If only one of them tells what model it is, the other is taken to be the same model.

    Args:
        a: a checkpoint, in any form that :func:`~sam21convert.checkpoint.open.open_checkpoint`
            takes.
        b: the other one.

    Returns:
        Both sides, in this order.

    Raises:
        RefusedError: when one of them is not SAM 2, or the models of both are unknown and their
            dialects differ.
        MismatchError: when the models are of different sizes, or one holds a tensor twice and the
            copies differ.
        Sam21ConvertError: when a checkpoint cannot be opened.
    """
    one, other = open_checkpoint(a), open_checkpoint(b)
    with naming_harm(one.source.path, other.source.path):
        return _aligned(one, other)


def _aligned(one: Checkpoint, other: Checkpoint) -> tuple[DiffSide, DiffSide]:
    if one.keymap is None:
        one = _like(one, other)
    elif other.keymap is None:
        other = _like(other, one)
    sides = _side(one), _side(other)
    if sides[0].names != sides[1].names:
        raise RefusedError(
            f"{one.source.path} is {sides[0].dialect}, {other.source.path} {sides[1].dialect}, and "
            "neither is the size of any published SAM 2",
            hint=f"sam21convert convert {shlex.quote(str(one.source.path))} OUT "
            f"--to {sides[1].dialect} --config FILE first, then compare OUT",
        )
    _refuse_other_size(*sides)
    return sides


def _like(unknown: Checkpoint, known: Checkpoint) -> Checkpoint:
    """``unknown``, opened with the config of ``known`` if that has one."""
    if unknown.dialect is None or known.model_config is None:
        return unknown
    return open_checkpoint(unknown.source.path, known.model_config)


def _side(checkpoint: Checkpoint) -> DiffSide:
    """The tensors of a checkpoint under official names, as far as its model is known."""
    path, dialect = checkpoint.source.path, checkpoint.dialect
    if dialect is None:
        raise RefusedError(
            f"{path}: no tensor has a name that SAM 2 uses in any dialect this tool knows"
        )
    for name, ref in checkpoint.tensors.items():  # a stride of 0 lets a small file claim any size
        if ref.stride is not None and ref.spec.nbytes > ref.path.stat().st_size:
            raise RefusedError(f"{path}: {name} ({ref.spec}) is larger than the file")
    if checkpoint.model_config is None:
        return DiffSide(checkpoint, dialect.name, dialect.name, checkpoint.tensors)
    refuse_unequal_copies(checkpoint)
    known = identify(checkpoint)
    held = CanonicalTensors.held_by(known)
    placed = {name for names in held.origins.values() for name in names}
    placed |= {name for pair in known.fit.repeats for name in pair}
    rest = {name: ref for name, ref in checkpoint.tensors.items() if name not in placed}
    return DiffSide(known, dialect.name, OFFICIAL.name, {**held.parts, **rest})


def _refuse_other_size(one: DiffSide, other: DiffSide) -> None:
    for name, ref in one.tensors.items():
        theirs = other.tensors.get(name, ref)
        if name.startswith(_SIZED) and ref.spec.shape != theirs.spec.shape:
            sizes = (side.checkpoint.shipped for side in (one, other))
            known = [f" ({size.size})" if size else "" for size in sizes]
            raise MismatchError(
                f"{one.path}{known[0]} and {other.path}{known[1]} are models of different sizes: "
                f"{name} is {ref.spec} in the first and {theirs.spec} in the second",
                hint="compare two checkpoints of the same size",
            )
