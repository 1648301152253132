"""Split the weights of a transformers folder into several files, with an index beside them.

File names and index are those of ``huggingface_hub`` (``serialization/_base.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ..errors import UsageError
from .source import WEIGHTS
from .tensor import Tensor

Shards = Mapping[str, Mapping[str, Tensor]]  # file name -> name -> tensor

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_size(text: str) -> int:
    """Parse a file size; units are decimal, as in transformers.

    Args:
        text: For example ``500MB``, ``2.5GB`` or ``1000000``, in any case.

    Returns:
        The size in bytes, at least 1.

    Raises:
        UsageError: If the text is anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGT]?)B)?", text.strip(), re.IGNORECASE)
    size = int(float(found[1]) * _UNITS[(found[2] or "").upper()]) if found else 0
    if size < 1:
        raise UsageError(f"{text}: is not a file size", hint="write it as 500MB or 5GB")
    return size


def split(tensors: Mapping[str, Tensor], limit: int | None) -> Shards:
    """Distribute tensors over files.

    Args:
        tensors: The tensors by name. They are not reordered.
        limit: Largest size of the tensors in a file, in bytes; None for a single file. A larger
            tensor gets a file of its own.

    Returns:
        The tensors of each file by file name, in order.
    """
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if limit is not None and shards[-1] and size + tensor.spec.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.spec.nbytes
    if len(shards) == 1:
        return {WEIGHTS: shards[0]}
    stem, _, suffix = WEIGHTS.partition(".")
    return {
        f"{stem}-{number:05d}-of-{len(shards):05d}.{suffix}": shard
        for number, shard in enumerate(shards, 1)
    }


def index_json(shards: Shards) -> str:
    """Make the index of a sharded model.

    Args:
        shards: The tensors of each file.

    Returns:
        The text of ``model.safetensors.index.json``.
    """
    content = {
        "metadata": {
            "total_size": sum(t.spec.nbytes for shard in shards.values() for t in shard.values())
        },
        "weight_map": {name: file for file, shard in shards.items() for name in shard},
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"
