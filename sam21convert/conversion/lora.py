"""Merge a LoRA adapter into a checkpoint: W + scale * B A for each weight that it changes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from ..checkpoint.lora import Adapter, LoraChange
from ..checkpoint.open import Checkpoint
from ..dialects import DIALECTS
from ..dialects.keymap import KeyMap, KeyMapEntry, compile_keymap
from ..errors import MismatchError
from ..io.data.checksums import same_bytes
from ..io.tensor import Factors, Inventory, Merged, Part, TensorRef, TensorSpec


def merge(
    adapter: Adapter,
    base: Checkpoint,
    canonical: Mapping[str, TensorRef],
    origins: Mapping[str, tuple[str, ...]],
) -> tuple[dict[str, Part], dict[str, tuple[str, ...]]]:
    """``canonical``, the tensors of ``base``, and their ``origins``, with what ``adapter`` changes.

    The adapter may be of a model in any dialect, whatever that of ``base``. Raises
    :class:`MismatchError` when one of its tensors has no place there, or another shape.
    """
    assert base.keymap is not None
    path = adapter.source.path
    parts: dict[str, Part] = dict(canonical)
    found = {n: tuple(f"{base.source.path}: {o}" for o in names) for n, names in origins.items()}
    for name, (entry, change) in _places(adapter, base.keymap.canonical).items():
        if not set(entry.canonical) <= set(canonical):
            raise MismatchError(
                f"{path}: {name} has no place in {base.source.path}",
                hint="give the whole model that the adapter was made for as `base`",
            )
        _check_shapes(adapter, name, entry.spec, change.how)
        rows = [canonical[one].spec.shape[0] for one in entry.canonical]
        for one, start, count in zip(entry.canonical, accumulate([0, *rows]), rows, strict=False):
            whole = len(entry.canonical) == 1
            how = change.how if whole else _rows(change.how, start, count)
            parts[one] = _merged(canonical[one], how)
            kept = found[one] if isinstance(how, Factors) else ()
            found[one] = (*kept, *change.names)
    return parts, found


def _places(adapter: Adapter, inventory: Inventory) -> dict[str, tuple[KeyMapEntry, LoraChange]]:
    """For each name in the adapter, the place in the dialect that has most of them.

    Raises :class:`MismatchError` when it has not all, or two different tensors are for one.
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
    if strangers := [name for name, entry in read.items() if entry is None]:
        more = f", and {len(strangers) - 4} more" if len(strangers) > 4 else ""
        raise MismatchError(
            f"{adapter.source.path}: {', '.join(strangers[:4])}{more}: no SAM 2 of the size of the "
            "base has tensors of these names",
            hint="give the model that the adapter was made for as `base`",
        )
    places: dict[str, tuple[KeyMapEntry, LoraChange]] = {}
    taken: dict[str, str] = {}
    for name, entry in read.items():
        assert entry is not None
        before = taken.setdefault(entry.key, name)
        if before == name:
            places[name] = (entry, adapter.changes[name])
        elif not _alike(adapter.changes[before].how, adapter.changes[name].how):
            raise MismatchError(
                f"{adapter.source.path}: {before} and {name} should be equal and differ"
            )
    return places


def _prefixes(names: list[str]) -> list[str]:
    """What a model around SAM 2 may have put before its names: what all begin with, or a part."""
    split = [name.split(".")[:-1] for name in names]
    common = []
    for segments in zip(*split, strict=False):
        if len(set(segments)) > 1:
            break
        common.append(f"{segments[0]}.")
    return ["".join(common[:count]) for count in range(len(common) + 1)]


def _table(keymap: KeyMap) -> dict[str, KeyMapEntry]:
    """The places of a dialect by all the names that they have."""
    own = {entry.key: entry for entry in keymap.entries}
    others = {**keymap.aliases, **keymap.tied}
    return {**{name: own[of] for name, of in others.items()}, **own}


def _alike(one: Factors | TensorRef, other: Factors | TensorRef) -> bool:
    """Whether two tensors are the same; changes by factors are not."""
    both = isinstance(one, TensorRef) and isinstance(other, TensorRef)
    return both and same_bytes(one, other)  # type: ignore[arg-type]


def _check_shapes(adapter: Adapter, name: str, spec: TensorSpec, how: Factors | TensorRef) -> None:
    if isinstance(how, TensorRef):
        fits, found = how.spec.shape == spec.shape, str(how.spec)
    else:
        left, right, length = how.left.spec, how.right.spec, how.magnitude
        fits = (left.shape[0], *right.shape[1:]) == spec.shape
        fits = fits and (length is None or length.spec.numel == spec.shape[0])
        found = f"the product of {left} and {right}" + (f", {length.spec}" if length else "")
    if not fits:
        raise MismatchError(
            f"{adapter.source.path}: {name} is {list(spec.shape)} in the base, and in the adapter "
            f"{found}",
            hint="give the model that the adapter was made for as `base`; the change of a grouped "
            "convolution is not merged, here as in PEFT",
        )


def _rows(how: Factors | TensorRef, start: int, count: int) -> Factors | TensorRef:
    """The change of some rows of a tensor that stands for several."""
    if isinstance(how, TensorRef):
        return how.rows(start, count)
    assert how.magnitude is None  # of embeddings, which alone are gathered, none is read
    return Factors(how.left.rows(start, count), how.right, how.scale)


def _merged(ref: TensorRef, how: Factors | TensorRef) -> Part:
    """A tensor of the base, changed; its type stays."""
    if isinstance(how, Factors):
        return Merged(ref.spec, ref, how)
    return how if how.spec.dtype == ref.spec.dtype else Merged(ref.spec, how)
