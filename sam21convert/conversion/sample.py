"""Checkpoints to try things on: the real architecture with seeded random weights.

The numbers are made of the raw 64-bit output of numpy's Philox generator, which numpy promises
never to change, and of exact or correctly rounded float32 operations: the same seed gives the same
bytes on any machine and with any version of numpy.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config.load import load_config
from ..config.registry import tensors_of
from ..io.nearby import expanded
from ..io.output.atomic import refuse_existing, scratch
from ..io.tensor import TensorSpec
from ..model.config import ModelConfig
from ..report import Report, size_text
from .api import convert

DEFAULT_CONFIG = "sam2.1/sam2.1_hiera_t"

# How far the weights of some layers depart from unit gain: (pattern of the name, factor), the first
# that fits. Residual branches are damped, so that deep trunks stay of order one; pixels of a patch
# are alike, so that their sum is large. Attention of prompt tokens to the image and of a frame to
# its memories is sharpened: with flat attention a model of random weights hardly reacts to them,
# and a wrong mapping would not be detected.
_GAINS = (
    (r"patch_embed\.proj\.weight", 0.2),
    (r"trunk\.blocks\.\d+\.(attn\.proj|mlp\.layers\.1)\.weight", 0.5),
    (r"memory_attention\.layers\.\d+\.\w+\.[qk]_proj\.weight", 2.0),
    (r"sam_mask_decoder\.transformer\..*token_to_image\.(q|k|v|out)_proj\.weight", 2.0),
    (r"sam_mask_decoder\.output_hypernetworks_mlps\.\d\.layers\.2\.weight", 0.3),
    (r"sam_mask_decoder\.pred_obj_score_head\.layers\.[01]\.weight", 2.0),
)
# Inputs of these layers are never negative. Weights in opposite pairs cancel what the inputs have
# in common, which would otherwise give the object score the same sign for every input.
_PAIRED = re.compile(r"sam_mask_decoder\.pred_obj_score_head\.layers\.[12]\.weight")


@dataclass(frozen=True)
class Sample(Report, schema="sample/1"):
    """The answer of :func:`~sam21convert.sample`.

    Attributes:
        path: what was written.
        config: the config of the model.
        seed: the seed of the random numbers.
        tensors: the number of tensors.
        bytes: the size of their data.

    Example:
        >>> made = sam21convert.sample("random.pt", "debug/sam2.1_debug")
        >>> made.seed
        0
    """

    path: Path
    config: str
    seed: int
    tensors: int
    bytes: int

    def __str__(self) -> str:
        return (
            f"wrote {self.path}: {self.tensors} random tensors of {self.config} "
            f"(seed {self.seed}, {size_text(self.bytes)})"
        )


def sample(
    path: str | Path, config: str = DEFAULT_CONFIG, seed: int = 0, *, overwrite: bool = False
) -> Sample:
    """Write a checkpoint with random weights.

    Args:
        path: the file or folder to write; its form picks the container, as for
            :func:`~sam21convert.convert`.
        config: the config of the model: a shipped name or a file.
        seed: the seed of the random numbers.
        overwrite: whether an existing path may be replaced.

    Returns:
        What was written.

    Raises:
        MissingFileError: when there is no such config.
        UsageError: when ``path`` exists.
        OSError: when ``path`` cannot be written, for example on a full disk.

    Example:
        >>> made = sam21convert.sample("random.pt", "debug/sam2.1_debug", seed=3)
        >>> made.path
        PosixPath('random.pt')
    """
    path = expanded(Path(path))
    model = load_config(config)
    refuse_existing(path, overwrite=overwrite)
    with scratch(path) as home:
        drawn = home / "drawn.safetensors"
        _write(drawn, model, seed)
        written = convert(drawn, path, config=model, overwrite=overwrite)
    return Sample(path, config, seed, len(written.tensors), written.bytes)


def sample_tensors(config: ModelConfig, seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw a random state dict.

    No tensor is constant, activations are of order one, and object scores have both signs.

    Args:
        config: the config of the model.
        seed: the seed of the random numbers.

    Returns:
        Canonical name to float32 array, in the order of the state dict.
    """
    return {name: _draw(name, spec, seed) for name, spec in tensors_of(config).items()}


def _write(path: Path, config: ModelConfig, seed: int) -> None:
    """Write a safetensors file tensor by tensor; its own library hides the errors of the system."""
    specs = tensors_of(config)
    header, end = {}, 0
    for name, spec in specs.items():
        start, end = end, end + spec.nbytes
        header[name] = {"dtype": "F32", "shape": spec.shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, spec in specs.items():
            file.write(_draw(name, spec, seed).astype("<f4", copy=False).tobytes())


def _draw(name: str, spec: TensorSpec, seed: int) -> NDArray[np.float32]:
    centre, spread = _distribution(name, spec.shape)
    key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:16], "little")
    raw = np.random.Philox(key=key).random_raw(spec.numel)
    unit = (raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    values = (unit * np.float32(spread) + np.float32(centre)).reshape(spec.shape)
    if _PAIRED.fullmatch(name):
        values[:, 1::2] = -values[:, 0::2]
    return values


def _distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Centre and half width of the uniform distribution that a tensor is drawn from."""
    last = name.rpartition(".")[2]
    if len(shape) == 1:
        return (1.0, 0.25) if last in ("weight", "gamma") else (0.0, 0.1)
    if last != "weight" or re.search(r"(_embed|_embeddings\.\d|_tokens?)\.weight$", name):
        return 0.0, sqrt(3) * (1.0 if "gaussian" in name else 0.5)
    inputs = shape[0] if "output_upscaling" in name else prod(shape[1:])  # transposed convolutions
    gain = next((gain for pattern, gain in _GAINS if re.search(pattern, name)), 1.0)
    return 0.0, gain * sqrt(3 / inputs)
