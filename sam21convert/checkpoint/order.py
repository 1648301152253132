"""The order in which people expect the tensors of a checkpoint: that of the model."""

from __future__ import annotations

import re

from .diff.modules import module_of, natural, rank
from .open import Checkpoint


def in_model_order(checkpoint: Checkpoint) -> list[str]:
    """Sort the tensors of a checkpoint.

    Args:
        checkpoint: the checkpoint, in any dialect, or of another model.

    Returns:
        The names in the file. Tensors of SAM 2 are in the order of the data flow, part by part, and
        within a part in that of its state dict; those that it does not have follow by name, 2
        before 10.
    """
    canonical = _canonical_names(checkpoint)
    keymap = checkpoint.keymap
    place = {name: at for at, name in enumerate(keymap.canonical if keymap else ())}

    def key(name: str) -> tuple[int, int, list[tuple[int, str]]]:
        known = canonical.get(name, name)
        return (
            rank(module_of(known)),
            place.get(known, len(place)),
            natural(re.split(r"[./]", known)),
        )

    return sorted(checkpoint.tensors, key=key)


def _canonical_names(checkpoint: Checkpoint) -> dict[str, str]:
    """Name in the file to the official name of the tensor, or of the first that it is made of."""
    keymap, fit = checkpoint.keymap, checkpoint.fit
    if keymap is None or fit is None:
        return {}
    official = {entry.key: entry.canonical[0] for entry in keymap.entries}
    official |= {name: official[of] for name, of in keymap.tied.items()}
    return {name: official[own] for own, name in fit.names.items() if own in official}
