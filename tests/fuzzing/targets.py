"""The targets of fuzzing: functions that pass bytes to a reader, without importing torch.

A target returns True if the reader returns a source whose tensors are all inside their files, and
False if it raises one of the errors that readers may raise. Any other exception is a finding.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from sam21convert.checkpoint.safety.report import assess
from sam21convert.errors import RefusedError, Sam21ConvertError, UnreadableError
from sam21convert.io.open import open_source
from sam21convert.io.pickle.load import Record, unpickle
from sam21convert.io.safetensors import read_safetensors, read_sharded
from sam21convert.io.source import Source
from sam21convert.io.tensor import TensorRef
from sam21convert.io.torch_distributed import METADATA, read_distributed
from sam21convert.io.torch_legacy import read_torch_legacy
from sam21convert.io.torch_storage import TORCH, Storages, StorageType
from sam21convert.io.torch_zip import read_torch_zip
from sam21convert.workflows.batch.manifest import read_manifest

from . import grammar

SHARD, PIECES = "model.safetensors", "__0_0.distcp"


@dataclass(frozen=True)
class Target:
    """``run`` returns whether an input is valid; inputs are made of ``pieces`` and ``words``."""

    name: str
    run: Callable[[bytes], bool]
    pieces: Callable[[bytes], list[bytes]]
    words: tuple[bytes, ...]


@cache
def folder() -> Path:
    """The folder for input files, in memory if the system has such a file system."""
    memory = Path("/dev/shm")
    path = Path(mkdtemp(prefix="sam21convert-fuzz-", dir=memory if memory.is_dir() else None))
    (path / PIECES).write_bytes(grammar.zip_of(grammar.one_tensor()) * 3)
    (path / SHARD).write_bytes(grammar.safetensors_of(grammar.HEADER))
    return path


def clean_up() -> None:
    """Remove the folder."""
    if folder.cache_info().currsize:
        shutil.rmtree(folder())
        folder.cache_clear()


def _accept(read: Callable[[], Source | None]) -> bool:
    try:
        source = read()
    except (UnreadableError, RefusedError):
        return False
    sizes = {file: file.stat().st_size for file in source.files} if source else {}
    for ref in _refs(source.root) if source else ():
        end = ref.offset + ref.extent
        assert 0 <= ref.offset <= end <= sizes[ref.path], f"{ref} lies outside its file"
    return True


def _refs(value: Any) -> Iterator[TensorRef]:
    if isinstance(value, TensorRef):
        yield from value.refs
    elif isinstance(value, Record):
        yield from _refs(value.state)
    elif isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _refs(part)


def _file(name: str, read: Callable[[Path], Source]) -> Callable[[bytes], bool]:
    """A target that writes the input to a file of this name and reads it."""

    def run(data: bytes) -> bool:
        path = folder() / name
        path.write_bytes(data)
        return _accept(lambda: read(path))

    return run


def _pickle(data: bytes) -> bool:
    storages = Storages(Path("none"), lambda *_: 0)

    def persistent(number: Any) -> Any:
        match number:
            case ("storage", StorageType() as kind, str(key), _, numel):
                return storages.find(kind, key, numel)
        raise UnreadableError("a persistent id does not describe a storage")

    def read() -> None:
        repr(unpickle(data, "fuzz", known=TORCH, persistent=persistent).value)

    return _accept(read)


_zip = _file("a.pt", read_torch_zip)
_safetensors = _file("a.safetensors", read_safetensors)


def _any_way(path: Path) -> Source:
    """Open a file as the commands do, with and without locating the data."""
    with suppress(UnreadableError, RefusedError):
        open_source(path, place=False)
    return open_source(path)


def _distributed(path: Path) -> Source:
    return read_distributed(path.parent)


def _safety(data: bytes) -> bool:
    path = folder() / "unknown"
    path.write_bytes(data)
    return assess(path).source == str(path)


def _manifest(data: bytes) -> bool:
    path = folder() / "manifest.yaml"
    path.write_bytes(data)
    try:
        return bool(read_manifest(path))
    except Sam21ConvertError:
        return False


TARGETS = {
    target.name: target
    for target in (
        Target("pickle", _pickle, grammar.opcodes, grammar.OPCODES),
        Target(
            "zip-pickle", lambda data: _zip(grammar.zip_of(data)), grammar.opcodes, grammar.OPCODES
        ),
        Target("zip", _zip, grammar.records, grammar.RECORDS),
        Target("legacy", _file("a.pth", read_torch_legacy), grammar.opcodes, grammar.OPCODES),
        Target("safetensors", _safetensors, grammar.tokens, grammar.TOKENS),
        Target(
            "safetensors-header",
            lambda data: _safetensors(grammar.safetensors_of(data)),
            grammar.tokens,
            grammar.TOKENS,
        ),
        Target(
            "index",
            _file("a.safetensors.index.json", read_sharded),
            grammar.tokens,
            grammar.TOKENS,
        ),
        Target("distributed", _file(METADATA, _distributed), grammar.opcodes, grammar.OPCODES),
        Target("any", _file("any", _any_way), grammar.records, grammar.ANY),
        Target("safety", _safety, grammar.opcodes, grammar.OPCODES + grammar.RECORDS),
        Target("manifest", _manifest, grammar.lines, grammar.LINES),
    )
}
