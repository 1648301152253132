"""Open a checkpoint and say what it is.

What the tensors cannot tell stays unknown here, unless a config tells it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path, PurePath
from typing import Any

from ..config import registry, transformers
from ..config.beside import (
    YAML,
    Beside,
    beside,
    configs_of_others,
    read_sam2_json,
    refuse_contradiction,
)
from ..config.load import load_config
from ..config.plain_yaml import naming, tells_generation, unread_settings
from ..config.registry import Shipped
from ..config.timm import generation_of, notes_on_size, of_timm, trunk_of
from ..config.transformers_folder import other_preprocessing
from ..dialects import HF_IMAGE, HF_VIDEO, TIMM
from ..dialects.keymap import Fit, KeyMap, compile_keymap
from ..dialects.rules import Dialect
from ..errors import (
    RefusedError,
    Sam21ConvertError,
    UnreachableError,
    UnreadableError,
    UsageError,
)
from ..hub.remote import HubPath
from ..hub.resolve import Located, resolve
from ..io.data.checksums import same_bytes
from ..io.folder import list_folder
from ..io.open import Source, open_source
from ..io.source import CONFIG, Placeholder
from ..io.tensor import Inventory, TensorRef
from ..io.text import read_json
from ..io.torch_storage import TENSOR_KINDS
from ..model.config import Generation, ModelConfig
from ..report import one_line
from .detect import dialect_of, size_of
from .drop import dropped_by
from .lookalikes import HQ_SAM2, HQ_TENSORS, lookalike_in, of_lookalike
from .lora import refuse_adapter
from .lora_inside import LoraInside, take_out, with_plain_names
from .quantised import refuse_quantised
from .safety.report import Safety, assess, with_harm
from .state_dict import unwrap


@cache
def shipped_keymap(dialect: Dialect, shipped: Shipped) -> KeyMap:
    """Compile the key map of a dialect for a shipped config. Each is compiled once.

    Args:
        dialect: the dialect.
        shipped: the shipped config.

    Returns:
        The key map.
    """
    return compile_keymap(dialect, registry.shipped_tensors(shipped.name))


@dataclass(frozen=True)
class Checkpoint:
    """A state dict in a file, its names without what wrappers put before and into them.

    Attributes:
        source: the opened file.
        tensors: name -> tensor, in the order of the file.
        wrappers: keys and prefixes that were removed, from the outside in.
        extras: names of what else is in the file.
        dialect: the dialect of the names; None when no dialect has such names.
        shipped: the shipped config with the same tensors, by size and, if known, generation.
        generation: the generation; None when nothing tells it.
        config: what the caller or a config file states; None when only the tensors tell.
        config_from: where ``config`` was found, in words.
        config_file: the file beside a named file that ``config`` was read from, if it was.
        dropped: names of tensors that are left out because the caller asked for it.
        lora: a LoRA that is still inside the state dict; ``tensors`` are the weights without it.
        parts: the parts of a model that it holds, in words; none for a whole model.
        extra_tensors: those of ``extras`` that are tensors, or hold some by name.
    """

    source: Source
    tensors: Mapping[str, TensorRef]
    wrappers: tuple[str, ...]
    extras: tuple[str, ...]
    dialect: Dialect | None
    shipped: Shipped | None
    generation: Generation | None
    config: ModelConfig | None = None
    config_from: str | None = None
    config_file: Path | None = None
    dropped: tuple[str, ...] = ()
    lora: LoraInside | None = None
    parts: tuple[str, ...] = ()
    extra_tensors: tuple[str, ...] = ()

    @property
    def inventory(self) -> Inventory:
        """Type and shape of each tensor."""
        return {name: ref.spec for name, ref in self.tensors.items()}

    @property
    def model_config(self) -> ModelConfig | None:
        """The config given or found, else that of the shipped model with these tensors."""
        if self.config is not None or self.shipped is None:
            return self.config
        return registry.shipped_config(self.shipped.name)

    @cached_property
    def safety(self) -> Safety:
        """What loading the source with torch or pickle would import and call."""
        return Safety() if self.source.container == "memory" else assess(self.source.path)

    @cached_property
    def keymap(self) -> KeyMap | None:
        """The map from its dialect to the canonical names, when dialect and model are known."""
        if self.dialect is None:
            return None
        if self.shipped is not None:
            return shipped_keymap(self.dialect, self.shipped)
        if self.config is not None:
            return compile_keymap(self.dialect, registry.tensors_of(self.config))
        return None

    @cached_property
    def fit(self) -> Fit | None:
        """How the tensors compare with what the map asks for."""
        return self.keymap.fit(self.inventory) if self.keymap else None


def open_checkpoint(
    path: str | Path | Located,
    config: str | Path | ModelConfig | None = None,
    *,
    header_only: bool = False,
    drop_hq: bool = False,
    drop: Sequence[str] = (),
    weights: str | None = None,
    prefix: str | None = None,
    with_lora: bool = False,
) -> Checkpoint:
    """Open a checkpoint, reading headers only, and say what is in it.

    A given config takes precedence over the ``config.json`` of a folder or the only YAML of a
    repository of the Hub, and these take precedence over what the tensors tell.

    Args:
        path: what :func:`~sam21convert.hub.resolve.resolve` takes, or its result.
        config: the config of the model: a shipped name, a file, or a model config.
        header_only: whether a repository of the Hub is not downloaded. The data of its tensors can
            then not be read.
        drop_hq: whether to take the SAM 2 out of an HQ-SAM 2, leaving out the tensors that HQ adds.
        drop: patterns of names of tensors to leave out; see
            :func:`~sam21convert.checkpoint.drop.dropped_by`.
        weights: which of several state dicts to open; see
            :func:`~sam21convert.checkpoint.state_dict.unwrap`.
        prefix: the prefix of the names in one of several state dicts.
        with_lora: whether a state dict with a LoRA inside, which changes its weights, is opened.

    Returns:
        The checkpoint. It need not be identified, nor fit its model.

    Raises:
        UnreadableError: when the file or its config is damaged, or cannot be had.
        RefusedError: when the file is not a checkpoint, holds no SAM 2 or several, or holds a model
            that only looks like SAM 2. Both errors also say what in the file could do harm.
        UsageError: when ``path`` or ``config`` names nothing, or ``drop_hq`` or a pattern has
            nothing to drop.
    """
    located = path if isinstance(path, Located) else resolve(path, header_only=header_only)
    try:
        opened = _opened(
            located, config, drop_hq=drop_hq, drop=drop, weights=weights, prefix=prefix
        )
        if opened.lora is not None and not with_lora:
            raise opened.lora.refusal()
        return opened
    except UnreachableError:
        raise
    except (RefusedError, UnreadableError) as error:
        raise with_harm(error, located.path) from None


def _opened(
    located: Located,
    config: str | Path | ModelConfig | None,
    *,
    drop_hq: bool,
    drop: Sequence[str],
    weights: str | None,
    prefix: str | None,
) -> Checkpoint:
    refuse_adapter(located.path)
    source = open_source(located.path, place=not isinstance(located.path, HubPath))
    source = replace(source, notes=_joined_notes(located.notes, source.notes))
    inside = source.config
    content = read_json(inside) if source.path.is_dir() and inside.exists() else None
    _refuse_lookalikes(source, content, drop_hq=drop_hq)
    refuse_quantised(source, content)
    checkpoint = _recognised(source, drop_hq=drop_hq, drop=drop, weights=weights, prefix=prefix)
    if content is not None:
        checkpoint = _with_json(checkpoint, content, inside)
    if config is not None:
        return _with_given(checkpoint, config)
    if content is None and source.path.is_dir():
        return _with_json_above(checkpoint, located.path)
    only = located.config or _only_yaml(located.path, source.path)
    if only is not None and only not in beside(source.path).yamls:
        found = _found(only, "ask for the checkpoint alone, hf://org/repo/FILE, or `config=FILE`")
        checkpoint = _with_config(checkpoint, found, only.name)
        note = f"the settings are those of {only.name}, the only YAML there: {_size_of(found)}"
        checkpoint = _with_notes(checkpoint, note, *_foreign_settings(only))
        return replace(checkpoint, config_file=None if isinstance(only, HubPath) else only)
    return _with_beside(checkpoint) if source.path.is_file() else checkpoint


def _with_json_above(checkpoint: Checkpoint, given: Path) -> Checkpoint:
    """The checkpoint with the ``config.json`` of the given folder, if its weights lie below it."""
    above = given / CONFIG
    hidden = isinstance(given, HubPath) or checkpoint.source.path == given or not above.is_file()
    content = None if hidden else read_sam2_json(above)
    if not content or of_timm(content) or checkpoint.dialect is TIMM:
        return checkpoint
    found = _with_json(checkpoint, content, above)
    size = found.config.image_size if found.config else "unknown"
    return _with_notes(found, f"the settings are those of {above}: image size {size}")


def _joined_notes(listed: tuple[str, ...], seen: tuple[str, ...]) -> tuple[str, ...]:
    """Notes on a repository, and those on its folder in the cache, which holds a part of it."""
    known = {note.partition(";")[0] for note in listed}
    return (*listed, *(note for note in seen if note.partition(";")[0] not in known))


def recognise(source: Source, config: str | Path | ModelConfig | None = None) -> Checkpoint:
    """Say what is in a source that is open, or in memory, by its tensors and a given config.

    Args:
        source: the tensors by name, and what else there is. No data is read.
        config: the config of the model, as for :func:`open_checkpoint`. It takes precedence over
            what the tensors tell.

    Returns:
        The checkpoint. It need not be identified, nor fit its model.

    Raises:
        RefusedError: when there is no SAM 2 or several, or a model that only looks like SAM 2.
        MissingFileError: when there is no config of that name.
        UnreadableError: when the config file cannot be read.
    """
    _refuse_lookalikes(source, None, drop_hq=False)
    found = _with_given(_recognised(source), config)
    if found.lora is not None:
        raise found.lora.refusal()
    return found


def _recognised(
    source: Source,
    *,
    drop_hq: bool = False,
    drop: Sequence[str] = (),
    weights: str | None = None,
    prefix: str | None = None,
) -> Checkpoint:
    """The checkpoint as far as the tensors alone tell."""
    found = unwrap(with_plain_names(source), weights=weights, prefix=prefix)
    found, lora = take_out(source, found)
    source = replace(source, notes=(*source.notes, *found.notes))
    dropped = [name for name in HQ_TENSORS if drop_hq and name in found.tensors]
    dialect = dialect_of(found, source)
    dropped += dropped_by(drop, found, dialect, source.path)
    kept = {name: ref for name, ref in found.tensors.items() if name not in set(dropped)}
    shipped, generation = size_of(kept, dialect, whole=not found.parts) if dialect else (None, None)
    checkpoint = Checkpoint(
        source,
        kept,
        found.wrappers,
        tuple(name for name in found.extras if name not in dropped),
        dialect,
        shipped,
        generation,
        dropped=tuple(dropped),
        parts=found.parts,
        extra_tensors=tuple(name for name in found.extra_tensors if name not in dropped),
        lora=lora,
    )
    _refuse_stubs(checkpoint, found.stubs)
    whole = checkpoint.fit and not checkpoint.fit.missing
    return replace(checkpoint, parts=()) if whole else checkpoint


def _with_given(checkpoint: Checkpoint, config: str | Path | ModelConfig | None) -> Checkpoint:
    """The checkpoint with the config that the caller gives, if any."""
    if config is None:
        return checkpoint
    if isinstance(config, ModelConfig):
        return _with_config(checkpoint, config, "the caller")
    checkpoint = _with_config(checkpoint, load_config(config), str(config))
    return _with_notes(checkpoint, *_foreign_settings(Path(config)))


def unequal_copies(checkpoint: Checkpoint) -> list[str]:
    """Find tensors that are held twice with different values. Reads the data of both copies.

    Args:
        checkpoint: the checkpoint. Copies of the wrong shape are skipped.

    Returns:
        A line for each pair that differs.
    """
    if checkpoint.fit is None:
        return []
    refs, mismatched = checkpoint.tensors, {name for name, _, _ in checkpoint.fit.mismatched}
    return [
        f"{one} and {other} should be equal and differ"
        for one, other in checkpoint.fit.repeats
        if not {one, other} & mismatched and not same_bytes(refs[one], refs[other])
    ]


def _refuse_lookalikes(source: Source, config: dict[str, Any] | None, *, drop_hq: bool) -> None:
    family = lookalike_in(source, config)
    if family is None and drop_hq:
        raise UsageError(f"{source.path}: is not an HQ-SAM 2: `drop_hq` has nothing to drop")
    if family is not None and not (drop_hq and family is HQ_SAM2):
        raise family.refusal(source.path)


def _refuse_stubs(checkpoint: Checkpoint, stubs: Mapping[str, Any]) -> None:
    """Raise :class:`RefusedError` where something else stands in place of a tensor of the model."""
    missing = checkpoint.fit.missing if checkpoint.fit else ()
    name = next((name for name in missing if name in stubs), None)
    if name is None:
        return
    value = stubs[name]
    made_by = value.name if isinstance(value, Placeholder) else ""
    what = TENSOR_KINDS.get(made_by) or f"not a tensor but {made_by or type(value).__name__}"
    raise RefusedError(
        f"{checkpoint.source.path}: {name} is {what}",
        hint="turn it into a plain tensor of floats in the program that saved it; save it again",
    )


def _found(path: Path, hint: str) -> ModelConfig:
    """Load a config that was found, not given; the hint says how to convert without it."""
    try:
        return load_config(path)
    except (RefusedError, UnreadableError) as error:
        raise type(error)(error.message, hint=hint) from error


def _with_beside(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the config that lies beside its file, if there is one."""
    file = checkpoint.source.path
    found = beside(file)
    configs: list[tuple[Path, ModelConfig]] = []
    content = read_sam2_json(found.json) if found.json is not None else None
    if found.json is not None and content and of_timm(content) is (checkpoint.dialect is TIMM):
        checkpoint = _with_json(checkpoint, content, found.json)
        if checkpoint.config is not None:
            configs.append((found.json, checkpoint.config))
    shipped = checkpoint.shipped
    hint = f"`config={shipped.name if shipped else 'FILE'}` is read instead"
    configs += [(path, _found(path, hint)) for path in found.yamls]
    for other in configs[1:]:
        refuse_contradiction(file, configs[0], other)
    if not configs:
        return _with_notes(checkpoint, *_unread(checkpoint))
    path, config = configs[-1]
    if path != found.json:
        told = tells_generation(path)
        checkpoint = _with_config(checkpoint, config, path.name)
        checkpoint = checkpoint if told else replace(checkpoint, generation=None)
    note = f"the settings are those of {path.name} beside it: {_size_of(config)}"
    checkpoint = _with_notes(checkpoint, note, *_foreign_settings(path))
    return replace(checkpoint, config_file=path)


def _size_of(config: ModelConfig) -> str:
    return f"image size {config.image_size}"


def _only_yaml(folder: Path, file: Path) -> Path | None:
    """The only YAML in a folder that holds one checkpoint, if it is a config, as on the Hub."""
    if isinstance(folder, HubPath) or not (folder.is_dir() and file.is_file()):
        return None
    yamls = [name for name in list_folder(folder).names if PurePath(name).suffix in YAML]
    if len(yamls) != 1 or beside(file) != Beside(None, ()):
        return None
    with suppress(Sam21ConvertError):
        load_config(folder / yamls[0])
        return folder / yamls[0]
    return None


def _foreign_settings(path: Path) -> Iterator[str]:
    if names := unread_settings(path):
        shown = ", ".join(map(one_line, names[:12])) + (" ..." if len(names) > 12 else "")
        yield f"settings in {path.name} that SAM 2 does not have, and that are not read: {shown}"


def _with_notes(checkpoint: Checkpoint, *notes: str) -> Checkpoint:
    source = checkpoint.source
    return replace(checkpoint, source=replace(source, notes=(*source.notes, *notes)))


def _unread(checkpoint: Checkpoint) -> Iterator[str]:
    """Name the configs beside a file that may be its own, though nothing says so."""
    file = checkpoint.source.path
    if checkpoint.dialect is TIMM or isinstance(file, HubPath):
        return
    for path, config in configs_of_others(file):
        assumed = checkpoint.model_config  # read only where there is another to compare it with
        fit = _with_config(checkpoint, config, path.name).fit
        fits = fit is not None and fit.faults == len(fit.missing)
        if fits and assumed and config != replace(assumed, generation=config.generation):
            why = "other checkpoints are there" if path.name == CONFIG else "it has another name"
            option = f"`config={shlex.quote(str(path))}`"
            yield f"{path.name} beside it was not read, as {why}: {option}"


def _with_config(checkpoint: Checkpoint, config: ModelConfig, config_from: str) -> Checkpoint:
    return replace(
        checkpoint,
        config=config,
        config_from=config_from,
        generation=config.generation,
        shipped=registry.shipped_like(config),
    )


def _with_json(checkpoint: Checkpoint, content: dict[str, Any], path: Path) -> Checkpoint:
    """The checkpoint with what the ``config.json`` of its folder tells beyond the tensors."""
    if checkpoint.dialect is TIMM:
        return _with_timm(checkpoint, content, path)
    foreign = transformers.foreign_type(content)
    if foreign is not None and checkpoint.dialect is not None and not of_lookalike(content):
        return _with_notes(checkpoint, f"{path.name} is of {foreign}: not read")
    with naming(path):
        video = transformers.model_type(content) == "sam2_video"
        like = None if video else checkpoint.model_config
        config = transformers.from_json(content, like)
        states_generation = transformers.tells_generation(content)
    dialect = checkpoint.dialect
    # Tensors of the memory tell the generation too, where a config for images describes them.
    told = checkpoint.generation
    if dialect in (HF_VIDEO, HF_IMAGE):
        dialect = HF_VIDEO if video else HF_IMAGE
        told = None if dialect is HF_IMAGE else told
    if path.parent == checkpoint.source.path and not isinstance(path, HubPath):
        for other in other_preprocessing(path.parent, config.image_size):
            note = f"not carried over: {other}, another way to prepare pictures than that of SAM 2"
            checkpoint = _with_notes(checkpoint, note)
    return replace(
        checkpoint,
        dialect=dialect,
        config=config,
        config_from=CONFIG,
        generation=config.generation if states_generation else told,
        shipped=registry.shipped_like(config),
    )


def _with_timm(checkpoint: Checkpoint, content: dict[str, Any], path: Path) -> Checkpoint:
    """The checkpoint with what timm's ``config.json`` tells: generation and a trunk of its own."""
    with naming(path):
        generation, trunk = generation_of(content), trunk_of(content)
    source, shipped, config = checkpoint.source, checkpoint.shipped, checkpoint.config
    if source.container == "transformers folder":
        source = replace(source, container="timm folder")
    if shipped is not None:
        model = registry.shipped_config(shipped.name)
        model = replace(model, generation=generation or model.generation)
        shipped = registry.shipped_like(model)
        config = None if trunk is None else replace(model, trunk=trunk)
        sizes = notes_on_size(path.name, content, model)
        source = replace(source, notes=(*source.notes, *sizes))
    return replace(
        checkpoint,
        source=source,
        config=config,
        config_from=None if config is None else CONFIG,
        generation=generation,
        shipped=shipped if config is None else registry.shipped_like(config),
    )
