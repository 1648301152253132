"""Carry tensors from the names of one dialect to the canonical names, and on to another dialect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..dialects.keymap import KeyMap, covers
from ..dialects.rules import Dialect
from ..errors import MismatchError
from ..io.tensor import FLOAT8_DTYPES, Constant, Part, Tensor, TensorRef, TensorSpec
from .identify import IdentifiedCheckpoint
from .mismatch import mismatch
from .open import Checkpoint, unequal_copies

PartT = TypeVar("PartT", bound=Part, covariant=True)
OtherT = TypeVar("OtherT", bound=Part)


@dataclass(frozen=True)
class CanonicalTensors(Generic[PartT]):
    """The tensors of a model under their canonical names. It is never changed in place.

    Attributes:
        parts: canonical name -> where the tensor lies, or how it is computed.
        origins: canonical name -> the names in the source that the tensor is made of; none for one
            that was added.
    """

    parts: Mapping[str, PartT]
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @staticmethod
    def from_checkpoint(
        checkpoint: IdentifiedCheckpoint,
        *,
        partial: bool = False,
        target: Dialect | None = None,
        cast: bool = False,
    ) -> CanonicalTensors[TensorRef]:
        """Take the tensors of a checkpoint that fits its model. Reads no data.

        Args:
            checkpoint: the checkpoint.
            partial: whether tensors may be missing.
            target: a dialect; tensors that it has no place for may be missing in any case.
            cast: whether tensors may have 8 bits, as they are cast before they are written.

        Returns:
            The tensors, in the order of the key map.

        Raises:
            MismatchError: when the checkpoint does not fit.
        """
        fit = checkpoint.fit
        wanted = {
            entry.key
            for entry in checkpoint.keymap.entries
            if target is None or any(covers(target, name) for name in entry.canonical)
        }
        tolerated = [name for name in fit.missing if partial or name not in wanted]
        tolerated += [name for name, spec in fit.wrong_type if cast and spec.dtype in FLOAT8_DTYPES]
        if fit.faults > len(tolerated):
            raise mismatch(checkpoint)
        return CanonicalTensors.held_by(checkpoint)

    @staticmethod
    def held_by(checkpoint: IdentifiedCheckpoint) -> CanonicalTensors[TensorRef]:
        """Take the tensors of a checkpoint that need not fit its model. Reads no data.

        Args:
            checkpoint: the checkpoint.

        Returns:
            The tensors that have a place in the model, in the order of the key map. Those that
            would have to be split or turned around and have another shape are left out.
        """
        keymap, names, refs = checkpoint.keymap, dict(checkpoint.fit.names), checkpoint.tensors
        for tied, of in keymap.tied.items():
            if of not in names and tied in names:
                names[of] = names[tied]
        parts: dict[str, TensorRef] = {}
        origins: dict[str, tuple[str, ...]] = {}
        for entry in keymap.entries:
            if entry.key not in names:
                continue
            ref, start = refs[names[entry.key]], 0
            if (len(entry.canonical) > 1 or entry.axes) and ref.spec.shape != entry.spec.shape:
                continue
            if entry.axes:
                ref = ref.permuted(tuple(map(entry.axes.index, range(len(entry.axes)))))
            for name in entry.canonical:
                count = keymap.canonical[name].shape[0]
                parts[name] = ref.rows(start, count) if len(entry.canonical) > 1 else ref
                origins[name] = (names[entry.key],)
                start += count
        return CanonicalTensors(parts, origins)

    def updated(
        self, parts: Mapping[str, OtherT], origins: Mapping[str, tuple[str, ...]]
    ) -> CanonicalTensors[PartT | OtherT]:
        """Replace or add tensors.

        Args:
            parts: canonical name -> the new tensor.
            origins: canonical name -> the names in the source that the new tensor is made of.

        Returns:
            New canonical tensors. The order stays, and what is new comes last.
        """
        return CanonicalTensors({**self.parts, **parts}, {**self.origins, **origins})

    def named_for(self, target: KeyMap, dtype: str | None) -> dict[str, Tensor]:
        """Give the tensors the names of a dialect.

        Args:
            target: the key map of the dialect. All tensors that it has a place for must be there.
            dtype: the type to cast to, a key of ``DTYPES``; None keeps that of each tensor.

        Returns:
            Target name to the tensor to write, with the tied copies and constants of the dialect.

        Raises:
            MismatchError: when parts that the dialect concatenates are of different types.
        """
        tensors = {}
        for entry in target.entries:
            parts: tuple[Part, ...] = tuple(self.parts[name] for name in entry.canonical)
            found = {part.spec.dtype for part in parts}
            if dtype is None and len(found) > 1:
                raise MismatchError(
                    f"{entry.key}: its parts {', '.join(entry.canonical)} are of different types",
                    hint="`dtype=float32` brings them to one type",
                )
            kind = dtype or parts[0].spec.dtype
            if entry.axes:
                parts = tuple(_turned(part, entry.axes) for part in parts)
            tensors[entry.key] = Tensor(TensorSpec(kind, entry.spec.shape), parts)
        usual = dtype or usual_type(self.parts)
        constants = {
            name: Tensor(TensorSpec(usual, constant.spec.shape), (constant,))
            for name, constant in target.constants.items()
        }
        return {**tensors, **{tied: tensors[of] for tied, of in target.tied.items()}, **constants}

    def origins_for(self, target: KeyMap) -> dict[str, tuple[str, ...]]:
        """List what the tensors of :meth:`named_for` are made of.

        Args:
            target: the key map of the dialect.

        Returns:
            Target name to names in the source, each once; none for a constant.
        """
        found = {
            entry.key: tuple(
                dict.fromkeys(own for name in entry.canonical for own in self.origins[name])
            )
            for entry in target.entries
        }
        constants: dict[str, tuple[str, ...]] = dict.fromkeys(target.constants, ())
        return {**found, **{tied: found[of] for tied, of in target.tied.items()}, **constants}


def refuse_unequal_copies(checkpoint: Checkpoint) -> None:
    """Check that tensors that the checkpoint holds twice are equal. Reads their data.

    Args:
        checkpoint: the checkpoint.

    Raises:
        MismatchError: when two copies differ.
    """
    for fault in unequal_copies(checkpoint):
        raise MismatchError(
            f"{checkpoint.source.path}: {fault}",
            hint="one of the two was trained or replaced: copy the right one over the other",
        )


def usual_type(tensors: Mapping[str, Part]) -> str:
    """Find the type of most tensors.

    Args:
        tensors: at least one tensor, by any names.

    Returns:
        A key of ``DTYPES``; of two that are equally common, the one that comes first.
    """
    return Counter(part.spec.dtype for part in tensors.values()).most_common(1)[0][0]


def _turned(part: Part, axes: tuple[int, ...]) -> Part:
    return part if isinstance(part, Constant) else part.permuted(axes)
