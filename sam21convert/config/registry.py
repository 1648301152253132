"""The configs that ship with the package, and the tensors of the model each one describes.

Nothing here imports torch for a shipped config, whose tensors are listed in a text file beside its
YAML. Only a config with tensors unlike those of any shipped one is built, on the meta device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..configs import ROOT
from ..io.tensor import OF_TORCH, TensorSpec
from ..model.config import Generation, ModelConfig
from .skeleton import skeleton


@dataclass(frozen=True, slots=True)
class Shipped:
    """A shipped config, and the facts by which its checkpoints are recognised.

    Attributes:
        name: the path of its YAML below ``configs/`` without the suffix, as in
            ``sam2.1/sam2.1_hiera_t``.
        size: ``tiny``, ``small``, ``base_plus``, ``large``, or ``debug`` for the small test models.
        generation: ``"2.0"`` or ``"2.1"``.
        embed_dim: the number of channels in the first stage of the trunk.
        blocks: the number of blocks in the trunk.
    """

    name: str
    size: str
    generation: Generation
    embed_dim: int
    blocks: int

    @property
    def folder(self) -> Path:
        """The folder that holds its YAML and the list of its tensors."""
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


# Further spellings of a size, without separators.
_SPELLINGS = {"b": "b+", "base": "b+", "bplus": "b+", "baseplus": "b+"}
_ALIAS = re.compile(r"sam[-_]?2(?:[._-]?(?P<minor>[01]))?[-_](?:hiera[-_])?(?P<size>[a-z_+-]+)")


def find(name: str) -> Shipped | None:
    """Find a shipped config by any of its names.

    Args:
        name: for example ``sam2.1/sam2.1_hiera_t``, ``sam2.1_hiera_t``, ``sam2.1_hiera_tiny``,
            ``sam2.1-hiera-base-plus``, ``sam2.1_b``, the official repository on the Hub, or the
            path in the official code, ``configs/sam2.1/sam2.1_hiera_t.yaml``.

    Returns:
        The shipped config, or None when there is none of this name.
    """
    stem = name.removeprefix("configs/").removesuffix(".yaml")
    folder, _, short = stem.rpartition("/")
    for shipped in SHIPPED:
        if stem in (shipped.name, shipped.name.rpartition("/")[2]):
            return shipped
    alias = _ALIAS.fullmatch(short.lower())
    if alias is None:
        return None
    size = re.sub(r"[-_]", "", alias["size"].replace("+", "plus"))
    _, home = _GENERATIONS[0 if alias["minor"] == "1" else 1]
    letter = {**{word: letter for letter, word, *_ in _SIZES}, **_SPELLINGS}.get(size, size)
    known = folder in ("", "facebook", home)
    return BY_NAME.get(f"{home}/{home}_hiera_{letter}") if known else None


@cache
def shipped_config(name: str) -> ModelConfig:
    """Load a shipped config.

    Args:
        name: its full name, a key of ``BY_NAME``.

    Returns:
        The config.
    """
    from .plain_yaml import load_yaml

    return load_yaml(ROOT / f"{name}.yaml")


@cache
def shipped_tensors(name: str) -> dict[str, TensorSpec]:
    """List the tensors of the model that a shipped config describes.

    Args:
        name: the full name of the config, a key of ``BY_NAME``.

    Returns:
        Canonical name to type and shape, in the order of the state dict. The dict is cached: do
        not change it.
    """
    lines = (ROOT / f"{name}.tensors.txt").read_text().splitlines()
    return dict(map(parse_line, lines))


def parse_line(line: str) -> tuple[str, TensorSpec]:
    """Parse one line of a list of tensors.

    Args:
        line: name, type and shape, as in ``no_mem_embed F32 1x1x256``.

    Returns:
        The name, and the type and shape.
    """
    name, dtype, shape = line.split(" ")
    return name, TensorSpec(dtype, tuple(map(int, shape.split("x"))))


def format_line(name: str, spec: TensorSpec) -> str:
    """Write one line of a list of tensors; the inverse of :func:`parse_line`.

    Args:
        name: the canonical name of the tensor.
        spec: its type and shape.

    Returns:
        The line, without a line break.
    """
    return f"{name} {spec.dtype} {'x'.join(map(str, spec.shape))}"


def tensors_of(config: ModelConfig) -> dict[str, TensorSpec]:
    """List the tensors of the model that a config describes.

    Args:
        config: any config. When no shipped one has the same tensors, torch is imported and the
            model is built on the meta device.

    Returns:
        Canonical name to type and shape, in the order of the state dict.
    """
    shipped = shipped_like(config)
    return shipped_tensors(shipped.name) if shipped else _build(config)


def shipped_like(config: ModelConfig) -> Shipped | None:
    """Find the shipped config whose model has the same tensors.

    Args:
        config: any config; settings that shape no tensor, such as the image size, may differ.

    Returns:
        The shipped config, or None when the tensors of all of them differ in name or shape.
    """
    for shipped in SHIPPED:
        same_size = (shipped.embed_dim, shipped.blocks) == (
            config.trunk.embed_dim,
            config.trunk.depth,
        )
        if same_size and shipped.generation == config.generation:
            return shipped if _shaping(shipped_config(shipped.name)) == _shaping(config) else None
    return None


def _shaping(config: ModelConfig) -> tuple[object, ...]:
    """The settings that decide the names and shapes of the tensors."""
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
    from ..packages import require

    require("torch", "a size that is not published")
    from ..model.sam2 import SAM2

    state_dict = skeleton(lambda: SAM2(config)).state_dict()
    return {
        name: TensorSpec(OF_TORCH[str(tensor.dtype).removeprefix("torch.")], tuple(tensor.shape))
        for name, tensor in state_dict.items()
    }
