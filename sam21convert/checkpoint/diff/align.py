"""Two checkpoints with their tensors under the same names, ready to be compared."""

from __future__ import annotations

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

_SIZED = "image_encoder.trunk.blocks."  # what has another shape in a model of another size


@dataclass(frozen=True)
class DiffSide:
    """A checkpoint and its tensors.

    ``names`` is the dialect whose names they go by: that of the official code, or the file's own
    where nothing tells what model it is.
    """

    checkpoint: Checkpoint
    dialect: str
    names: str
    tensors: Mapping[str, TensorRef]

    @property
    def path(self) -> Path:
        """Where it was read."""
        return self.checkpoint.source.path

    @property
    def form(self) -> str:
        """Dialect and container."""
        return f"{self.dialect}, {self.checkpoint.source.container}"

    def why_not(self, name: str) -> str:
        """Why it has no tensor of that name."""
        keymap = self.checkpoint.keymap
        if keymap is not None and name in keymap.dropped:
            return f"no place in {self.dialect}"
        if keymap is not None and name not in keymap.canonical:
            return "SAM 2 has none" if name in GENERATION_TENSORS else "not part of the model"
        return "missing"


def open_pair(a: str | Path, b: str | Path) -> tuple[DiffSide, DiffSide]:
    """Open both, headers only.

    Where only one of them tells what model it is, the other is taken to be of the same.

    Raises :class:`MismatchError` for models of different sizes, :class:`RefusedError` for what is
    not SAM 2, else as :func:`~sam21convert.checkpoint.open.open_checkpoint`.
    """
    one, other = open_checkpoint(a), open_checkpoint(b)
    if one.keymap is None:
        one = _like(one, other)
    elif other.keymap is None:
        other = _like(other, one)
    sides = _side(one), _side(other)
    if sides[0].names != sides[1].names:
        raise RefusedError(
            f"{one.source.path} is {sides[0].dialect}, {other.source.path} {sides[1].dialect}, and "
            "neither is the size of any published SAM 2",
            hint=f"convert A with `to={sides[1].dialect}` and `config=FILE` first",
        )
    _refuse_other_size(*sides)
    return sides


def _like(unknown: Checkpoint, known: Checkpoint) -> Checkpoint:
    """``unknown`` with the config of ``known``, where that has one."""
    if unknown.dialect is None or known.model_config is None:
        return unknown
    return open_checkpoint(unknown.source.path, known.model_config)


def _side(checkpoint: Checkpoint) -> DiffSide:
    """What has no place in the model keeps the name that it has in the file."""
    path, dialect = checkpoint.source.path, checkpoint.dialect
    if dialect is None:
        raise RefusedError(
            f"{path}: no tensor has a name that SAM 2 uses in any dialect this tool knows"
        )
    for name, ref in checkpoint.tensors.items():  # a stride of 0 may claim any size
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
                f"{name} is {ref.spec} in the one and {theirs.spec} in the other",
                hint="tensors are compared one by one, between models of one size",
            )
