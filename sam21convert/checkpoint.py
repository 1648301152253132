"""Open a checkpoint and say what it is.

What the tensors cannot tell is left open here: it comes from a config, or stays unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from . import catalog
from .adapters import refuse_adapter, refuse_factors
from .catalog import SHIPPED, Shipped
from .config_files import load_config, naming, read_json
from .containers import Source, open_source
from .containers.checking import same_bytes
from .dialects import DIALECTS, HF_IMAGE, HF_VIDEO, MLX, TIMM
from .errors import RefusedError
from .hf import config_json
from .hf.folder import CONFIG
from .keymap import Fit, KeyMap, compile_keymap, foreign_name
from .model.config import Generation, ModelConfig
from .references import locate
from .rules import Dialect
from .tensors import Inventory, TensorRef
from .timm_config import generation_of
from .unwrapping import ANCHORS, Unwrapped, unwrap

_MEMORY = (
    "maskmem_tpos_enc",
    "memory_attention.norm.weight",
    "memory_encoder.out_proj.weight",
    "obj_ptr_proj.layers.1.weight",
)
GENERATION_TENSORS = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias")


@cache
def shipped_keymap(dialect: Dialect, shipped: Shipped) -> KeyMap:
    """The map of a dialect for a shipped config, compiled once."""
    return compile_keymap(dialect, catalog.shipped_tensors(shipped.name))


@dataclass(frozen=True)
class Checkpoint:
    """A state dict in a file, its names freed of what wrappers put before and into them.

    ``shipped`` is the shipped config whose tensors it has, by size and, where known, generation.
    ``config`` is what a config file says, or the caller; None when only the tensors speak.
    """

    source: Source
    tensors: Mapping[str, TensorRef]
    wrappers: tuple[str, ...]
    extras: tuple[str, ...]
    dialect: Dialect | None
    shipped: Shipped | None
    generation: str | None
    config: ModelConfig | None = None
    config_from: str | None = None

    @property
    def inventory(self) -> Inventory:
        """Type and shape of each tensor."""
        return {name: ref.spec for name, ref in self.tensors.items()}

    @property
    def model_config(self) -> ModelConfig | None:
        """The config given or found, else that of the shipped model with these tensors."""
        if self.config is not None or self.shipped is None:
            return self.config
        return catalog.shipped_config(self.shipped.name)

    @cached_property
    def keymap(self) -> KeyMap | None:
        """The map from its dialect to the ground truth, when dialect and model are known."""
        if self.dialect is None:
            return None
        if self.shipped is not None:
            return shipped_keymap(self.dialect, self.shipped)
        if self.config is not None:
            return compile_keymap(self.dialect, catalog.tensors_of(self.config))
        return None

    @cached_property
    def fit(self) -> Fit | None:
        """How the tensors compare with what the map asks for."""
        return self.keymap.fit(self.inventory) if self.keymap else None


def open_checkpoint(path: str | Path, config: str | Path | ModelConfig | None = None) -> Checkpoint:
    """Open ``path``, reading headers only, and say what is in it.

    ``path`` is all that :func:`~sam21convert.references.locate` takes, and raises what that does.
    ``config`` (a shipped name, a file, or a :class:`ModelConfig`) takes precedence over the
    ``config.json`` of a folder, and that over what the tensors tell. Raises
    :class:`UnreadableError` and :class:`RefusedError`.
    """
    place = locate(path)
    refuse_adapter(place)
    source = open_source(place)
    found = unwrap(source)
    refuse_factors(source.path, found.tensors)
    dialect = _dialect(found, source)
    shipped, generation = _shipped(found.tensors, dialect) if dialect else (None, None)
    checkpoint = Checkpoint(
        source, found.tensors, found.wrappers, found.extras, dialect, shipped, generation
    )
    beside = source.path / CONFIG
    if source.path.is_dir() and beside.is_file():
        checkpoint = _with_json(checkpoint, beside)
    if config is not None:
        given = config if isinstance(config, ModelConfig) else load_config(config)
        checkpoint = replace(
            checkpoint,
            config=given,
            config_from="the caller" if isinstance(config, ModelConfig) else str(config),
            generation=given.generation,
            shipped=catalog.shipped_like(given),
        )
    return checkpoint


def unequal_copies(checkpoint: Checkpoint) -> list[str]:
    """Tensors held twice whose copies differ, a line each. Reads both; misshapen ones are left."""
    if checkpoint.fit is None:
        return []
    refs, misshapen = checkpoint.tensors, {name for name, _, _ in checkpoint.fit.misshapen}
    return [
        f"{one} and {other} should be equal and differ"
        for one, other in checkpoint.fit.repeats
        if not {one, other} & misshapen and not same_bytes(refs[one], refs[other])
    ]


def _dialect(found: Unwrapped, source: Source) -> Dialect | None:
    """The dialect with that anchor; of several, the one with a place for just what is there.

    Raises :class:`RefusedError` when the shapes are not of the layout that the file records.
    """
    named = [d for d in DIALECTS if found.anchor in {foreign_name(d, name) for name in ANCHORS}]
    fitting = [d for d in named if _has_layout(d, found.tensors)] or named
    layouts = [dict(d.metadata).get("layout") for d in fitting]
    recorded = source.metadata.get("layout")
    if recorded in dict(MLX.metadata).values() and recorded not in layouts:
        raise RefusedError(
            f"{source.path}: records the layout {recorded}, and its tensors have another",
            hint="something transposed them without saying so: go back to the file before that",
        )
    for dialect in fitting:
        marks = {foreign_name(dialect, name) for name in _MEMORY}
        if marks == {None} or any(mark in found.tensors for mark in marks):
            return dialect
    return fitting[0] if fitting else None


def _has_layout(dialect: Dialect, tensors: Mapping[str, TensorRef]) -> bool:
    """Whether the first convolution, if it is there, has its 3 input channels in their place."""
    name = foreign_name(dialect, ANCHORS[1]) or ""
    turned = {permute.truth: permute.axes for permute in dialect.permutes}
    axes = turned.get(ANCHORS[1], (0, 1, 2, 3))
    shape = tensors[name].spec.shape if name in tensors else ()
    return len(shape) != 4 or shape[axes.index(1)] == 3


def _shipped(
    tensors: Mapping[str, TensorRef], dialect: Dialect
) -> tuple[Shipped | None, str | None]:
    """The shipped config of that size and generation, and the generation if it can be told."""
    shapes = [
        (tensors[name].spec.shape, axis)
        for truth_name, axis in ((ANCHORS[0], 1), (ANCHORS[1], 0))
        if (name := foreign_name(dialect, truth_name) or "") in tensors
    ]
    widths = {shape[axis] for shape, axis in shapes if len(shape) > axis}
    start = (foreign_name(dialect, "image_encoder.trunk.blocks.0.attn") or "").partition("0.")[0]
    numbers = [name.removeprefix(start).partition(".")[0] for name in tensors if start in name]
    blocks = 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)
    marks = [foreign_name(dialect, name) for name in GENERATION_TENSORS]
    generation = None
    memory = [foreign_name(dialect, name) for name in _MEMORY]
    if None not in marks and any(name in tensors for name in memory):
        generation = "2.1" if sum(mark in tensors for mark in marks) >= 2 else "2.0"
    for shipped in SHIPPED:
        same_size = {shipped.embed_dim} == widths and shipped.blocks == blocks
        if same_size and generation in (None, shipped.generation):
            return shipped, generation
    return None, generation


def _with_json(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """Let the ``config.json`` of a folder decide what the tensors do not tell."""
    content = read_json(path)
    if checkpoint.dialect is TIMM:
        return _with_timm(checkpoint, generation_of(content))
    with naming(path):
        video = config_json.model_type(content) == "sam2_video"
        like = None if video else checkpoint.model_config
        config = config_json.from_json(content, like)
        states_generation = config_json.states_generation(content)
    dialect = checkpoint.dialect
    if dialect in (HF_VIDEO, HF_IMAGE):
        dialect = HF_VIDEO if video else HF_IMAGE
    return replace(
        checkpoint,
        dialect=dialect,
        config=config,
        config_from=CONFIG,
        generation=config.generation if states_generation else None,
        shipped=catalog.shipped_like(config),
    )


def _with_timm(checkpoint: Checkpoint, generation: Generation | None) -> Checkpoint:
    """What timm's ``config.json`` adds: the generation, in the tag. Image sizes it takes as any."""
    shipped = checkpoint.shipped
    if shipped is not None and generation is not None:
        model = replace(catalog.shipped_config(shipped.name), generation=generation)
        shipped = catalog.shipped_like(model)
    source = replace(checkpoint.source, container="timm folder")
    return replace(checkpoint, source=source, generation=generation, shipped=shipped)
