"""Open a checkpoint of any container. Containers store tensors and do not interpret their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import RefusedError, UnreadableError, unreadable
from .deepspeed import find_deepspeed, read_deepspeed, with_masters
from .safetensors import read_safetensors, read_sharded
from .source import INDEX, WEIGHTS, Blob, Container, Placeholder, Source, refuse_special
from .torch_distributed import METADATA, read_distributed
from .torch_legacy import read_torch_legacy
from .torch_zip import read_torch_zip
from .unsupported import HEAD, archive, refusal_of

__all__ = ["Blob", "Placeholder", "Source", "open_source"]


def open_source(path: Path, *, place: bool = True) -> Source:
    """Open a checkpoint file or folder; the container is recognised by its content.

    Only headers are read, never the data of tensors.

    Args:
        path: A file, a transformers folder, a folder of ``torch.distributed.checkpoint``, or a
            ``*.index.json``.
        place: Whether to locate the data of each tensor. In PyTorch files that needs one small
            read per tensor, spread over the file. With False these reads are skipped, and the
            offsets of the tensors must not be used.

    Returns:
        The opened checkpoint.

    Raises:
        UnreadableError: If the file is missing, empty, cut short or contradicts itself.
        RefusedError: If its format is not supported.
    """
    if path.is_dir():
        return _open_folder(path)
    if path.name.endswith(".index.json"):
        return read_sharded(path)
    start = _start_of(path)
    if start[4:9] == b"\0\0\0\0{":  # a header shorter than 4 GiB
        return read_safetensors(path)
    if start[:4] == b"PK\x03\x04":
        source = read_torch_zip(path, place=place)
        return with_masters(source) if place else source
    if start[:1] == b"\x80":
        return read_torch_legacy(path, place=place)
    refusal = refusal_of(path, start)
    if refusal is not None:
        raise refusal
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        return read_safetensors(path)  # its error message says what is wrong with the header
    raise RefusedError(
        f"{path}: is neither a PyTorch checkpoint nor a safetensors file",
        hint="give a .pt, .pth or .safetensors file, or a transformers folder",
    )


def _open_folder(path: Path) -> Source:
    for name in (WEIGHTS, INDEX):
        if (path / name).exists():
            source = (read_safetensors if name == WEIGHTS else read_sharded)(path / name)
            kind: Container = (
                "transformers folder" if name == WEIGHTS else "sharded transformers folder"
            )
            return replace(source, path=path, container=kind)
    if (path / METADATA).exists():
        return read_distributed(path)
    if find_deepspeed(path):
        return read_deepspeed(path)
    inside = [*path.glob("*"), *path.glob("*/*")]
    if known := archive([entry.relative_to(path).as_posix() for entry in inside]):
        raise RefusedError(f"{path}: is {known.what}", hint=known.hint)
    raise RefusedError(
        f"{path}: a folder without {WEIGHTS} or {INDEX}",
        hint="give the checkpoint file in it, or a folder that transformers can load",
    )


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
