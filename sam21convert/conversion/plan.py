"""Decide a conversion: which tensor of the output is made of which in the input.

Headers decide it, and the values of a few small tensors, which are read in one step:
:func:`~.small_tensors.read_small_tensors`. All other data is read while the output is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from ..checkpoint.identify import IdentifiedCheckpoint, identify
from ..checkpoint.lora import Adapter, find_adapter
from ..checkpoint.open import Checkpoint, open_checkpoint
from ..checkpoint.remap import CanonicalTensors, usual_type
from ..checkpoint.safety.report import naming_harm
from ..config.registry import Shipped
from ..dialects import EITHER
from ..dialects.keymap import covers
from ..dialects.rules import Dialect
from ..errors import UsageError
from ..hub.resolve import locate
from ..io.folding import fold
from ..io.nearby import expanded
from ..io.open import Blob, Source
from ..io.output.atomic import refuse_existing
from ..io.output.unchanged import Fingerprints, fingerprints, fingerprints_at
from ..io.sharded import Shards, split
from ..io.source import CONFIG, FOLDERS, Container, refuse_input
from ..io.tensor import OF_TORCH, Part, Tensor
from ..model.config import Generation, ModelConfig
from .base import adopt_size_of, complete_from
from .generation import (
    GenerationChange,
    assume_generation,
    in_generation,
    plan_generation,
    refuse_loss,
)
from .notes import (
    notes_on_assumptions,
    notes_on_base,
    notes_on_image_model,
    notes_on_output,
    notes_on_source,
    notes_on_yaml,
)
from .options import ConvertOptions
from .output_config import told_by_tensors, written_config, yaml_beside
from .small_tensors import read_small_tensors
from .target import named, of_image_model, pick_target, refuse_occupied, refuse_shards


@dataclass(frozen=True)
class Plan:
    """A conversion that is decided and not begun.

    Attributes:
        source: the checkpoint to convert, or the base that an adapter is merged into.
        base: the base checkpoint that completes it, if tensors were missing.
        adapter: the adapter that is merged into ``source``.
        destination: the file or folder to write.
        container: the container to write.
        dialect: the dialect to write.
        config: the config to write. None for a file, unless the source states a config or an image
            size is asked for.
        yaml: the YAML to write beside a file, if its tensors do not tell the same.
        change: what changes with the generation.
        tensors: target name -> tensor to write.
        shards: name of a file in a folder -> the tensors that it holds.
        origins: target name -> the names in the source that the tensor is made of.
        notes: what the report says, a sentence each.
        read: the state of the files of all sources, as before the first was opened.
    """

    source: IdentifiedCheckpoint
    base: Checkpoint | None
    adapter: Adapter | None
    destination: Path
    container: Container
    dialect: Dialect
    config: ModelConfig | None
    yaml: Path | None
    change: GenerationChange
    tensors: Mapping[str, Tensor]
    shards: Shards
    origins: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    read: Fingerprints

    @property
    def generation(self) -> Generation | None:
        """The generation to write; None when neither source nor base nor request tells it."""
        return self.change.generation

    @property
    def shipped(self) -> Shipped | None:
        """The shipped config with these tensors, if the generation is known."""
        return self.change.shipped if self.generation is not None else None

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything that is read; what was asked to be converted comes first."""
        adapter = () if self.adapter is None else (self.adapter.source,)
        base = () if self.base is None else (self.base.source,)
        return (*adapter, self.source.source, *base)

    @property
    def nbytes(self) -> int:
        """The number of bytes of tensor data to write."""
        return sum(tensor.spec.nbytes for tensor in self.tensors.values())

    @property
    def blobs(self) -> list[Blob]:
        """The checksums that are recorded in what is read."""
        return [blob for source in self.sources for blob in source.blobs]


def make_plan(source: str | Path, destination: str | Path, options: ConvertOptions) -> Plan:
    """Plan a conversion.

    Args:
        source: the checkpoint to convert, as for :func:`~sam21convert.convert`.
        destination: the file or folder to write.
        options: the options of the conversion.

    Returns:
        The plan, to be carried out by :func:`~.write.carry_out`. Nothing is written yet.

    Raises:
        UsageError: when the request cannot be met, such as when ``destination`` exists.
        UnreadableError: when ``source`` or ``base`` is damaged.
        RefusedError: when ``source`` is not a SAM 2 checkpoint, or tensors are missing and there is
            no base.
        MismatchError: when the tensors do not fit the config, or something would be lost.
    """
    destination = expanded(Path(destination))
    container, dialect = pick_target(destination, options.to)
    options.check()
    if not Path(source).exists() and not dialect.file:
        # The source may have to be downloaded: fail before that, not after it.
        refuse_occupied(destination, container, overwrite=options.overwrite)
    inputs = _open(source, options)
    with naming_harm(*inputs.paths):
        return _planned(inputs, destination, options, container, dialect)


def _planned(
    inputs: _Inputs,
    destination: Path,
    options: ConvertOptions,
    container: Container,
    dialect: Dialect,
) -> Plan:
    """Plan the conversion of what is open."""
    checkpoint = inputs.checkpoint
    if options.to in (None, *EITHER) and inputs.base is None:
        dialect = of_image_model(dialect, checkpoint)
    dtype = None if options.dtype is None else OF_TORCH[options.dtype]
    destination = named(
        destination, dialect, checkpoint.shipped, dtype or usual_type(checkpoint.tensors)
    )
    refuse_input(destination, container, checkpoint.source)
    refuse_occupied(destination, container, overwrite=options.overwrite)
    made = _make(inputs, options, container, dialect)
    shards = split(made.tensors, options.shard_bytes)
    if options.shard_size is not None:
        refuse_shards(destination, container, len(shards))
    settings = written_config(
        made.source, made.complete, container, options.generation, options.image_size
    )
    yaml = None
    told = made.change.generation
    known = settings is None and told_by_tensors(destination, made.complete, dialect, told)
    if container not in FOLDERS and not known:
        model = settings or made.complete.model_config
        model = replace(model, generation=told or model.generation)
        yaml = yaml_beside(destination, model, dialect, told)
        settings = settings or (model if yaml else None)
    sized = options.image_size is not None
    assumed = notes_on_assumptions(made.source, made.complete, sized=sized) if settings else ()
    plan = Plan(
        source=made.source,
        base=None if made.complete is made.source else made.complete,
        adapter=inputs.adapter,
        destination=destination,
        container=container,
        dialect=dialect,
        config=settings,
        yaml=yaml,
        change=made.change,
        tensors=made.tensors,
        shards=shards,
        origins=made.origins,
        notes=(
            *made.notes,
            *assumed,
            *notes_on_yaml(dialect, settings),
            *notes_on_image_model(options.to, dialect),
        ),
        read=inputs.before,
    )
    _refuse_overwriting(plan, options)
    return _with_all_files(plan)


@dataclass(frozen=True)
class _Inputs:
    """What is read. ``before`` is the state of the given files before they were opened.

    ``adapter`` is merged into the checkpoint, or a LoRA that is ``inside`` it; without the tensors
    in it that are ``dropped``.
    """

    checkpoint: Checkpoint
    base: Checkpoint | None
    adapter: Adapter | None
    inside: Adapter | None
    dropped: Sequence[str]
    before: Fingerprints

    @property
    def paths(self) -> list[Path]:
        """The files and folders that are open."""
        opened = (self.checkpoint, self.base, self.adapter)
        return [one.source.path for one in opened if one is not None]


def _open(source: str | Path, options: ConvertOptions) -> _Inputs:
    given = [Path(path) for path in (source, options.base) if path is not None]
    before = {file: state for path in given for file, state in fingerprints_at(path).items()}
    base = options.base
    adapter = None if base is None else find_adapter(locate(source))
    dropped, of_adapter = _dropped(adapter, options.drop)
    if adapter is not None and base is not None:
        source, base = base, None
    opened_base = None if base is None else open_checkpoint(base)
    opened = open_checkpoint(
        source,
        options.config,
        drop_hq=options.drop_hq,
        drop=tuple(pattern for pattern in options.drop if pattern not in of_adapter),
        weights=options.weights,
        prefix=options.prefix,
        with_lora=adapter is None,
    )
    inside = None if opened.lora is None else opened.lora.adapter(options.lora_alpha)
    if inside is None and options.lora_alpha is not None:
        where = "in its settings" if adapter else "as there is no LoRA in it"
        raise UsageError(
            f"{given[0]}: `lora_alpha` is not needed, {where}",
            hint="leave it out",
        )
    opened = assume_generation(adopt_size_of(opened, opened_base), options.generation)
    return _Inputs(opened, opened_base, adapter, inside, dropped, before)


def _dropped(adapter: Adapter | None, patterns: Sequence[str]) -> tuple[list[str], set[str]]:
    """Names in an adapter that are to be left out, and the patterns that name any."""
    names = list(adapter.changes) if adapter else []
    hits = {pattern: [n for n in names if fnmatchcase(n, pattern)] for pattern in patterns}
    used = {pattern for pattern, found in hits.items() if found}
    return [name for name in names if any(name in hits[one] for one in used)], used


@dataclass(frozen=True)
class _Made:
    """The tensors of the output. ``complete`` is the base that completes ``source``, or that."""

    source: IdentifiedCheckpoint
    complete: IdentifiedCheckpoint
    change: GenerationChange
    tensors: Mapping[str, Tensor]
    origins: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def _make(
    inputs: _Inputs, options: ConvertOptions, container: Container, dialect: Dialect
) -> _Made:
    """Choose the tensors, complete and merge them, and bring them to generation and dialect."""
    source, base, adapter = identify(inputs.checkpoint), inputs.base, inputs.adapter
    read = CanonicalTensors.from_checkpoint(
        source, partial=base is not None, target=dialect, cast=options.dtype is not None
    )
    completed = complete_from(base, read, source, dialect)
    model = completed.model
    lora = adapter or inputs.inside
    merged = None
    if lora is not None:
        from .lora import merge

        merged = merge(completed.tensors, lora, source, inputs.dropped)
    tensors: CanonicalTensors[Part] = completed.tensors if merged is None else merged.tensors
    change = plan_generation(options.generation, model, tensors, dialect)
    small = read_small_tensors(source, model, tensors, change.removed, merged)
    change = replace(change, dropped=small.largest)
    if not options.allow_lossy:
        refuse_loss(change, model.source.path)
    target = change.keymap(dialect)
    output = in_generation(tensors, change)
    dtype = None if options.dtype is None else OF_TORCH[options.dtype]
    return _Made(
        source,
        model,
        change,
        output.named_for(target, dtype),
        output.origins_for(target),
        (
            *_notes_on_lora(source, adapter, options.lora_alpha),
            *(merged.notes if merged else ()),
            *_notes_on_dropped(inputs.dropped),
            *change.notes(),
            *notes_on_source(source, small.trained),
            *notes_on_base(model, [name for name in completed.added if covers(dialect, name)]),
            *notes_on_output(target, len(tensors.parts), change.shipped),
        ),
    )


def _notes_on_lora(
    source: IdentifiedCheckpoint, adapter: Adapter | None, alpha: float | None
) -> Iterator[str]:
    if adapter is not None:
        yield from adapter.source.notes
        yield f"merged into {source.source.path}: {adapter}"
    if source.lora is not None:
        yield source.lora.note(alpha)


def _notes_on_dropped(names: Sequence[str]) -> Iterator[str]:
    if names:
        yield f"left out of the adapter, not part of the model: {', '.join(fold(names))}"


def _with_all_files(plan: Plan) -> Plan:
    """The plan, also with the state of files that were found when the sources were opened."""
    files = [file for read in plan.sources for file in (*read.files, read.path / CONFIG)]
    files += [one.config_file for one in (plan.source, plan.base) if one and one.config_file]
    known = {file: plan.read[file] for file in files if file in plan.read}
    return replace(plan, read={**fingerprints(files), **known})


def _refuse_overwriting(plan: Plan, options: ConvertOptions) -> None:
    """Raise :class:`UsageError` if the plan replaces an input, or a YAML without permission."""
    for read in plan.sources:
        refuse_input(plan.destination, plan.container, read, plan.shards)
    config, settings = options.config, plan.yaml or plan.destination / CONFIG
    for own in [one.config_file for one in (plan.source, plan.base) if one and one.config_file]:
        if settings.exists() and settings.samefile(own):
            raise UsageError(f"{settings}: is the config of the input, which is never changed")
    if isinstance(config, (str, Path)) and settings.exists() and Path(config).exists():
        given = Path(config) / CONFIG if Path(config).is_dir() else Path(config)
        if given.exists() and settings.samefile(given):
            raise UsageError(f"{settings}: is the given config, which is never changed")
    if plan.yaml is not None:
        refuse_existing(plan.yaml, overwrite=options.overwrite)
