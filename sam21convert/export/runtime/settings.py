"""What an export says about itself beside its graphs: its settings, and the other tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...config.load import load_json
from ...errors import RefusedError
from ...io.data.cast import to_float32
from ...io.data.copy import Files, read_bytes
from ...io.nearby import missing
from ...io.safetensors import read_safetensors
from ...io.tensor import WEIGHT_DTYPES
from ...model.config import ModelConfig
from .resize import Floats

_AGAIN = "export the model again"
WHICH = "give the folder that an export was written to"


def read_config(path: Path) -> ModelConfig:
    """Read the config of an export.

    Args:
        path: Its ``onnx/config.json``.

    Returns:
        The config.

    Raises:
        MissingFileError: If there is no such file.
        UnreadableError: If it is not valid JSON.
        RefusedError: If it is not the config of a SAM 2.
    """
    if not path.exists():
        raise missing(path, WHICH)
    return load_json(path)


def read_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    """Read the tensors of an export that no graph holds.

    Args:
        path: Its ``model.safetensors``.
        shapes: The expected shapes by canonical name.

    Returns:
        The tensors by name.

    Raises:
        MissingFileError: If there is no such file.
        UnreadableError: If it is damaged.
        RefusedError: If it lacks a tensor, or has one of another shape or type.
    """
    if not path.exists():
        raise missing(path, _AGAIN)
    source = read_safetensors(path)
    tensors = source.root
    found: dict[str, Floats] = {}
    with Files() as files:
        for name, shape in shapes.items():
            spec = tensors[name].spec if name in tensors else None
            if spec is None or spec.shape != shape or spec.dtype not in WEIGHT_DTYPES:
                expected = ", ".join(map(str, shape))
                raise RefusedError(
                    f"{path}: {name}: expected [{expected}], found {spec or 'no such tensor'}",
                    hint=_AGAIN,
                )
            ref = tensors[name]
            found[name] = to_float32(memoryview(read_bytes(files, ref)), spec.dtype).reshape(shape)
    return found
