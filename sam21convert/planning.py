"""Decide a conversion from headers: which tensor of the output is made of which in the input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .catalog import Shipped
from .checkpoint import Checkpoint, open_checkpoint
from .containers import Blob
from .containers.sharding import Shards, parse_size, split
from .destination import (
    FOLDERS,
    named,
    pick_target,
    refuse_input,
    refuse_occupied,
    refuse_shards,
)
from .errors import UsageError
from .filling import complete, sized
from .generations import Outcome, check_request, stated, take_to
from .keymap import KeyMap, covers
from .mapping import foreign_origins, from_truth, to_truth, usual_type
from .model.config import ConfigError, Generation, ModelConfig
from .rules import Container, Dialect
from .tensors import Tensor

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
    shards: Shards  # the same by files, where it is a folder
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
    weights: str | None = None,
    prefix: str | None = None,
    generation: str | None = None,
    allow_lossy: bool = False,
    image_size: int | None = None,
    dtype: DType | None = None,
    shard_size: str | int | None = None,
    overwrite: bool = False,
) -> Plan:
    """Plan what :func:`~sam21convert.convert` does; the arguments and errors are its own."""
    destination = Path(destination)
    container, dialect = pick_target(destination, to)
    if image_size is not None and container not in FOLDERS:
        raise UsageError(
            f"{destination}: a file records no image size", hint="give --image-size with a folder"
        )
    asked = check_request(generation, allow_lossy=allow_lossy)
    filler = None if base is None else open_checkpoint(base)
    opened = open_checkpoint(source, config, weights=weights, prefix=prefix)
    checkpoint = stated(sized(opened, filler), asked)
    kind = None if dtype is None else DTYPES[dtype]
    destination = named(
        destination, dialect, checkpoint.shipped, kind or usual_type(checkpoint.tensors)
    )
    refuse_input(destination, container, checkpoint)
    refuse_occupied(destination, container, overwrite=overwrite)
    truth, origins = to_truth(checkpoint, partial=filler is not None)
    own = set(truth)
    whole = complete(checkpoint, filler, dialect, truth, origins)
    outcome = take_to(asked, whole, truth, dialect, container, allow_lossy=allow_lossy)
    target = outcome.keymap(dialect)
    tensors = from_truth(target, {**truth, **outcome.added}, kind)
    shards = split(tensors, None if shard_size is None else parse_size(str(shard_size)))
    if shard_size is not None:
        refuse_shards(destination, container, len(shards))
    for read in (checkpoint, whole):
        refuse_input(destination, container, read, shards)
    return Plan(
        source=checkpoint,
        base=None if whole is checkpoint else whole,
        destination=destination,
        container=container,
        dialect=dialect,
        config=_config(checkpoint, whole, container, asked, image_size),
        outcome=outcome,
        tensors=tensors,
        shards=shards,
        origins=foreign_origins(target, {**origins, **dict.fromkeys(outcome.added, ())}),
        notes=(
            *outcome.notes(),
            *_notes(checkpoint),
            *_notes_on_base(whole, [n for n in truth if n not in own and covers(dialect, n)]),
            *_notes_on(target, len(truth), checkpoint.config, container, image_size),
        ),
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
    if container in FOLDERS:
        config, complete = checkpoint.model_config, whole.model_config
        assert config is not None
        assert complete is not None
        if whole is not checkpoint:
            config = _with_memory(checkpoint.config, complete)
    if config is None:
        return None
    config = replace(config, generation=generation or config.generation)
    try:
        return config if size is None else replace(config, image_size=size)
    except ConfigError as error:
        raise UsageError(f"--image-size: {error.problem}") from error


def _with_memory(config: ModelConfig | None, base: ModelConfig) -> ModelConfig:
    """The config of a part, if it states one, with all that it does not concern from the base."""
    if config is None:
        return base
    return replace(
        base,
        image_size=config.image_size,
        trunk=config.trunk,
        fpn_top_down_levels=config.fpn_top_down_levels,
        dynamic_multimask_via_stability=config.dynamic_multimask_via_stability,
        dynamic_multimask_stability_delta=config.dynamic_multimask_stability_delta,
        dynamic_multimask_stability_thresh=config.dynamic_multimask_stability_thresh,
    )


def _notes(checkpoint: Checkpoint) -> Iterator[str]:
    """What a report says of the source."""
    fit, keymap = checkpoint.fit, checkpoint.keymap
    for name in fit.lone if fit else ():
        yield f"{name} was absent from the source; it is a copy of one that was there"
    if fills := [name for name in (keymap.fills if keymap else ()) if fit and name in fit.names]:
        yield f"left out, as SAM 2 has no such layer: {', '.join(fills)}"
    if checkpoint.extras:
        yield f"left out, not part of the model: {', '.join(checkpoint.extras[:8])}" + (
            " ..." if len(checkpoint.extras) > 8 else ""
        )


def _notes_on_base(base: Checkpoint, names: Sequence[str]) -> Iterator[str]:
    """What a report says of the tensors that were taken from another checkpoint."""
    if names:
        groups = Counter(name.partition(".")[0] for name in names)
        listed = ", ".join(f"{group} ({count})" for group, count in groups.items())
        yield f"{len(names)} tensors are those of {base.source.path}: {listed}"


def _notes_on(
    target: KeyMap,
    count: int,
    stated: ModelConfig | None,
    container: Container,
    image_size: int | None,
) -> Iterator[str]:
    """What a report says of the output, for which there were ``count`` tensors."""
    left_out = count - sum(len(entry.truths) for entry in target.entries)
    if target.dropped and left_out:
        kind = "of the memory" if target.dialect.task == "image" else "beside the trunk"
        yield f"{left_out} tensors {kind} are left out: {target.dialect.name} has none"
    if target.fills:
        yield f"added, as {target.dialect.name} asks for it: {', '.join(target.fills)}"
    if target.dialect.note:
        yield target.dialect.note
    if container in FOLDERS and image_size is None and stated is None:
        yield (
            "image size and windows are those of the published model: no tensor tells them; "
            "give --image-size or --config if the model was trained with others"
        )
