"""Decide a conversion from headers: which tensor of the output is made of which in the input."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .catalog import Shipped
from .checkpoint import Checkpoint, open_checkpoint, shipped_keymap, unequal_copies
from .containers import Blob
from .containers.atomic import refuse_existing
from .dialects import BY_NAME, HF_IMAGE, HF_VIDEO, OFFICIAL
from .errors import MismatchError, RefusedError, UsageError
from .fitting import mismatch
from .hf.folder import INDEX, WEIGHTS
from .keymap import KeyMap, compile_keymap
from .model.config import ConfigError, ModelConfig
from .rules import Dialect
from .tensors import Tensor, TensorRef, TensorSpec

DType = Literal["float32", "float16", "bfloat16"]
Container = Literal["torch zip", "safetensors", "transformers folder"]
DTYPES: Mapping[DType, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}

_SUFFIXES: Mapping[str, Container] = {
    ".pt": "torch zip",
    ".pth": "torch zip",
    ".safetensors": "safetensors",
}
# No folder is called like this: whoever names one wants a format that is not written here.
_FOREIGN = {".bin", ".ckpt", ".gguf", ".json", ".npz", ".onnx", ".pkl", ".tar", ".yaml", ".zip"}


@dataclass(frozen=True)
class Plan:
    """A conversion, decided and not begun."""

    source: Checkpoint
    base: Checkpoint | None
    destination: Path
    container: Container
    dialect: Dialect
    config: ModelConfig | None  # None for a file, which records none, unless the source states one
    shipped: Shipped | None  # the shipped config with these tensors, where the generation is known
    generation: str | None  # None where neither source nor base tells
    tensors: Mapping[str, Tensor]
    origins: Mapping[str, tuple[str, ...]]  # the names in the source that a tensor is made of
    notes: tuple[str, ...]

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
    image_size: int | None = None,
    dtype: DType | None = None,
    overwrite: bool = False,
) -> Plan:
    """Plan what :func:`~sam21convert.convert` does; the arguments and errors are its own."""
    destination = Path(destination)
    container, dialect = _target(destination, to)
    if image_size is not None and container != "transformers folder":
        raise UsageError(
            f"{destination}: a file records no image size", hint="give --image-size with a folder"
        )
    checkpoint = open_checkpoint(source, config)
    _check_not_input(destination, container, checkpoint)
    _check_destination(destination, container, overwrite=overwrite)
    truth, origins = to_truth(checkpoint)
    assert checkpoint.keymap is not None
    inventory, shipped, filler = checkpoint.keymap.truth, checkpoint.shipped, None
    if checkpoint.keymap.dropped and dialect is not HF_IMAGE:
        filler = _open_base(checkpoint, checkpoint.keymap, base)
        _check_not_input(destination, container, filler)
        inventory = _fill(checkpoint, filler, checkpoint.keymap, truth, origins)
        shipped = filler.shipped
    generation = checkpoint.generation if filler is None else filler.generation
    target = shipped_keymap(dialect, shipped) if shipped else compile_keymap(dialect, inventory)
    return Plan(
        source=checkpoint,
        base=filler,
        destination=destination,
        container=container,
        dialect=dialect,
        config=_config(checkpoint, filler, container, image_size),
        shipped=shipped if generation is not None else None,
        generation=generation,
        tensors=_from_truth(target, truth, dtype),
        origins=_origins(target, origins),
        notes=tuple(_notes(checkpoint, target, container, image_size)),
    )


def _config(
    checkpoint: Checkpoint, filler: Checkpoint | None, container: Container, size: int | None
) -> ModelConfig | None:
    """The config to write; for a file, only what the source itself states."""
    if container != "transformers folder":
        return checkpoint.config
    config = checkpoint.model_config
    assert config is not None
    if filler is not None and filler.model_config is not None:
        config = _with_memory(config, filler.model_config)
    try:
        return config if size is None else replace(config, image_size=size)
    except ConfigError as error:
        raise UsageError(f"--image-size: {error.problem}") from error


def _target(destination: Path, to: str | None) -> tuple[Container, Dialect]:
    container = _SUFFIXES.get(destination.suffix, "transformers folder")
    is_folder = container == "transformers folder"
    if is_folder and destination.suffix in _FOREIGN:
        raise UsageError(
            f"{destination}: no file of this kind is written",
            hint="end the name in .pt or .safetensors, or give the name of a folder",
        )
    if to is not None and to not in BY_NAME:
        raise UsageError(f"no dialect is called {to!r}", hint=f"one of {', '.join(BY_NAME)}")
    dialect = BY_NAME[to] if to is not None else (HF_VIDEO if is_folder else OFFICIAL)
    if is_folder and dialect is OFFICIAL:
        raise UsageError(
            f"{destination}: the official code reads a file, not a folder",
            hint="end the name in .pt or .safetensors",
        )
    if container == "torch zip" and dialect is not OFFICIAL:
        raise UsageError(
            f"{destination}: transformers reads no {destination.suffix}",
            hint="give the name of a folder, or end it in .safetensors",
        )
    return container, dialect


def _check_not_input(destination: Path, container: Container, checkpoint: Checkpoint) -> None:
    is_folder = container == "transformers folder"
    written = destination / WEIGHTS if is_folder else destination
    for file in checkpoint.source.files:
        if written.exists() and written.samefile(file):
            raise UsageError(f"{destination}: is the input, which is never changed")


def _check_destination(destination: Path, container: Container, *, overwrite: bool) -> None:
    is_folder = container == "transformers folder"
    refuse_existing(destination, overwrite=overwrite)
    if os.path.lexists(destination) and destination.is_dir() != is_folder:
        there, wanted = ("a file", "a folder") if is_folder else ("a folder", "a file")
        raise UsageError(f"{destination}: is {there}; what is to be written is {wanted}")
    if is_folder and (destination / INDEX).exists():
        raise UsageError(f"{destination}: holds {INDEX}, which would contradict the new weights")


def to_truth(checkpoint: Checkpoint) -> tuple[dict[str, TensorRef], dict[str, tuple[str, ...]]]:
    """The source's tensors and their names, under the names of the ground truth."""
    keymap, fit = checkpoint.keymap, checkpoint.fit
    if keymap is None or fit is None or fit.faults:
        raise mismatch(checkpoint)
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
        ref, start = refs[names[entry.foreign]], 0
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
) -> Mapping[str, TensorSpec]:
    """Add what the source has no place for, from the base; return the whole inventory."""
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
    return inventory


def _from_truth(
    target: KeyMap, truth: Mapping[str, TensorRef], dtype: DType | None
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
    checkpoint: Checkpoint, target: KeyMap, container: Container, image_size: int | None
) -> Iterable[str]:
    if checkpoint.fit is not None:
        for name in checkpoint.fit.lone:
            yield f"{name} was absent from the source; it is a copy of one that was there"
    if target.dropped:
        yield f"{len(target.dropped)} tensors of the memory are left out: an image model has none"
    if checkpoint.extras:
        yield f"left out, not part of the model: {', '.join(checkpoint.extras[:8])}" + (
            " ..." if len(checkpoint.extras) > 8 else ""
        )
    if container == "transformers folder" and image_size is None and checkpoint.config is None:
        yield (
            "image size and windows are those of the published model: no tensor tells them; "
            "give --image-size or --config if the model was trained with others"
        )
