"""Read what ``HuggingFaceStorageWriter`` of torch.distributed.checkpoint writes for each process.

Follows ``torch/distributed/checkpoint/hf_storage.py``. Each file is a safetensors file with parts
of tensors, and says in its metadata at which offsets these begin in the whole tensors.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import RefusedError, UnreadableError
from .safetensors import read_safetensors
from .source import Source
from .tensor import Joined, TensorRef

_INFO = "DCP_SHARDING_INFO"
_NAME = re.compile(r"shard-([0-9]{5})-model-[0-9]{5}-of-[0-9]{5}\.safetensors")
_MAX_FILES = 4096


def is_of_process(source: Source) -> bool:
    """Whether a file holds what one of several processes had.

    Args:
        source: An opened safetensors file.

    Returns:
        Whether its metadata places its tensors in larger ones.
    """
    return _INFO in source.metadata


def has_processes(folder: Path) -> bool:
    """Whether a folder holds such files, by their names.

    Args:
        folder: Any folder.

    Returns:
        Whether there is at least one.
    """
    return any(_NAME.fullmatch(path.name) for path in folder.glob("shard-*.safetensors"))


def read_processes(path: Path) -> Source:
    """Put the tensors together from the files of all processes, without reading their data.

    Args:
        path: The folder, or one of the files in it.

    Returns:
        The opened checkpoint.

    Raises:
        UnreadableError: If parts are missing or overlap.
        RefusedError: If a tensor is divided along another axis than the first.
    """
    folder = path if path.is_dir() else path.parent
    files = sorted(
        file for file in folder.glob("shard-*.safetensors") if _NAME.fullmatch(file.name)
    )
    if len(files) > _MAX_FILES:
        raise RefusedError(f"{folder}: has more than {_MAX_FILES} files of processes")
    sources = [read_safetensors(file) for file in files or [path]]
    parts: dict[str, list[tuple[tuple[int, ...], TensorRef]]] = {}
    for source in sources:
        offsets = _offsets(source)
        for name, ref in source.root.items():
            at = offsets.get(name, (0,) * len(ref.spec.shape))
            if len(at) != len(ref.spec.shape):
                raise UnreadableError(f"{source.path}: {name}: its offsets do not fit its shape")
            parts.setdefault(name, []).append((at, ref))
    numbers = {int(match[1]) for file in files if (match := _NAME.fullmatch(file.name))}
    if numbers and numbers != set(range(1, max(numbers) + 1)):
        lost = min(set(range(1, max(numbers))) - numbers)
        raise UnreadableError(
            f"{folder}: the file of process {lost} is missing: shard-{lost:05}-...",
            hint="copy the whole folder again",
        )
    root = {name: _joined(folder, name, found) for name, found in parts.items()}
    number = f"{len(numbers)} processes" if len(numbers) > 1 else "one process"
    return Source(
        folder,
        "sharded safetensors",
        tuple(source.path for source in sources),
        root,
        {key: value for key, value in sources[0].metadata.items() if not key.startswith("DCP_")},
        notes=(f"put together from what {number} saved", *sources[0].notes),
    )


def with_other_processes(source: Source) -> Source:
    """Complete a file of one process by those beside it.

    Args:
        source: An opened safetensors file.

    Returns:
        The checkpoint in the folder of the file if that is a part of one, else ``source`` itself.

    Raises:
        UnreadableError: As :func:`read_processes`.
        RefusedError: As :func:`read_processes`.
    """
    if not is_of_process(source):
        return source
    whole = read_processes(source.path)
    return whole if len(whole.files) > 1 else replace(whole, path=source.path)


def _offsets(source: Source) -> dict[str, tuple[int, ...]]:
    where = f"{source.path}: {_INFO}"
    try:
        content = json.loads(source.metadata.get(_INFO, "{}"))
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{where} is not valid JSON") from error
    if not isinstance(content, dict):
        raise UnreadableError(f"{where} is not what torch writes")
    return {name: _saved_offsets(where, entry) for name, entry in content.items()}


def _saved_offsets(where: str, entry: Any) -> tuple[int, ...]:
    offsets = entry.get("saved_offsets") if isinstance(entry, Mapping) else None
    if not isinstance(offsets, list) or not all(type(n) is int and 0 <= n < 2**63 for n in offsets):
        raise UnreadableError(f"{where} is not what torch writes")
    return tuple(offsets)


def _consolidation(folder: Path) -> str:
    """The command that puts parts of any kind together: torch's own function."""
    code = (
        "import os; from safetensors import safe_open; from torch.distributed.checkpoint."
        "_consolidate_hf_safetensors import consolidate_safetensors_files as c; "
        f"d = {json.dumps(str(folder), ensure_ascii=False)}; os.makedirs("
        '"MERGED"); c(d, "MERGED", {k: 1 for f in os.listdir(d) if f.endswith(".safetensors") '
        'for k in safe_open(os.path.join(d, f), "pt").keys()})'
    )
    return f"run: python -c {shlex.quote(code)}"


def _joined(folder: Path, name: str, found: list[tuple[tuple[int, ...], TensorRef]]) -> TensorRef:
    row = 0
    found.sort(key=lambda part: (part[0], part[1].spec.numel))
    pieces = []
    for at, ref in found:
        if any(at[1:]) or ref.spec.shape[1:] != found[0][1].spec.shape[1:]:
            raise RefusedError(
                f"{folder}: {name} is divided along another axis than the first",
                hint=_consolidation(folder),
            )
        if at and at[0] != row:
            raise UnreadableError(f"{folder}: {name}: its rows from {row} on are not there once")
        if len(found) == 1 or ref.spec.numel:
            pieces.append(ref)
        row += ref.spec.shape[0] if at else 0
    if len({ref.spec.dtype for ref in pieces}) > 1 or (not found[0][0] and len(pieces) > 1):
        raise UnreadableError(f"{folder}: {name}: its parts do not fit together")
    return Joined.of(pieces or [found[0][1]])
