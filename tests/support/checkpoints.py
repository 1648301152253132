"""Checkpoint files for the tests."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sam21convert.config.registry import shipped_tensors
from sam21convert.io.safetensors import write_safetensors
from sam21convert.io.tensor import Inventory, Tensor, TensorRef
from sam21convert.report import SILENT

if TYPE_CHECKING:  # programs that tests start import this module for the names below
    import torch

DEBUG = "debug/sam2.1_debug"
DEBUG_20 = "debug/sam2_debug"


def random_bits(path: Path, inventory: Inventory) -> Path:
    """A safetensors file of these tensors, filled with any bit pattern: NaN payloads too."""
    raw = path.with_suffix(".raw")
    # Tensors begin at different places of one file, which takes less time than a file for all.
    largest = max(spec.nbytes for spec in inventory.values())
    raw.write_bytes(os.urandom(largest + 1000 * len(inventory)))
    tensors = {
        name: Tensor(spec, (TensorRef(spec, raw, 1000 * number),))
        for number, (name, spec) in enumerate(inventory.items())
    }
    write_safetensors(path, tensors, {"format": "pt"}, SILENT)
    raw.unlink()
    return path


def sparse(path: Path, inventory: Inventory) -> Path:
    """A safetensors file of these tensors: a header, and a hole where the data would be."""
    header, end = {}, 0
    for name, spec in inventory.items():
        span = [end, end + spec.nbytes]
        header[name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": span}
        end += spec.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)
    return path


def state_dict(config: str = DEBUG, seed: int = 0) -> dict[str, torch.Tensor]:
    """Finite random values under the official names, drawn once; the tensors are the caller's."""
    return {name: tensor.clone() for name, tensor in _drawn(config, seed).items()}


@lru_cache(maxsize=4)
def _drawn(config: str, seed: int) -> dict[str, torch.Tensor]:
    import torch

    rng = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(rng.standard_normal(spec.shape, dtype=np.float32))
        for name, spec in shipped_tensors(config).items()
    }


def official_pt(path: Path, tensors: Mapping[str, torch.Tensor] | None = None) -> Path:
    """A file as the official code publishes them."""
    import torch

    torch.save({"model": dict(tensors if tensors is not None else state_dict())}, path)
    return path


def official_yaml(name: str) -> Path:
    """A YAML file of the installed official package, found without importing it."""
    return Path(str(metadata.distribution("sam2").locate_file(f"sam2/configs/{name}.yaml")))


def read_bytes(ref: TensorRef) -> bytes:
    """The bytes of a contiguous tensor."""
    assert ref.stride is None
    with ref.path.open("rb") as file:
        file.seek(ref.offset)
        return file.read(ref.spec.nbytes)


def damaged(whole: bytes) -> list[bytes]:
    """A file cut at every byte, in order, and then with every byte changed in three ways."""
    variants = [whole[:end] for end in range(len(whole))]
    for at in range(len(whole)):
        for byte in (0, 0xFF, whole[at] ^ 1):
            variants.append(whole[:at] + bytes([byte]) + whole[at + 1 :])
    return variants
