"""From SAM 2 to SAM 2.1 and back: the three tensors in which the generations differ.

With zeros in the three, SAM 2.1 computes what SAM 2 does: object pointers get no position in time,
and nothing is added to the memory of a frame without the object (``sam2/modeling/sam2_base.py``).
So a SAM 2 always becomes a SAM 2.1, and a SAM 2.1 becomes a SAM 2 if the three are zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..checkpoint.detect import GENERATION_TENSORS
from ..checkpoint.identify import IdentifiedCheckpoint
from ..checkpoint.open import Checkpoint, shipped_keymap
from ..checkpoint.remap import CanonicalTensors, usual_type
from ..config.registry import Shipped, shipped_like, tensors_of
from ..dialects.keymap import KeyMap, compile_keymap
from ..dialects.rules import Dialect
from ..errors import MismatchError
from ..io.tensor import Constant, Inventory, Part, TensorSpec
from ..model.config import Generation


@dataclass(frozen=True)
class GenerationChange:
    """The model that is written, and how it differs from the one that was read.

    Attributes:
        generation: the generation to write; None when nothing tells it.
        shipped: the shipped config with the tensors to write, if there is one.
        inventory: canonical name -> type and shape of each tensor of the model to write.
        added: canonical name -> zeros that are added.
        removed: canonical names of the tensors that the generation has no place for.
        dropped: for each of ``removed``, its name in the source -> its largest magnitude.
    """

    generation: Generation | None
    shipped: Shipped | None
    inventory: Inventory
    added: Mapping[str, Constant] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    dropped: Mapping[str, float] = field(default_factory=dict)

    @property
    def lost(self) -> dict[str, float]:
        """Those of ``dropped`` that are not zero throughout."""
        return {name: largest for name, largest in self.dropped.items() if largest != 0}

    def keymap(self, dialect: Dialect) -> KeyMap:
        """Compile the key map of a dialect for the model to write.

        Args:
            dialect: the dialect to write.

        Returns:
            The key map.
        """
        if self.shipped is not None:
            return shipped_keymap(dialect, self.shipped)
        return compile_keymap(dialect, self.inventory)

    def notes(self) -> Iterator[str]:
        """Say what is added and dropped.

        Yields:
            The notes, a sentence each.
        """
        if self.added:
            yield f"added as zeros, which change nothing: {', '.join(self.added)}"
        if self.lost:
            lost = ", ".join(f"{name} (up to {largest:.6g})" for name, largest in self.lost.items())
            yield f"lost, as SAM 2 has no place for it: {lost}; videos are tracked differently"
        elif self.dropped:
            yield f"left out, and nothing lost, as all of it is zero: {', '.join(self.dropped)}"


def assume_generation(checkpoint: Checkpoint, generation: Generation | None) -> Checkpoint:
    """Give a checkpoint that does not tell its generation the generation that is asked for.

    Args:
        checkpoint: the checkpoint to convert.
        generation: the generation to write, if one is asked for.

    Returns:
        The checkpoint as one of ``generation``; unchanged if it tells its own, or its model is
        unknown.
    """
    if generation is None or checkpoint.generation is not None:
        return checkpoint
    model = checkpoint.model_config
    if model is None:
        return checkpoint
    model = replace(model, generation=generation)
    return replace(
        checkpoint,
        generation=generation,
        shipped=shipped_like(model),
        config=None if checkpoint.config is None else model,
    )


def plan_generation(
    generation: Generation | None,
    complete: IdentifiedCheckpoint,
    tensors: CanonicalTensors[Part],
    dialect: Dialect,
) -> GenerationChange:
    """Plan the change of a model to another generation, from headers alone.

    Args:
        generation: the generation to write; None keeps that of ``complete``.
        complete: the checkpoint that decides the model.
        tensors: its tensors.
        dialect: the dialect to write.

    Returns:
        The change, without ``dropped``: that takes reading the tensors ``removed``.
    """
    if generation is None or generation == complete.generation:
        return GenerationChange(complete.generation, complete.shipped, complete.keymap.canonical)
    model = replace(complete.model_config, generation=generation)
    change = GenerationChange(generation, shipped_like(model), tensors_of(model))
    if dialect.task != "video":
        return change
    if generation == "2.0":
        return replace(change, removed=GENERATION_TENSORS)
    return replace(change, added=_zeros(tensors, change.inventory))


def refuse_loss(change: GenerationChange, path: Path) -> None:
    """Check that a change of generation loses nothing.

    Args:
        change: the change, with the magnitudes of what it drops.
        path: the checkpoint, as the message names it.

    Raises:
        MismatchError: when a tensor that is dropped is not zero throughout.
    """
    if change.lost:
        lines = [f"  {name}: up to {largest:.6g}" for name, largest in change.lost.items()]
        raise MismatchError(
            "\n".join(
                [f"{path}: SAM 2 has no place for these tensors, which are not zero", *lines]
            ),
            hint="`allow_lossy=True` drops it; images stay the same, videos are tracked "
            "differently",
        )


def in_generation(
    tensors: CanonicalTensors[Part], change: GenerationChange
) -> CanonicalTensors[Part]:
    """Apply a change of generation.

    Args:
        tensors: the tensors of the model as it was read.
        change: the change.

    Returns:
        The tensors with those that the change adds. Those that it drops stay, and no key map of the
        new generation asks for them.
    """
    return tensors.updated(change.added, dict.fromkeys(change.added, ()))


def _zeros(tensors: CanonicalTensors[Part], inventory: Inventory) -> dict[str, Constant]:
    """The three tensors, of the type that most of the others have."""
    dtype = usual_type(tensors.parts)
    return {name: Constant(TensorSpec(dtype, inventory[name].shape)) for name in GENERATION_TENSORS}
