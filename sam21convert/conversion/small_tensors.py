"""The data that planning reads: a few small tensors whose values decide what a conversion may do.

Everything else in a plan is decided from headers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..checkpoint.identify import IdentifiedCheckpoint
from ..checkpoint.remap import CanonicalTensors, refuse_unequal_copies
from ..dialects.keymap import target_name
from ..io.data.checksums import same_bytes
from ..io.data.copy import Files, payload
from ..io.tensor import Part, Tensor

if TYPE_CHECKING:
    from .lora import MergedAdapter


@dataclass(frozen=True)
class SmallTensors:
    """What the values of small tensors tell.

    Attributes:
        trained: the names in the source of vectors that the model does not have, and that hold
            something else than the constant which the dialect asks for.
        largest: name in the dialect of the source -> the largest magnitude in each tensor that is
            dropped; NaN where there is one.
    """

    trained: tuple[str, ...]
    largest: Mapping[str, float]


def read_small_tensors(
    source: IdentifiedCheckpoint,
    complete: IdentifiedCheckpoint,
    tensors: CanonicalTensors[Part],
    removed: Sequence[str],
    merged: MergedAdapter | None,
) -> SmallTensors:
    """Read all the data that planning needs, once.

    Args:
        source: the checkpoint to convert.
        complete: the base that completes it, or ``source`` itself.
        tensors: the tensors of the model, a LoRA adapter included.
        removed: canonical names of the tensors that the generation of the output has no place for.
        merged: the adapter that was merged, if any.

    Returns:
        What the values tell.

    Raises:
        MismatchError: when a checkpoint or the adapter holds a tensor twice and the copies differ.
    """
    refuse_unequal_copies(source)
    if complete is not source:
        refuse_unequal_copies(complete)
    if merged is not None:
        from .lora import refuse_unequal_changes

        refuse_unequal_changes(merged)
    return SmallTensors(tuple(_trained(source)), _magnitudes(complete, tensors, removed))


def _trained(source: IdentifiedCheckpoint) -> Iterator[str]:
    """The vectors that SAM 2 does not have and that do not hold the constant of the dialect."""
    for name, constant in source.keymap.constants.items():
        if name in source.fit.names:
            found = source.tensors[source.fit.names[name]]
            if not same_bytes(found, replace(constant, spec=found.spec)):
                yield name


def _magnitudes(
    complete: IdentifiedCheckpoint, tensors: CanonicalTensors[Part], names: Sequence[str]
) -> dict[str, float]:
    """The largest magnitude in each of these tensors, by its name in the source."""
    if not names:
        return {}
    import numpy as np

    from ..io.data.cast import to_float

    found = {}
    with Files() as files:
        for name in names:
            part = tensors.parts[name]
            chunks = payload(files, Tensor(part.spec, (part,)))
            largest = [np.abs(to_float(chunk, part.spec.dtype)).max() for chunk in chunks]
            found[target_name(complete.dialect, name) or name] = float(np.max(largest))
    return found
