"""Find the SAM 2 state dict in an opened file and say what it is.

What the tensors cannot tell is left open here: it comes from a config, or stays unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from . import catalog
from .catalog import SHIPPED, Shipped
from .config_files import load_config, load_json, read_json
from .containers import Source, open_source
from .containers.source import tensors_of
from .dialects import DIALECTS, HF_IMAGE, HF_VIDEO
from .errors import RefusedError
from .hf import config_json
from .hf.folder import CONFIG
from .keymap import Fit, KeyMap, compile_keymap, foreign_name
from .model.config import ModelConfig
from .rules import Dialect
from .tensors import Inventory, TensorRef

# Tensors by whose names a state dict is found, the most telling first.
_ANCHORS = (
    "image_encoder.trunk.pos_embed_window",
    "image_encoder.trunk.patch_embed.proj.weight",
    "sam_mask_decoder.iou_token.weight",
)
_MEMORY = (
    "maskmem_tpos_enc",
    "memory_attention.norm.weight",
    "memory_encoder.out_proj.weight",
    "obj_ptr_proj.layers.1.weight",
)
GENERATION_TENSORS = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias")
_COMPILED = "_orig_mod."  # what torch.compile puts into names, anywhere
_MAX_DEPTH = 4


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
        if self.config is None:
            truth = catalog.shipped_tensors(self.shipped.name) if self.shipped else None
        else:
            truth = catalog.tensors_of(self.config)
        return compile_keymap(self.dialect, truth) if truth is not None else None

    @cached_property
    def fit(self) -> Fit | None:
        """How the tensors compare with what the map asks for."""
        return self.keymap.fit(self.inventory) if self.keymap else None


def open_checkpoint(path: str | Path, config: str | Path | ModelConfig | None = None) -> Checkpoint:
    """Open ``path``, reading headers only, and say what is in it.

    ``config`` (a shipped name, a file, or a :class:`ModelConfig`) takes precedence over the
    ``config.json`` of a folder, and that over what the tensors tell. Raises
    :class:`UnreadableError` and :class:`RefusedError`.
    """
    source = open_source(Path(path))
    found = _pick(source, list(_state_dicts(source.root)))
    checkpoint = _describe(source, found)
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


@dataclass(frozen=True)
class _Found:
    """A state dict within a file: the keys that lead to it and the prefix of its names."""

    path: tuple[str, ...]
    tensors: Mapping[str, TensorRef]
    prefix: str
    anchor: str

    @property
    def place(self) -> str:
        return ".".join(self.path) or "top level"


def _walk(root: Any) -> Iterator[tuple[tuple[str, ...], Mapping[str, TensorRef]]]:
    """Every dict that holds tensors, with the keys that lead to it; shared ones once."""
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    for path, node in waiting:
        if not isinstance(node, dict) or id(node) in seen:
            continue
        seen.add(id(node))
        tensors = tensors_of(node)
        if tensors is not None:
            yield path, tensors
        if len(path) < _MAX_DEPTH:
            waiting += [((*path, str(k)), v) for k, v in node.items() if isinstance(v, dict)]


def _state_dicts(root: Any) -> Iterator[_Found]:
    holders = list(_walk(root))
    for truth_name in _ANCHORS:
        names = {foreign_name(dialect, truth_name) for dialect in DIALECTS} - {None}
        hits = [
            _Found(path, tensors, name[: len(name) - len(_tail(name, anchor))], anchor)
            for path, tensors in holders
            for anchor in names
            if anchor is not None
            for name in tensors
            if _tail(name, anchor)
        ]
        if hits:
            yield from hits
            return
    if holders:
        path, tensors = max(holders, key=lambda holder: len(holder[1]))
        yield _Found(path, tensors, "", "")


def _tail(name: str, anchor: str) -> str:
    """The end of ``name`` that spells ``anchor``, or nothing. A compiled part may be within."""
    clean = name.replace(_COMPILED, "")
    if clean != anchor and not clean.endswith(f".{anchor}"):
        return ""
    start = len(name)
    while name[start:].replace(_COMPILED, "") != anchor:
        start -= 1
    return name[start:]


def _pick(source: Source, found: list[_Found]) -> _Found:
    if not found:
        raise RefusedError(f"{source.path}: holds no tensors by name")
    if len(found) > 1:
        places = ", ".join(f"{one.place} ({one.prefix or 'no prefix'})" for one in found)
        raise RefusedError(
            f"{source.path}: holds {len(found)} SAM 2 state dicts: {places}",
            hint="save the one you want to a file of its own",
        )
    return found[0]


def _describe(source: Source, found: _Found) -> Checkpoint:
    tensors: dict[str, TensorRef] = {}
    extras = _siblings(source.root, found.path)
    for name, ref in found.tensors.items():
        clean = name.removeprefix(found.prefix).replace(_COMPILED, "")
        if not name.startswith(found.prefix):
            extras.append(name)
        elif clean in tensors:
            raise RefusedError(f"{source.path}: {name} and another tensor are both {clean}")
        else:
            tensors[clean] = ref
    infix = any(_COMPILED in name.removeprefix(found.prefix) for name in found.tensors)
    wrappers = (*found.path, *filter(None, (found.prefix, _COMPILED if infix else "")))
    dialect = _dialect(tensors, found.anchor)
    shipped, generation = _shipped(tensors, dialect) if dialect else (None, None)
    return Checkpoint(source, tensors, wrappers, tuple(extras), dialect, shipped, generation)


def _siblings(root: Any, path: tuple[str, ...]) -> list[str]:
    """What stands beside the state dict, and in it without being a tensor."""
    extras: list[str] = []
    node = root
    for key in path:
        extras += [str(other) for other in node if str(other) != key]
        node = next(value for other, value in node.items() if str(other) == key)
    return extras + [str(k) for k, v in node.items() if not isinstance(v, TensorRef)]


def _dialect(tensors: Mapping[str, TensorRef], anchor: str) -> Dialect | None:
    """The dialect with that anchor; of several, the one with a place for just what is there."""
    fitting = [d for d in DIALECTS if anchor in {foreign_name(d, name) for name in _ANCHORS}]
    for dialect in fitting:
        marks = {foreign_name(dialect, name) for name in _MEMORY}
        if marks == {None} or any(mark in tensors for mark in marks):
            return dialect
    return fitting[0] if fitting else None


def _shipped(
    tensors: Mapping[str, TensorRef], dialect: Dialect
) -> tuple[Shipped | None, str | None]:
    """The shipped config of that size and generation, and the generation if it can be told."""
    widths = {
        tensors[name].spec.shape[axis]
        for truth_name, axis in ((_ANCHORS[0], 1), (_ANCHORS[1], 0))
        if (name := foreign_name(dialect, truth_name)) in tensors
        and len(tensors[name].spec.shape) > axis
    }
    start = (foreign_name(dialect, "image_encoder.trunk.blocks.0.attn") or "").partition("0.")[0]
    numbers = [name.removeprefix(start).partition(".")[0] for name in tensors if start in name]
    blocks = 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)
    marks = [foreign_name(dialect, name) for name in GENERATION_TENSORS]
    generation = None
    if None not in marks:
        generation = "2.1" if sum(mark in tensors for mark in marks) >= 2 else "2.0"
    for shipped in SHIPPED:
        same_size = {shipped.embed_dim} == widths and shipped.blocks == blocks
        if same_size and generation in (None, shipped.generation):
            return shipped, generation
    return None, generation


def _with_json(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """Let the ``config.json`` of a folder decide what the tensors do not tell."""
    config = load_json(path)
    content = read_json(path)
    kind = config_json.model_type(content)
    dialect = checkpoint.dialect
    if dialect in (HF_VIDEO, HF_IMAGE):
        dialect = HF_VIDEO if kind == "sam2_video" else HF_IMAGE
    return replace(
        checkpoint,
        dialect=dialect,
        config=config,
        config_from=CONFIG,
        generation=config.generation if config_json.states_generation(content) else None,
        shipped=catalog.shipped_like(config),
    )
