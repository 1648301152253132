"""Where the tensors of a LoRA adapter belong in a model: by their names, and by their shapes.

An adapter may have been made for the whole model, for a larger one around it, or for one of its
modules alone, as ``get_peft_model(model.mask_decoder, ...)`` does. Its names are then longer or
shorter than those of the model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..checkpoint.drop import drop_options, is_within
from ..checkpoint.lora import Adapter
from ..checkpoint.lora_settings import WHILE_TRAINED, scale_of
from ..dialects import DIALECTS
from ..dialects.keymap import KeyMap, KeyMapEntry, compile_keymap
from ..dialects.rules import Dialect
from ..errors import MismatchError, RefusedError
from ..io.tensor import Factors, Inventory, TensorRef, TensorSpec

Update: TypeAlias = tuple[Factors, ...]
Table: TypeAlias = Mapping[str, KeyMapEntry]

_ANOTHER = "`base=CHECKPOINT` takes the model that the adapter was made for"
_SHOWN = 4


@dataclass(frozen=True)
class Places:
    """Where the tensors of an adapter belong.

    Attributes:
        entries: name in the adapter -> its place in the dialect of the adapter.
        repeats: pairs of names in the adapter that have one place; the first is in ``entries``.
        notes: what was put before the names, a sentence each.
    """

    entries: Mapping[str, KeyMapEntry]
    repeats: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Reading:
    """The names of an adapter in a dialect: without ``prefix``, or with ``before`` before them."""

    dialect: Dialect
    entries: Mapping[str, KeyMapEntry]
    prefix: str = ""
    before: str = ""


def find_places(adapter: Adapter, inventory: Inventory, dropped: Collection[str] = ()) -> Places:
    """Find the places of the tensors of an adapter.

    Args:
        adapter: the adapter, of a model in any dialect.
        inventory: the canonical tensors of the base.
        dropped: names in the adapter that are to be left out.

    Returns:
        Their places, in the dialect that has most of the names.

    Raises:
        MismatchError: when no dialect has all of them, or they may be of several modules.
        RefusedError: when a tensor to be left out is one of SAM 2.
    """
    path = adapter.source.path
    names = list(adapter.changes)
    tables = {d: _table(compile_keymap(d, inventory)) for d in DIALECTS if not d.permutes}
    found = max(
        (reading for dialect, table in tables.items() for reading in _whole(names, dialect, table)),
        key=lambda reading: len(reading.entries),
    )
    kept = [name for name in names if name not in dropped]
    if any(name not in found.entries for name in kept):
        found = _of_a_module(adapter, kept, tables) or found
    if within := [name for name in dropped if not _is_own(name, found)]:
        raise RefusedError(
            f"{path}: {within[0]} is not left out: without it this would be another model",
            hint="only what stands beside the modules of SAM 2 can be left out",
        )
    if unknown := [name for name in kept if name not in found.entries]:
        options = drop_options(unknown, found.dialect) if found.entries else []
        beside = bool(options) and all(_is_own(name, found) for name in unknown)
        more = f", and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise MismatchError(
            f"{path}: {', '.join(unknown[:_SHOWN])}{more}: a SAM 2 of the size of the base has no "
            "tensors of these names",
            hint=" ".join(f"`{one}`" for one in options) + " leaves out what is not part of SAM 2"
            if beside
            else _ANOTHER,
        )
    places: dict[str, KeyMapEntry] = {}
    repeats: list[tuple[str, str]] = []
    taken: dict[str, str] = {}
    for name in kept:
        before = taken.setdefault(found.entries[name].key, name)
        if before == name:
            places[name] = found.entries[name]
        else:
            repeats.append((before, name))
    return Places(places, tuple(repeats), tuple(_notes(found)))


def check_shapes(adapter: Adapter, name: str, spec: TensorSpec, how: Update | TensorRef) -> None:
    """Check that a change fits the tensor that it changes.

    Args:
        adapter: the adapter.
        name: the name of the tensor in it.
        spec: the tensor in the base.
        how: the change.

    Raises:
        MismatchError: when it does not.
    """
    if _matches(adapter, name, spec, how):
        return
    found = (
        str(how.spec)
        if isinstance(how, TensorRef)
        else ", ".join(
            f"the product of {one.left.spec} and {one.right.spec}"
            + (f", {one.magnitude.spec}" if one.magnitude else "")
            for one in how
        )
    )
    raise MismatchError(
        f"{adapter.source.path}: {name} is {list(spec.shape)} in the base, and in the adapter "
        f"{found}",
        hint=f"{_ANOTHER}; the change of a grouped convolution is not merged, here as in PEFT",
    )


def _whole(names: Sequence[str], dialect: Dialect, table: Table) -> Iterator[_Reading]:
    """Readings of the names as those of a whole model, with a prefix of a model around it."""
    cuts = [(name, at) for name in names for at in _cuts(name) if name[at:] in table]
    counts = Counter(name[:at] for name, at in cuts)
    for prefix in sorted(counts, key=len) or [""]:
        yield _Reading(
            dialect,
            {
                name: table[name.removeprefix(prefix)]
                for name in names
                if name.startswith(prefix) and name.removeprefix(prefix) in table
            },
            prefix,
        )


def _of_a_module(
    adapter: Adapter, names: Sequence[str], tables: Mapping[Dialect, Table]
) -> _Reading | None:
    """The reading of all names as those within one module. None when there is none."""
    found: dict[tuple[tuple[str, ...], ...], _Reading] = {}
    for dialect, table in tables.items() if names else ():
        ends = [key.removesuffix(names[0]) for key in table if key.endswith(f".{names[0]}")]
        for before in [end for end in ends if not re.search(r"\d", end)]:  # not one of many layers
            entries = {
                name: entry
                for name in names
                if (entry := table.get(before + name)) is not None
                and _matches(adapter, name, entry.spec, adapter.changes[name].how)
            }
            if len(entries) == len(names):
                places = tuple(entry.canonical for entry in entries.values())
                found.setdefault(places, _Reading(dialect, entries, before=before))
    if len(found) > 1:
        modules = sorted(reading.before.rstrip(".") for reading in found.values())
        raise MismatchError(
            f"{adapter.source.path}: {names[0]} may stand in {', '.join(modules[:_SHOWN])}: the "
            "names do not tell for which module of SAM 2 the adapter was made",
            hint=WHILE_TRAINED,
        )
    return next(iter(found.values()), None)


def _cuts(name: str) -> list[int]:
    """Where a name may be cut so that its beginning is a prefix."""
    return [0, *(at + 1 for at, sign in enumerate(name) if sign == ".")]


def _is_own(name: str, found: _Reading) -> bool:
    """Whether a tensor stands beside the modules of SAM 2, as a head of the user's own does."""
    if name in found.entries or not found.entries or found.before:
        return False
    return not name.startswith(found.prefix) or not is_within(
        name.removeprefix(found.prefix), found.dialect
    )


def _notes(found: _Reading) -> Iterator[str]:
    if found.before:
        yield f"the names in the adapter are those within {found.before.rstrip('.')}"


def _table(keymap: KeyMap) -> Table:
    """The entries of a dialect by every name that they may have."""
    own = {entry.key: entry for entry in keymap.entries}
    others = {**keymap.aliases, **keymap.tied}
    return {**{name: own[of] for name, of in others.items()}, **own}


def _matches(adapter: Adapter, name: str, spec: TensorSpec, how: Update | TensorRef) -> bool:
    if isinstance(how, TensorRef):
        return how.spec.shape == spec.shape
    fits = all(_fits(one, spec) for one in how)
    if any(one.start is not None for one in how):
        rank = min(scale_of(adapter.settings, name.removesuffix(".weight"))[0], *spec.shape)
        fits = fits and {one.right.spec.shape[0] for one in how} == {rank}
    return fits


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
