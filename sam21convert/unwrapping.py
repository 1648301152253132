"""Find the SAM 2 state dict in a file: under keys, behind prefixes, between compiled parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .containers import Source
from .containers.source import tensors_of
from .dialects import DIALECTS
from .errors import RefusedError
from .keymap import foreign_name
from .tensors import TensorRef

# Tensors by whose names a state dict is found, the most telling first.
ANCHORS = (
    "image_encoder.trunk.pos_embed_window",
    "image_encoder.trunk.patch_embed.proj.weight",
    "sam_mask_decoder.iou_token.weight",
)
COMPILED = "_orig_mod."  # what torch.compile puts into names, anywhere
_MAX_DEPTH = 4


@dataclass(frozen=True)
class Unwrapped:
    """A state dict, its names freed of what wrappers put before and into them.

    ``anchor`` is the name by which it was found, empty when it has none that is known; ``extras``
    names what else stands in the file.
    """

    tensors: Mapping[str, TensorRef]
    wrappers: tuple[str, ...]
    extras: tuple[str, ...]
    anchor: str


def unwrap(source: Source) -> Unwrapped:
    """The only SAM 2 state dict in ``source``.

    Raises :class:`RefusedError` when there are several, or no named tensors at all.
    """
    found = _pick(source, list(_state_dicts(source.root)))
    tensors: dict[str, TensorRef] = {}
    extras = _siblings(source.root, found.path)
    for name, ref in found.tensors.items():
        clean = name.removeprefix(found.prefix).replace(COMPILED, "")
        if not name.startswith(found.prefix):
            extras.append(name)
        elif clean in tensors:
            raise RefusedError(f"{source.path}: {name} and another tensor are both {clean}")
        else:
            tensors[clean] = ref
    infix = any(COMPILED in name.removeprefix(found.prefix) for name in found.tensors)
    wrappers = (*found.path, *filter(None, (found.prefix, COMPILED if infix else "")))
    return Unwrapped(tensors, wrappers, tuple(extras), found.anchor)


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


def walk(root: Any) -> Iterator[tuple[tuple[str, ...], Mapping[str, TensorRef]]]:
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
    holders = list(walk(root))
    for truth_name in ANCHORS:
        # The longest first: a dialect's whole name may be the end of another's.
        anchors = sorted(_names_of(truth_name), key=len, reverse=True)
        hits = [
            _Found(path, tensors, name[: len(name) - len(_tail(name, anchor))], anchor)
            for path, tensors in holders
            for name in tensors
            for anchor in [next((one for one in anchors if _tail(name, one)), "")]
            if anchor
        ]
        if hits:
            yield from hits
            return
    if holders:
        path, tensors = max(holders, key=lambda holder: len(holder[1]))
        yield _Found(path, tensors, "", "")


def _names_of(truth_name: str) -> set[str]:
    """What the dialects call an anchor. Of a trunk alone, only the first is telling."""
    dialects = [d for d in DIALECTS if d.task != "trunk" or truth_name == ANCHORS[0]]
    return {name for d in dialects if (name := foreign_name(d, truth_name)) is not None}


def _tail(name: str, anchor: str) -> str:
    """The end of ``name`` that spells ``anchor``, or nothing. A compiled part may be within."""
    clean = name.replace(COMPILED, "")
    if clean != anchor and not clean.endswith(f".{anchor}"):
        return ""
    start = len(name)
    while name[start:].replace(COMPILED, "") != anchor:
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


def _siblings(root: Any, path: tuple[str, ...]) -> list[str]:
    """What stands beside the state dict, and in it without being a tensor."""
    extras: list[str] = []
    node = root
    for key in path:
        extras += [str(other) for other in node if str(other) != key]
        node = next(value for other, value in node.items() if str(other) == key)
    return extras + [str(k) for k, v in node.items() if not isinstance(v, TensorRef)]
