"""Tiny valid inputs of each target, made on the fly with torch.

``python -m tests.fuzzing.seeds TARGET FOLDER`` writes them: the fuzzer itself runs without torch.
"""

from __future__ import annotations

import io
import pickle
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem, metadata

from . import grammar
from .targets import PIECES, SHARD


def _torch(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, file, **options)
    return file.getvalue()


def _states() -> list[Any]:
    base = torch.arange(6.0).reshape(2, 3)
    return [
        {"model": {"w": base, "t": base.t(), "row": base[1]}},
        [torch.nn.Parameter(base.half()), base.to(torch.uint16), torch.ones(2, dtype=torch.bool)],
        {"epoch": 3, "lr": 0.1, "n": None, "x": (True, b"b", {1, 2}), "c": 1j, "d": base.device},
    ]


def _plain() -> list[bytes]:
    value = [None, True, 2**40, -1, 1.5, "text", b"bytes", bytearray(b"x"), (1, 2), {"k": {3}}, 1j]
    return [
        *(pickle.dumps(value, protocol) for protocol in range(6)),
        grammar.one_tensor(),
        b"(S'a'\nI1\nL2L\nF1.5\nVb\nl0(dp0\ng0\n.",
        b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.",
        b"(ccollections\nOrderedDict\no}b.",
    ]


def _distributed() -> list[bytes]:
    size = len(grammar.zip_of(grammar.one_tensor()))
    state: dict[str, Any] = {"n": metadata.BytesStorageMetadata()}
    places: dict[metadata.MetadataIndex, filesystem._StorageInfo] = {}
    properties = metadata.TensorProperties(dtype=torch.float32)
    for name, rows in {"w": 1, "split": 2}.items():
        chunks = []
        for row in range(rows):
            offsets = torch.Size([2 * row, 0])
            chunks.append(metadata.ChunkStorageMetadata(offsets, torch.Size([2, 3])))
            index = metadata.MetadataIndex(name, offsets)
            places[index] = filesystem._StorageInfo(PIECES, len(places) * size, size)
        shape = torch.Size([2 * rows, 3])
        state[name] = metadata.TensorStorageMetadata(properties, shape, chunks)
    planner = {"w": ("model", "w"), "split": ("model", 0)}
    return [pickle.dumps(metadata.Metadata(state, planner, places), form) for form in (2, 4)]


def _headers() -> list[bytes]:
    two = (
        b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"b":{"dtype":"BF16","shape":[2,4],"data_offsets":[8,24]}}'
    )
    return [grammar.HEADER, two]


def seeds(name: str) -> list[bytes]:
    """The initial inputs of a target."""
    return _seeds()[name]


@cache
def _seeds() -> dict[str, list[bytes]]:
    zips = [_torch(state) for state in _states()]
    legacy = [_torch(state, _use_new_zipfile_serialization=False) for state in _states()]
    safetensors = [grammar.safetensors_of(header) for header in _headers()]
    return {
        "pickle": _plain(),
        "zip-pickle": [grammar.one_tensor(), *_plain()],
        "zip": [*zips, grammar.zip_of(grammar.one_tensor())],
        "legacy": legacy,
        "safetensors": safetensors,
        "safetensors-header": _headers(),
        "index": [b'{"metadata":{"total_size":24},"weight_map":{"w":"%s"}}' % SHARD.encode()],
        "distributed": _distributed(),
        "safety": [*_plain(), *zips, legacy[0]],
        "manifest": [
            b"- a.pt\n- source: b.pt\n  name: second\n  image_size: 512\n",
            b'["a.pt", {"source": "b.pt", "generation": 2.1}]\n',
            b"- &a {source: a.pt, to: official}\n- <<: *a\n  name: again\n",
        ],
        "any": [zips[0], legacy[0], safetensors[0], b"<html>", b'{"a": 1}', b"text"],
    }


if __name__ == "__main__":
    for number, data in enumerate(seeds(sys.argv[1])):
        Path(sys.argv[2], f"seed-{number:02d}").write_bytes(data)
