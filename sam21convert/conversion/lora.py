"""Merge a LoRA adapter into a checkpoint: W + scale * B A for each weight that it changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

from ..checkpoint.identify import IdentifiedCheckpoint
from ..checkpoint.lora import Adapter
from ..checkpoint.lora_names import LoraChange
from ..checkpoint.lora_settings import scale_of
from ..checkpoint.remap import CanonicalTensors
from ..dialects import DIALECTS
from ..dialects.keymap import KeyMap, KeyMapEntry, compile_keymap
from ..errors import MismatchError
from ..io.data.checksums import same_bytes
from ..io.tensor import Factors, Inventory, Merged, Part, TensorRef, TensorSpec
from ..packages import require

Update: TypeAlias = tuple[Factors, ...]


@dataclass(frozen=True)
class MergedAdapter:
    """An adapter, merged into the tensors of its base.

    Attributes:
        adapter: the adapter.
        tensors: the tensors of the base, changed.
        repeats: pairs of names in the adapter whose tensors replace the same tensor of the base, so
            that they must be equal.
    """

    adapter: Adapter
    tensors: CanonicalTensors[Part]
    repeats: tuple[tuple[str, str], ...]


def merge(
    tensors: CanonicalTensors[TensorRef], adapter: Adapter, base: IdentifiedCheckpoint
) -> MergedAdapter:
    """Merge an adapter into the tensors of its base. Reads no data.

    Args:
        tensors: the tensors of ``base``.
        adapter: the adapter, of a model in any dialect, which need not be that of ``base``.
        base: the checkpoint that it is merged into.

    Returns:
        The changed tensors. The origins are prefixed with the path of the base, unless the adapter
        is in the same file.

    Raises:
        MismatchError: when a tensor of the adapter has no place in the base, or another shape.
        MissingPackageError: when torch has to compute how the adapter began, and is not installed.
    """
    path, inside = adapter.source.path, adapter.source is base.source
    parts: dict[str, Part] = {}
    origins = {
        name: names if inside else tuple(f"{base.source.path}: {one}" for one in names)
        for name, names in tensors.origins.items()
    }
    places, repeats = _places(adapter, base.keymap.canonical)
    for name, (entry, change) in places.items():
        if not set(entry.canonical) <= set(tensors.parts):
            raise MismatchError(
                f"{path}: {name} has no place in {base.source.path}",
                hint="`base=CHECKPOINT` takes the whole model that the adapter was made for",
            )
        _check_shapes(adapter, name, entry.spec, change.how)
        rows = [tensors.parts[one].spec.shape[0] for one in entry.canonical]
        for one, start, count in zip(entry.canonical, accumulate([0, *rows]), rows, strict=False):
            whole = len(entry.canonical) == 1
            how = change.how if whole else _rows(change.how, start, count)
            parts[one] = _merged(path, tensors.parts[one], how)
            kept = () if isinstance(how, TensorRef) else origins[one]
            origins[one] = (*kept, *change.names)
    return MergedAdapter(adapter, tensors.updated(parts, origins), tuple(repeats))


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


def _places(
    adapter: Adapter, inventory: Inventory
) -> tuple[dict[str, tuple[KeyMapEntry, LoraChange]], list[tuple[str, str]]]:
    """For each name in the adapter, its place in the dialect that has most of the names.

    Of several names with one place the first counts; the pairs of names come second.
    Raises :class:`MismatchError` when the dialect does not have all of them.
    """
    names = list(adapter.changes)
    tables = [_table(compile_keymap(d, inventory)) for d in DIALECTS if not d.permutes]
    read = max(
        (
            {name: table.get(name.removeprefix(prefix)) for name in names}
            for prefix in _prefixes(names)
            for table in tables
        ),
        key=lambda reading: sum(entry is not None for entry in reading.values()),
    )
    if unknown := [name for name, entry in read.items() if entry is None]:
        more = f", and {len(unknown) - 4} more" if len(unknown) > 4 else ""
        raise MismatchError(
            f"{adapter.source.path}: {', '.join(unknown[:4])}{more}: a SAM 2 of the size of the "
            "base has no tensors of these names",
            hint="`base=CHECKPOINT` takes the model that the adapter was made for",
        )
    places: dict[str, tuple[KeyMapEntry, LoraChange]] = {}
    repeats: list[tuple[str, str]] = []
    taken: dict[str, str] = {}
    for name, entry in read.items():
        if entry is None:
            continue
        before = taken.setdefault(entry.key, name)
        if before == name:
            places[name] = (entry, adapter.changes[name])
        else:
            repeats.append((before, name))
    return places, repeats


def _prefixes(names: list[str]) -> list[str]:
    """Prefixes that a model around SAM 2 may have added: what all names begin with, or less."""
    split = [name.split(".")[:-1] for name in names]
    common = []
    for segments in zip(*split, strict=False):
        if len(set(segments)) > 1:
            break
        common.append(f"{segments[0]}.")
    return ["".join(common[:count]) for count in range(len(common) + 1)]


def _table(keymap: KeyMap) -> dict[str, KeyMapEntry]:
    """The entries of a dialect by every name that they may have."""
    own = {entry.key: entry for entry in keymap.entries}
    others = {**keymap.aliases, **keymap.tied}
    return {**{name: own[of] for name, of in others.items()}, **own}


def _alike(one: Update | TensorRef, other: Update | TensorRef) -> bool:
    """Whether two changes are equal tensors; factors never count as equal."""
    both = isinstance(one, TensorRef) and isinstance(other, TensorRef)
    return both and same_bytes(one, other)  # type: ignore[arg-type]


def _check_shapes(adapter: Adapter, name: str, spec: TensorSpec, how: Update | TensorRef) -> None:
    if isinstance(how, TensorRef):
        fits, found = how.spec.shape == spec.shape, str(how.spec)
    else:
        fits = all(_fits(one, spec) for one in how)
        if any(one.start is not None for one in how):
            rank = min(scale_of(adapter.settings, name.removesuffix(".weight"))[0], *spec.shape)
            fits = fits and {one.right.spec.shape[0] for one in how} == {rank}
        found = ", ".join(
            f"the product of {one.left.spec} and {one.right.spec}"
            + (f", {one.magnitude.spec}" if one.magnitude else "")
            for one in how
        )
    if not fits:
        raise MismatchError(
            f"{adapter.source.path}: {name} is {list(spec.shape)} in the base, and in the adapter "
            f"{found}",
            hint="`base=CHECKPOINT` takes the model that the adapter was made for; the change of a "
            "grouped convolution is not merged, here as in PEFT",
        )


def _fits(factors: Factors, spec: TensorSpec) -> bool:
    """Whether factors change a weight of this shape: all of its rows, or the part they name."""
    left, right, length = factors.left.spec, factors.right.spec, factors.magnitude
    rows = left.shape[0]
    end = rows if factors.first is None else spec.shape[0]
    return (
        (factors.first or 0) + rows <= spec.shape[0] <= end
        and right.shape[1:] == spec.shape[1:]
        and (length is None or length.spec.numel == rows)
    )


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
