"""From SAM 2 to SAM 2.1 and back: the three tensors in which the generations differ.

With zeros in the three, SAM 2.1 computes what SAM 2 does: object pointers get no position in time,
and nothing is added to the memory of a frame without the object (``sam2/modeling/sam2_base.py``).
So the way up is free, and the way down is where the three are zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..checkpoint.detect import GENERATION_TENSORS
from ..checkpoint.open import Checkpoint, shipped_keymap
from ..config.registry import Shipped, shipped_like, tensors_of
from ..dialects.keymap import KeyMap, compile_keymap, target_name
from ..dialects.rules import Dialect
from ..errors import MismatchError, UsageError
from ..io.data.copy import Files, payload
from ..io.source import FOLDERS, Container
from ..io.tensor import Constant, Inventory, Part, Tensor, TensorSpec
from ..model.config import Generation


@dataclass(frozen=True)
class GenerationChange:
    """The model that is written, and what sets it apart from the one that was read.

    ``added`` goes by the names of the ground truth. ``dropped`` goes by those in the source, and
    holds the largest magnitude of each.
    """

    generation: str | None
    shipped: Shipped | None
    inventory: Inventory
    added: Mapping[str, Constant] = field(default_factory=dict)
    dropped: Mapping[str, float] = field(default_factory=dict)

    @property
    def lost(self) -> dict[str, float]:
        """Those of ``dropped`` that are not zero throughout."""
        return {name: largest for name, largest in self.dropped.items() if largest != 0}

    def keymap(self, dialect: Dialect) -> KeyMap:
        """The map of its tensors to the names of a dialect."""
        if self.shipped is not None:
            return shipped_keymap(dialect, self.shipped)
        return compile_keymap(dialect, self.inventory)

    def notes(self) -> Iterator[str]:
        """What a report says of it."""
        if self.added:
            yield f"added as zeros, which change nothing: {', '.join(self.added)}"
        if self.lost:
            lost = ", ".join(f"{name} (up to {largest:.6g})" for name, largest in self.lost.items())
            yield f"lost, as SAM 2 has no place for it: {lost}; videos are tracked differently"
        elif self.dropped:
            yield f"left out, and nothing lost, as all of it is zero: {', '.join(self.dropped)}"


def assume_generation(checkpoint: Checkpoint, generation: Generation | None) -> Checkpoint:
    """``checkpoint`` as one of ``generation``, where nothing in it tells its own."""
    model = checkpoint.model_config
    if generation is None or model is None or checkpoint.generation is not None:
        return checkpoint
    model = replace(model, generation=generation)
    return replace(
        checkpoint,
        generation=generation,
        shipped=shipped_like(model),
        config=None if checkpoint.config is None else model,
    )


def take_to(
    generation: Generation | None,
    whole: Checkpoint,
    canonical: Mapping[str, Part],
    dialect: Dialect,
    container: Container,
    *,
    allow_lossy: bool,
) -> GenerationChange:
    """Plan the way of ``canonical``, the tensors of ``whole``, to ``generation``; None is its own.

    Reads the three tensors on the way down. Raises :class:`MismatchError` when one of them is not
    zero throughout, unless ``allow_lossy``, and :class:`UsageError` where the output has no place
    to tell its generation.
    """
    assert whole.keymap is not None
    assert whole.model_config is not None
    if generation is None or generation == whole.generation:
        return GenerationChange(whole.generation, whole.shipped, whole.keymap.canonical)
    if dialect.task != "video" and container not in FOLDERS:
        raise UsageError(
            f"`generation`: nothing in a file without the memory tells SAM {generation} "
            f"from SAM {whole.generation}",
            hint="give the name of a folder, whose config.json records it",
        )
    model = replace(whole.model_config, generation=generation)
    outcome = GenerationChange(generation, shipped_like(model), tensors_of(model))
    if dialect.task != "video":
        return outcome
    if generation == "2.1":
        return replace(outcome, added=_zeros(canonical, outcome.inventory))
    outcome = replace(outcome, dropped=_magnitudes(whole, canonical))
    if outcome.lost and not allow_lossy:
        lines = [f"  {name}: up to {largest:.6g}" for name, largest in outcome.lost.items()]
        raise MismatchError(
            "\n".join([f"{whole.source.path}: SAM 2 has no place for what is not zero in", *lines]),
            hint="`allow_lossy=True` drops it; images stay the same, videos are tracked differently",
        )
    return outcome


def _zeros(canonical: Mapping[str, Part], inventory: Inventory) -> dict[str, Constant]:
    """The three tensors, of the type that most of the others have."""
    [(dtype, _)] = Counter(ref.spec.dtype for ref in canonical.values()).most_common(1)
    return {name: Constant(TensorSpec(dtype, inventory[name].shape)) for name in GENERATION_TENSORS}


def _magnitudes(whole: Checkpoint, canonical: Mapping[str, Part]) -> dict[str, float]:
    """The largest magnitude in each of the three tensors; NaN where there is one."""
    import numpy as np

    from ..io.data.cast import to_float

    assert whole.dialect is not None
    found = {}
    with Files() as files:
        for name in GENERATION_TENSORS:
            ref = canonical[name]
            chunks = payload(files, Tensor(ref.spec, (ref,)))
            largest = [np.abs(to_float(chunk, ref.spec.dtype)).max() for chunk in chunks]
            found[target_name(whole.dialect, name) or name] = float(np.max(largest))
    return found
