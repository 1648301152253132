"""Merge a LoRA adapter into a checkpoint: W + scale * B A for each weight that it changes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from ..checkpoint.identify import IdentifiedCheckpoint
from ..checkpoint.lora import Adapter
from ..checkpoint.remap import CanonicalTensors
from ..errors import MismatchError
from ..io.data.checksums import same_bytes
from ..io.tensor import Merged, Part, TensorRef
from ..packages import require
from .lora_places import Update, check_shapes, find_places


@dataclass(frozen=True)
class MergedAdapter:
    """An adapter, merged into the tensors of its base.

    Attributes:
        adapter: the adapter.
        tensors: the tensors of the base, changed.
        repeats: pairs of names in the adapter whose tensors replace the same tensor of the base, so
            that they must be equal.
        notes: where its tensors belong, where their names do not say it.
    """

    adapter: Adapter
    tensors: CanonicalTensors[Part]
    repeats: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


def merge(
    tensors: CanonicalTensors[TensorRef],
    adapter: Adapter,
    base: IdentifiedCheckpoint,
    dropped: Collection[str] = (),
) -> MergedAdapter:
    """Merge an adapter into the tensors of its base. Reads no data.

    Args:
        tensors: the tensors of ``base``.
        adapter: the adapter, of a model in any dialect, which need not be that of ``base``.
        base: the checkpoint that it is merged into.
        dropped: names in the adapter that are left out because the caller asked for it.

    Returns:
        The changed tensors. The origins are prefixed with the path of the base, unless the adapter
        is in the same file.

    Raises:
        MismatchError: when a tensor of the adapter has no place in the base, or another shape.
        RefusedError: when a tensor to be left out is one of SAM 2.
        MissingPackageError: when torch has to compute how the adapter began, and is not installed.
    """
    path, inside = adapter.source.path, adapter.source is base.source
    found = find_places(adapter, base.keymap.canonical, dropped)
    parts: dict[str, Part] = {}
    origins = {
        name: names if inside else tuple(f"{base.source.path}: {one}" for one in names)
        for name, names in tensors.origins.items()
    }
    for name, entry in found.entries.items():
        change = adapter.changes[name]
        if not set(entry.canonical) <= set(tensors.parts):
            raise MismatchError(
                f"{path}: {name} has no place in {base.source.path}",
                hint="`base=CHECKPOINT` takes the whole model that the adapter was made for",
            )
        check_shapes(adapter, name, entry.spec, change.how)
        rows = [tensors.parts[one].spec.shape[0] for one in entry.canonical]
        for one, start, count in zip(entry.canonical, accumulate([0, *rows]), rows, strict=False):
            whole = len(entry.canonical) == 1
            how = change.how if whole else _rows(change.how, start, count)
            parts[one] = _merged(path, tensors.parts[one], how)
            kept = () if isinstance(how, TensorRef) else origins[one]
            origins[one] = (*kept, *change.names)
    return MergedAdapter(adapter, tensors.updated(parts, origins), found.repeats, found.notes)


def refuse_unequal_changes(merged: MergedAdapter) -> None:
    """Check that tensors that an adapter holds twice are equal. Reads their data.

    Args:
        merged: the merged adapter.

    Raises:
        MismatchError: when two that are for the same tensor differ.
    """
    changes = merged.adapter.changes
    for one, other, how, copy in (
        *((one, other, changes[one].how, changes[other].how) for one, other in merged.repeats),
        *((*repeat.names, *repeat.refs) for repeat in merged.adapter.repeats),
    ):
        if not _alike(how, copy):
            raise MismatchError(
                f"{merged.adapter.source.path}: {one} and {other} should be equal and differ"
            )


def _alike(one: Update | TensorRef, other: Update | TensorRef) -> bool:
    """Whether two changes are equal tensors; factors never count as equal."""
    both = isinstance(one, TensorRef) and isinstance(other, TensorRef)
    return both and same_bytes(one, other)  # type: ignore[arg-type]


def _rows(how: Update | TensorRef, start: int, count: int) -> Update | TensorRef:
    """The change of some rows of a tensor that the dialect concatenates from several."""
    if isinstance(how, TensorRef):
        return how.rows(start, count)
    # Only embeddings are concatenated, and of them PEFT trains the plain factors of all rows.
    assert all(one.magnitude is None and one.start is None and one.first is None for one in how)
    return tuple(replace(one, left=one.left.rows(start, count)) for one in how)


def _merged(path: Path, ref: TensorRef, how: Update | TensorRef) -> Part:
    """A tensor of the base, changed; its type stays."""
    if not isinstance(how, TensorRef):
        for one in how:
            if one.start is not None:  # a decomposition, which only torch computes as PEFT does
                require("torch", f"{path}: init_lora_weights={one.start}")
        return Merged(ref.spec, ref, how)
    return how if how.spec.dtype == ref.spec.dtype else Merged(ref.spec, how)
