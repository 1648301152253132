"""The target of a conversion: what its name asks for, and whether it may be written."""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Mapping
from pathlib import Path

from ..checkpoint.lora_settings import ADAPTER_CONFIG
from ..checkpoint.open import Checkpoint
from ..config.registry import Shipped
from ..dialects import HF_IMAGE, HF_VIDEO, OFFICIAL
from ..dialects import named as dialect_named
from ..dialects.keymap import covers
from ..dialects.rules import Dialect
from ..errors import UsageError
from ..io.output.atomic import refuse_existing
from ..io.output.folders import meant_for_a_file
from ..io.source import FOLDERS, INDEX, WEIGHTS, Container

_SUFFIXES: Mapping[str, Container] = {
    ".pt": "torch zip",
    ".pth": "torch zip",
    ".safetensors": "safetensors",
}
_FORMS: Mapping[Container, str] = {
    "torch zip": "a .pt file",
    "safetensors": "a .safetensors file",
    "transformers folder": "a folder",
    "timm folder": "a folder",
}
_PRECISIONS = {"F32": "", "F16": "-fp16", "BF16": "-bf16"}


def pick_target(destination: Path, to: str | None) -> tuple[Container, Dialect]:
    """Find the container and dialect to write.

    Args:
        destination: the file or folder to write; its ending picks the container.
        to: the name of a dialect; None for the usual one of the container.

    Returns:
        The container and the dialect.

    Raises:
        UsageError: when no file with this ending is written, no dialect has this name, or the two
            do not go together.
    """
    container = _SUFFIXES.get(destination.suffix)
    if container is None and not destination.is_dir():
        nearest = meant_for_a_file(destination.name)
        if nearest is not None:
            hint = f"the nearest is {shlex.quote(nearest)}; "
            if destination.suffix.lower() == ".onnx":
                hint += f"`to=onnx` writes graphs to a folder, such as {destination.stem}"
            else:
                hint += "a folder has a name without such an ending"
            raise UsageError(f"{destination}: no file of this kind is written", hint=hint)
    if to == "onnx":
        raise UsageError(
            "`to=onnx`: this function writes checkpoints",
            hint="call sam21convert.export_onnx(SOURCE, FOLDER)",
        )
    dialect = dialect_named(to) if to is not None else (OFFICIAL if container else HF_VIDEO)
    usual = dialect.containers[0]
    if container is None and (usual in FOLDERS or dialect.file):
        return usual, dialect
    if container not in dialect.containers:
        forms = [_FORMS[container] for container in dialect.containers]
        raise UsageError(
            f"{destination}: {dialect.name} is written to {' or to '.join(forms)}",
            hint="name one, or leave `to` out",
        )
    return container, dialect


def of_image_model(dialect: Dialect, checkpoint: Checkpoint) -> Dialect:
    """Keep an image model an image model, where nothing else is asked for.

    Args:
        dialect: the dialect that :func:`pick_target` found.
        checkpoint: the checkpoint to convert, or the base that an adapter is merged into.

    Returns:
        ``HF_IMAGE`` in place of ``HF_VIDEO`` for a checkpoint that has all tensors of an image
        model and none of the memory; else ``dialect``.
    """
    fit, keymap = checkpoint.fit, checkpoint.keymap
    if dialect is not HF_VIDEO or fit is None or keymap is None:
        return dialect
    present = [entry for entry in keymap.entries if entry.key in fit.names]
    there = {name for entry in present for name in entry.canonical}
    wanted = {name for name in keymap.canonical if covers(HF_IMAGE, name)}
    return HF_IMAGE if there == wanted else dialect


def named(destination: Path, dialect: Dialect, shipped: Shipped | None, dtype: str) -> Path:
    """Choose the file to write for a program that recognises a checkpoint by its file name.

    Args:
        destination: the file to write, or the folder to put it in.
        dialect: the dialect to write.
        shipped: the shipped config of the model, if it has one.
        dtype: the element type of most tensors.

    Returns:
        The file; ``destination`` itself for all other dialects.

    Raises:
        UsageError: when the program has no name for this model, or would not recognise the given
            one.
    """
    if not dialect.file:
        return destination
    if shipped is None or shipped.size == "debug" or dtype not in _PRECISIONS:
        raise UsageError(
            f"`to={dialect.name}`: only for the published sizes, in float32, float16 or bfloat16",
            hint="`to=official` writes the same tensors, to a .pt or .safetensors file",
        )
    name = dialect.file.format(
        stem="sam2" if shipped.generation == "2.0" else "sam2.1",
        size=shipped.size,
        s=shipped.size[0],
        dtype=_PRECISIONS[dtype],
    )
    if destination.suffix not in _SUFFIXES:
        destination = destination / name
    elif not destination.name.endswith(name):
        raise UsageError(
            f"{destination}: {dialect.name} recognises a file by its name, and not by this one",
            hint=f"end the name in {name}, or give a folder to put it in",
        )
    seen = str(destination.absolute()) if dialect.by_path else destination.name
    if shipped.generation == "2.0" and "sam2.1" in seen:
        raise UsageError(
            f"{destination}: {dialect.name} would take it for SAM 2.1, as sam2.1 is in its path",
            hint="choose another name"
            if "sam2.1" in destination.name
            else "write it to another folder",
        )
    return destination


def refuse_occupied(destination: Path, container: Container, *, overwrite: bool) -> None:
    """Check that the destination is free, or may be replaced.

    Args:
        destination: the file or folder to write.
        container: the container to write.
        overwrite: whether an existing file or folder may be replaced.

    Raises:
        UsageError: when the destination exists and may not be replaced, is a file where a folder is
            written or the reverse, or holds a file that would take precedence over the new weights.
    """
    is_folder = container in FOLDERS
    refuse_existing(destination, overwrite=overwrite)
    if os.path.lexists(destination) and destination.is_dir() != is_folder:
        there, wanted = ("a file", "a folder") if is_folder else ("a folder", "a file")
        raise UsageError(f"{destination}: is {there}, but the output is {wanted}")
    if is_folder and (destination / INDEX).exists():
        raise UsageError(f"{destination}: holds {INDEX}, which would contradict the new weights")
    if is_folder and (destination / ADAPTER_CONFIG).exists():
        raise UsageError(
            f"{destination}: holds an adapter, which transformers would apply to the new weights",
            hint="give the name of another folder",
        )


def refuse_shards(destination: Path, container: Container, count: int) -> None:
    """Check that weights may be divided into several files.

    Args:
        destination: the folder to write.
        container: the container to write.
        count: the number of files of weights.

    Raises:
        UsageError: when the container is not a transformers folder, or the folder holds a file of
            weights that would be loaded in place of the shards.
    """
    if container != "transformers folder":
        raise UsageError(
            f"{destination}: `shard_size` is for a transformers folder; all others are one file"
        )
    if count > 1 and (destination / WEIGHTS).exists():
        raise UsageError(
            f"{destination}: holds {WEIGHTS}, which would be loaded in place of the shards",
            hint="give another name",
        )
