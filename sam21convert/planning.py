"""Decide a conversion from headers: which tensor of the output is made of which in the input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .adapters import Adapter, find_adapter
from .catalog import Shipped, shipped_config
from .checkpoint import Checkpoint, open_checkpoint
from .containers import Blob, Source
from .containers.atomic import refuse_existing
from .destination import FOLDERS, named, pick_target, refuse_input, refuse_occupied
from .dialects import OFFICIAL
from .errors import UsageError
from .filling import complete, sized
from .generations import Outcome, check_request, stated, take_to
from .keymap import KeyMap
from .mapping import foreign_origins, from_truth, to_truth, usual_type
from .merging import merge
from .model.config import ConfigError, Generation, ModelConfig
from .references import locate
from .rules import Container, Dialect
from .tensors import Part, Tensor

DType = Literal["float32", "float16", "bfloat16"]
DTYPES: Mapping[DType, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Plan:
    """A conversion, decided and not begun."""

    source: Checkpoint
    base: Checkpoint | None
    adapter: Adapter | None  # what is merged into ``source``
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
    def yaml(self) -> Path | None:
        """The YAML to write beside an official file whose settings are of no published model."""
        if self.dialect is not OFFICIAL or self.config is None:
            return None
        shipped = self.shipped if self.shipped and self.shipped.size != "debug" else None
        if shipped is not None and self.config == shipped_config(shipped.name):
            return None
        return self.destination.with_suffix(".yaml")

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything that is read, what was asked to be converted first."""
        adapter = () if self.adapter is None else (self.adapter.source,)
        base = () if self.base is None else (self.base.source,)
        return (*adapter, self.source.source, *base)

    @property
    def nbytes(self) -> int:
        """Bytes of tensor data to write."""
        return sum(tensor.spec.nbytes for tensor in self.tensors.values())

    @property
    def blobs(self) -> list[Blob]:
        """The checksums recorded in what is read."""
        return [blob for source in self.sources for blob in source.blobs]


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
    if image_size is not None and container not in FOLDERS and dialect is not OFFICIAL:
        raise UsageError(
            f"{destination}: nothing in or beside it would record an image size",
            hint="give --image-size with a folder, or with an official file, which gets a YAML",
        )
    asked = check_request(generation, allow_lossy=allow_lossy)
    adapter = None if base is None else find_adapter(locate(source))
    if adapter is not None and base is not None:
        source, base = base, None
    filler = None if base is None else open_checkpoint(base)
    checkpoint = stated(sized(open_checkpoint(source, config), filler), asked)
    kind = None if dtype is None else DTYPES[dtype]
    destination = named(
        destination, dialect, checkpoint.shipped, kind or usual_type(checkpoint.tensors)
    )
    refuse_input(destination, container, checkpoint.source)
    refuse_occupied(destination, container, overwrite=overwrite)
    truth, origins = to_truth(checkpoint, partial=filler is not None)
    whole = complete(checkpoint, filler, dialect, truth, origins)
    refuse_input(destination, container, whole.source)
    parts: Mapping[str, Part] = truth
    if adapter is not None:
        refuse_input(destination, container, adapter.source)
        parts, origins = merge(adapter, checkpoint, truth, origins)
    outcome = take_to(asked, whole, parts, dialect, container, allow_lossy=allow_lossy)
    target = outcome.keymap(dialect)
    plan = Plan(
        source=checkpoint,
        base=None if whole is checkpoint else whole,
        adapter=adapter,
        destination=destination,
        container=container,
        dialect=dialect,
        config=_config(checkpoint, whole, container, asked, image_size),
        outcome=outcome,
        tensors=from_truth(target, {**parts, **outcome.added}, kind),
        origins=foreign_origins(target, {**origins, **dict.fromkeys(outcome.added, ())}),
        notes=(
            *(() if adapter is None else (f"merged into {checkpoint.source.path}: {adapter}",)),
            *outcome.notes(),
            *_notes(checkpoint),
            *_notes_on(target, len(truth), checkpoint.config, container, image_size),
        ),
    )
    if plan.yaml is not None:
        refuse_existing(plan.yaml, overwrite=overwrite)
    return plan


def _config(
    checkpoint: Checkpoint,
    whole: Checkpoint,
    container: Container,
    generation: Generation | None,
    size: int | None,
) -> ModelConfig | None:
    """The config to write; for a file, only if the source states one or a size is asked for."""
    config = checkpoint.config
    if container in FOLDERS or size is not None:
        config = checkpoint.model_config
    complete = whole.model_config
    if whole is not checkpoint and config is not None and complete is not None:
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
