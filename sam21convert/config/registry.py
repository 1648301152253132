"""The configs that ship with the package, and the tensors of the model each one describes.

Everything here answers without torch: the tensors of a shipped config stand in a text file beside
its YAML. Only a config that shapes the model unlike any shipped one is built, on the meta device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..configs import ROOT
from ..io.tensor import TensorSpec
from ..model.config import Generation, ModelConfig


@dataclass(frozen=True, slots=True)
class Shipped:
    """A shipped config, and what tells its checkpoints from those of the others."""

    name: str
    size: str
    generation: Generation
    embed_dim: int
    blocks: int

    @property
    def folder(self) -> Path:
        """Where its YAML lies."""
        return ROOT / Path(self.name).parent


_SIZES = (
    ("t", "tiny", 96, 12),
    ("s", "small", 96, 16),
    ("b+", "base_plus", 112, 24),
    ("l", "large", 144, 48),
)
_GENERATIONS: tuple[tuple[Generation, str], ...] = (("2.1", "sam2.1"), ("2.0", "sam2"))

SHIPPED: tuple[Shipped, ...] = (
    *(
        Shipped(f"{stem}/{stem}_hiera_{letter}", size, generation, width, blocks)
        for generation, stem in _GENERATIONS
        for letter, size, width, blocks in _SIZES
    ),
    *(Shipped(f"debug/{stem}_debug", "debug", gen, 8, 7) for gen, stem in _GENERATIONS),
)
BY_NAME = {shipped.name: shipped for shipped in SHIPPED}


def find(name: str) -> Shipped | None:
    """The shipped config of that name.

    Takes ``sam2.1/sam2.1_hiera_t``, ``sam2.1_hiera_t``, ``sam2.1_hiera_tiny`` and the path of the
    official code, ``configs/sam2.1/sam2.1_hiera_t.yaml``.
    """
    stem = name.removeprefix("configs/").removesuffix(".yaml")
    for shipped in SHIPPED:
        short = shipped.name.rpartition("/")[2]
        published = short.rpartition("_")[0] + f"_{shipped.size}"
        if stem in (shipped.name, short, published):
            return shipped
    return None


def shipped_config(name: str) -> ModelConfig:
    """The config of that name (a key of ``BY_NAME``)."""
    from .plain_yaml import load_yaml

    return load_yaml(ROOT / f"{name}.yaml")


@cache
def shipped_tensors(name: str) -> dict[str, TensorSpec]:
    """The tensors of the model of that config, in the order of its state dict."""
    lines = (ROOT / f"{name}.tensors.txt").read_text().splitlines()
    return dict(map(parse_line, lines))


def parse_line(line: str) -> tuple[str, TensorSpec]:
    """One line of a tensor list: name, type and shape, as in ``no_mem_embed F32 1x1x256``."""
    name, dtype, shape = line.split(" ")
    return name, TensorSpec(dtype, tuple(map(int, shape.split("x"))))


def format_line(name: str, spec: TensorSpec) -> str:
    """The reverse of :func:`parse_line`."""
    return f"{name} {spec.dtype} {'x'.join(map(str, spec.shape))}"


def tensors_of(config: ModelConfig) -> dict[str, TensorSpec]:
    """The tensors of the model of any config, in the order of its state dict."""
    shipped = shipped_like(config)
    return shipped_tensors(shipped.name) if shipped else _build(config)


def shipped_like(config: ModelConfig) -> Shipped | None:
    """The shipped config whose model has the same tensors, whatever else differs."""
    for shipped in SHIPPED:
        same_size = (shipped.embed_dim, shipped.blocks) == (
            config.trunk.embed_dim,
            config.trunk.depth,
        )
        if same_size and shipped.generation == config.generation:
            return shipped if _shaping(shipped_config(shipped.name)) == _shaping(config) else None
    return None


def _shaping(config: ModelConfig) -> tuple[object, ...]:
    """All that the names and shapes of the tensors depend on."""
    trunk, memory = config.trunk, config.memory_attention
    return (
        config.generation,
        config.hidden_dim,
        config.num_maskmem,
        (trunk.embed_dim, trunk.stages, trunk.window_spec[0]),
        trunk.window_pos_embed_bkg_spatial_size,
        (memory.num_layers, memory.dim_feedforward),
        config.memory_encoder,
    )


def _build(config: ModelConfig) -> dict[str, TensorSpec]:
    import torch

    from ..model.sam2 import SAM2

    names = {torch.float32: "F32"}
    with torch.device("meta"):
        state_dict = SAM2(config).state_dict()
    return {k: TensorSpec(names[t.dtype], tuple(t.shape)) for k, t in state_dict.items()}
