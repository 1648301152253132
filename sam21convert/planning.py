"""Decide a conversion from headers: which tensor of the output is made of which in the input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .catalog import Shipped
from .checkpoint import Checkpoint, open_checkpoint, unequal_copies
from .containers import Blob
from .destination import Container, pick_target, refuse_input, refuse_occupied
from .dialects import HF_IMAGE
from .errors import MismatchError, RefusedError, UsageError
from .fitting import mismatch
from .generations import Outcome, check_request, stated, take_to
from .keymap import KeyMap
from .model.config import ConfigError, Generation, ModelConfig
from .rules import Dialect
from .tensors import Part, Tensor, TensorRef, TensorSpec

DType = Literal["float32", "float16", "bfloat16"]
DTYPES: Mapping[DType, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Plan:
    """A conversion, decided and not begun."""

    source: Checkpoint
    base: Checkpoint | None
    destination: Path
    container: Container
    dialect: Dialect
    config: ModelConfig | None  # None for a file, which records none, unless the source states one
    outcome: Outcome
    tensors: Mapping[str, Tensor]
    origins: Mapping[str, tuple[str, ...]]  # the names in the source that a tensor is made of
    notes: tuple[str, ...]

    @property
    def generation(self) -> str | None:
        """None where neither source nor base nor request tells."""
        return self.outcome.generation

    @property
    def shipped(self) -> Shipped | None:
        """The shipped config with these tensors, where the generation is known."""
        return self.outcome.shipped if self.generation is not None else None

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Everything that is read."""
        return (self.source,) if self.base is None else (self.source, self.base)

    @property
    def nbytes(self) -> int:
        """Bytes of tensor data to write."""
        return sum(tensor.spec.nbytes for tensor in self.tensors.values())

    @property
    def blobs(self) -> list[Blob]:
        """The checksums recorded in what is read."""
        return [blob for checkpoint in self.checkpoints for blob in checkpoint.source.blobs]


def make_plan(
    source: str | Path,
    destination: str | Path,
    *,
    to: str | None = None,
    config: str | Path | ModelConfig | None = None,
    base: str | Path | None = None,
    generation: str | None = None,
    allow_lossy: bool = False,
    image_size: int | None = None,
    dtype: DType | None = None,
    overwrite: bool = False,
) -> Plan:
    """Plan what :func:`~sam21convert.convert` does; the arguments and errors are its own."""
    destination = Path(destination)
    container, dialect = pick_target(destination, to)
    if image_size is not None and container != "transformers folder":
        raise UsageError(
            f"{destination}: a file records no image size", hint="give --image-size with a folder"
        )
    asked = check_request(generation, allow_lossy=allow_lossy)
    checkpoint = stated(open_checkpoint(source, config), asked)
    refuse_input(destination, container, checkpoint)
    refuse_occupied(destination, container, overwrite=overwrite)
    truth, origins = to_truth(checkpoint)
    assert checkpoint.keymap is not None
    filler = None
    if checkpoint.keymap.dropped and dialect is not HF_IMAGE:
        filler = _open_base(checkpoint, checkpoint.keymap, base)
        refuse_input(destination, container, filler)
        _fill(checkpoint, filler, checkpoint.keymap, truth, origins)
    whole = checkpoint if filler is None else filler
    outcome = take_to(asked, whole, truth, dialect, container, allow_lossy=allow_lossy)
    target = outcome.keymap(dialect)
    return Plan(
        source=checkpoint,
        base=filler,
        destination=destination,
        container=container,
        dialect=dialect,
        config=_config(checkpoint, whole, container, asked, image_size),
        outcome=outcome,
        tensors=_from_truth(target, {**truth, **outcome.added}, dtype),
        origins=_origins(target, {**origins, **dict.fromkeys(outcome.added, ())}),
        notes=(*outcome.notes(), *_notes(checkpoint, target, len(truth), container, image_size)),
    )


def _config(
    checkpoint: Checkpoint,
    whole: Checkpoint,
    container: Container,
    generation: Generation | None,
    size: int | None,
) -> ModelConfig | None:
    """The config to write; for a file, only what the source itself states."""
    config = checkpoint.config
    if container == "transformers folder":
        config, complete = checkpoint.model_config, whole.model_config
        assert config is not None
        assert complete is not None
        config = config if whole is checkpoint else _with_memory(config, complete)
    if config is None:
        return None
    config = replace(config, generation=generation or config.generation)
    try:
        return config if size is None else replace(config, image_size=size)
    except ConfigError as error:
        raise UsageError(f"--image-size: {error.problem}") from error


def to_truth(checkpoint: Checkpoint) -> tuple[dict[str, TensorRef], dict[str, tuple[str, ...]]]:
    """The source's tensors and their names, under the names of the ground truth."""
    if checkpoint.fit is None or checkpoint.fit.faults:
        raise mismatch(checkpoint)
    return held_truth(checkpoint)


def held_truth(checkpoint: Checkpoint) -> tuple[dict[str, TensorRef], dict[str, tuple[str, ...]]]:
    """The same of a checkpoint that has a map and need not fit it: what has no place is left out.

    Raises :class:`MismatchError` where a tensor is held twice and the copies differ.
    """
    keymap, fit = checkpoint.keymap, checkpoint.fit
    assert keymap is not None
    assert fit is not None
    names, refs = dict(fit.names), checkpoint.tensors
    for fault in unequal_copies(checkpoint):
        raise MismatchError(
            f"{checkpoint.source.path}: {fault}",
            hint="one of the two was trained or replaced: copy the right one over the other",
        )
    for echo, of in keymap.echoes.items():
        if of not in names and echo in names:
            names[of] = names[echo]
    truth: dict[str, TensorRef] = {}
    origins: dict[str, tuple[str, ...]] = {}
    for entry in keymap.entries:
        if entry.foreign not in names:
            continue
        ref, start = refs[names[entry.foreign]], 0
        if len(entry.truths) > 1 and ref.spec.shape != entry.spec.shape:
            continue
        for name in entry.truths:
            count = keymap.truth[name].shape[0]
            truth[name] = ref.rows(start, count) if len(entry.truths) > 1 else ref
            origins[name] = (names[entry.foreign],)
            start += count
    return truth, origins


def _open_base(checkpoint: Checkpoint, keymap: KeyMap, base: str | Path | None) -> Checkpoint:
    path = checkpoint.source.path
    if base is None:
        count = str(len(keymap.dropped))
        if checkpoint.generation is None:
            count = f"{count} (SAM 2.1) or {len(keymap.dropped) - 3} (SAM 2)"
        raise RefusedError(
            f"{path}: {keymap.dialect.name} holds an image model: {count} tensors of the memory "
            "are missing",
            hint="--base CHECKPOINT takes them from a checkpoint of the same size",
        )
    filler = open_checkpoint(base)
    if filler.keymap is None or filler.fit is None or filler.fit.faults:
        raise mismatch(filler)
    if filler.keymap.dropped:
        raise RefusedError(f"{base}: is an image model as well, without the memory tensors")
    if checkpoint.generation not in (None, filler.generation):
        raise MismatchError(
            f"{base}: is of SAM {filler.generation}, {path} of SAM {checkpoint.generation}",
            hint="give a base of the same generation",
        )
    return filler


def _with_memory(config: ModelConfig, base: ModelConfig) -> ModelConfig:
    """An image model's config with all that concerns the memory from the base."""
    return replace(
        base,
        image_size=config.image_size,
        trunk=config.trunk,
        fpn_top_down_levels=config.fpn_top_down_levels,
        dynamic_multimask_via_stability=config.dynamic_multimask_via_stability,
        dynamic_multimask_stability_delta=config.dynamic_multimask_stability_delta,
        dynamic_multimask_stability_thresh=config.dynamic_multimask_stability_thresh,
    )


def _fill(
    checkpoint: Checkpoint,
    filler: Checkpoint,
    keymap: KeyMap,
    truth: dict[str, TensorRef],
    origins: dict[str, tuple[str, ...]],
) -> None:
    """Add what the source has no place for, from the base."""
    assert filler.keymap is not None
    inventory = filler.keymap.truth
    dropped = [name for name in inventory if name not in truth]
    shared = {name: keymap.truth[name] for name in truth}
    if shared != {name: spec for name, spec in inventory.items() if name in truth}:
        raise MismatchError(
            f"{filler.source.path}: is a SAM 2 of another size than {checkpoint.source.path}",
            hint="give a base of the same size",
        )
    theirs, names = to_truth(filler)
    for name in dropped:
        truth[name] = theirs[name]
        origins[name] = tuple(f"{filler.source.path}: {origin}" for origin in names[name])


def _from_truth(
    target: KeyMap, truth: Mapping[str, Part], dtype: DType | None
) -> dict[str, Tensor]:
    """The tensors to write, under the names of the target dialect."""
    tensors = {}
    for entry in target.entries:
        parts = tuple(truth[name] for name in entry.truths)
        found = {part.spec.dtype for part in parts}
        if dtype is None and len(found) > 1:
            raise MismatchError(
                f"{entry.foreign}: its parts {', '.join(entry.truths)} are of different types",
                hint="--dtype float32 brings them to one type",
            )
        kind = DTYPES[dtype] if dtype is not None else parts[0].spec.dtype
        tensors[entry.foreign] = Tensor(TensorSpec(kind, entry.spec.shape), parts)
    return {**tensors, **{echo: tensors[of] for echo, of in target.echoes.items()}}


def _origins(target: KeyMap, origins: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    found = {
        entry.foreign: tuple(dict.fromkeys(o for name in entry.truths for o in origins[name]))
        for entry in target.entries
    }
    return {**found, **{echo: found[of] for echo, of in target.echoes.items()}}


def _notes(
    checkpoint: Checkpoint, target: KeyMap, count: int, container: Container, image_size: int | None
) -> Iterable[str]:
    if checkpoint.fit is not None:
        for name in checkpoint.fit.lone:
            yield f"{name} was absent from the source; it is a copy of one that was there"
    left_out = count - sum(len(entry.truths) for entry in target.entries)
    if target.dropped and left_out:
        yield f"{left_out} tensors of the memory are left out: an image model has none"
    if checkpoint.extras:
        yield f"left out, not part of the model: {', '.join(checkpoint.extras[:8])}" + (
            " ..." if len(checkpoint.extras) > 8 else ""
        )
    if container == "transformers folder" and image_size is None and checkpoint.config is None:
        yield (
            "image size and windows are those of the published model: no tensor tells them; "
            "give --image-size or --config if the model was trained with others"
        )
