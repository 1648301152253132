"""Open a checkpoint of any container. Containers store tensors and do not interpret their names."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..errors import (
    MissingFileError,
    RefusedError,
    Sam21ConvertError,
    UnreachableError,
    UnreadableError,
    unreadable,
)
from .deepspeed import find_deepspeed, read_deepspeed, with_masters
from .folder import ADAPTER, BIN_INDEX, find_weights, is_index, is_shard, list_folder
from .onnx import read_onnx, read_onnx_folder
from .safetensors import read_safetensors, read_sharded, read_weight_map
from .sharded_by_process import has_processes, read_processes, with_other_processes
from .side_files import known_as, named_as
from .source import INDEX, Blob, Placeholder, Source, refuse_special
from .torch_distributed import read_distributed
from .torch_legacy import read_torch_legacy
from .torch_zip import read_torch_zip
from .unsupported import HEAD, archive, is_onnx, refusal_of

__all__ = ["Blob", "Placeholder", "Source", "open_source"]


def open_source(path: Path, *, place: bool = True, alone: bool = False) -> Source:
    """Open a checkpoint file or folder; the container is recognised by its content.

    Only headers are read, never the data of tensors.

    Args:
        path: A file, the index of shards, one of the shards, or a folder: see
            :func:`~sam21convert.io.folder.find_weights`. If a folder holds one checkpoint that is
            to be named by itself, that one is opened, and ``path`` of the result names it.
        place: Whether to locate the data of each tensor. In PyTorch files that needs one small
            read per tensor, spread over the file. With False these reads are skipped, and the
            offsets of the tensors must not be used. Graphs of ONNX, which take such reads in any
            case, are then refused.
        alone: Whether a file with the name of a shard is opened without the others.

    Returns:
        The opened checkpoint.

    Raises:
        UnreadableError: If the file is missing, empty, cut short or contradicts itself.
        RefusedError: If its format is not supported, it is a file that a training writes beside the
            weights, or a folder holds no checkpoint or several.
    """
    if path.is_dir():
        return _open_folder(path, place)
    try:
        whole = is_shard(path.name) and not alone
        source = _open_whole(path, place) if whole else _open_file(path, place)
    except (RefusedError, UnreadableError) as error:
        what = named_as(path.name)
        if what is None or isinstance(error, (MissingFileError, UnreachableError)):
            raise
        raise _beside(path, what) from None
    _refuse_side_file(source)
    return source


def _open_file(path: Path, place: bool) -> Source:
    if is_index(path.name):
        return read_sharded(path, lambda shard: _open_shard(shard, place))
    start = _start_of(path)
    if start[4:9] == b"\0\0\0\0{":  # a header shorter than 4 GiB
        return with_other_processes(read_safetensors(path))
    if start[:4] == b"PK\x03\x04":
        source = read_torch_zip(path, place=place)
        return with_masters(source) if place else source
    if start[:1] == b"\x80":
        return read_torch_legacy(path, place=place)
    if is_onnx(start):
        return read_onnx(path)
    refusal = refusal_of(path, start)
    if refusal is not None:
        raise refusal
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        return read_safetensors(path)  # its error message says what is wrong with the header
    raise RefusedError(
        f"{path}: is neither a PyTorch checkpoint nor a safetensors file",
        hint="give a .pt, .pth or .safetensors file, or a transformers folder",
    )


def _open_whole(path: Path, place: bool) -> Source:
    """Open the model of which a file is a shard; a shard filled from a base is another model."""
    indices: list[Path] = []
    with suppress(OSError):
        indices = [one for one in sorted(path.parent.iterdir()) if is_index(one.name)]
    for index in indices:
        if path.name in read_weight_map(index).values():
            source = _open_file(index, place)
            return replace(source, notes=(f"{path.name} is one shard of it", *source.notes))
    _open_file(path, place)  # what is wrong with the file itself is told first
    raise RefusedError(
        f"{path}: is one shard of a model, and no index that lists it is beside it",
        hint="copy or download the index and the other shards too, and give the index, such as "
        f"{INDEX if path.suffix == '.safetensors' else BIN_INDEX}",
    )


def _open_shard(path: Path, place: bool) -> Source:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if is_index(path.name):
        raise UnreadableError(f"{path}: is an index, not a shard")
    return _open_file(path, place)


def _open_folder(path: Path, place: bool) -> Source:
    """Open what holds the weights in a folder."""
    listing = list_folder(path)
    found = find_weights(str(path), listing)
    weights = found.weights
    if (weights is None or weights.place or not weights.container) and find_deepspeed(path):
        return read_deepspeed(path)
    if weights is None and has_processes(path):
        return read_processes(path)
    if weights is None:
        near = {"/".join(name.split("/")[:2]) for name in listing.names}
        if not found.candidates and (known := archive(near)):
            raise RefusedError(f"{path}: is {known.what}", hint=known.hint)
        message, hint = found.problem()
        raise RefusedError(message, hint=hint)
    if weights.place:
        source = open_source(path / weights.place, place=place)
        return replace(source, notes=(*found.notes(), *source.notes))
    if weights.container == "torch distributed":
        source = read_distributed(path)
        _refuse_side_file(source)
        return source
    if weights.container == "onnx folder":
        if not place:  # it is on the Hub
            raise RefusedError(
                f"{path}: holds graphs of ONNX, which are read on this machine alone",
                hint=f"sam21convert pull {shlex.quote(str(path))} COPY downloads it: use the copy",
            )
        return read_onnx_folder(path)
    source = _open_file(path / weights.file, place)
    notes = (*found.notes([file.name for file in source.files]), *source.notes)
    files = source.files
    if weights.container == "PEFT adapter":
        files = (path / ADAPTER[0], *files)
    container = weights.container or source.container
    return replace(source, path=path, container=container, files=files, notes=notes)


def _refuse_side_file(source: Source) -> None:
    what = known_as(source.path.name, source.root)
    if what is not None:
        raise _beside(source.path, what)


def _beside(path: Path, what: str) -> RefusedError:
    """The error for a file without weights, which names what holds them beside it."""
    hint = "give the file or folder of the model that was saved with it"
    with suppress(Sam21ConvertError):  # its folder need not be readable
        found = find_weights(str(path.parent), list_folder(path.parent))
        chosen = found.weights or found.newest()
        if chosen is not None:
            hint = f"give {found.argument(chosen)}, which holds the weights"
        elif found.candidates:
            hint = found.problem()[1]
    return RefusedError(f"{path}: is {what}, not a model", hint=hint)


def _start_of(path: Path) -> bytes:
    refuse_special(path)
    try:
        with path.open("rb") as file:
            start = file.read(HEAD)
    except OSError as error:
        raise unreadable(path, error) from error
    if not start:
        raise UnreadableError(f"{path}: is empty", hint="download or copy the file again")
    return start
