"""Find the SAM 2 state dict in a file: under keys, behind prefixes, between compiled parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..dialects import DIALECTS
from ..dialects.keymap import target_name
from ..errors import RefusedError
from ..io.open import Source
from ..io.source import tensors_of
from ..io.tensor import TensorRef

# Tensors by whose names a state dict is found, the most characteristic first.
ANCHORS = (
    "image_encoder.trunk.pos_embed_window",
    "image_encoder.trunk.patch_embed.proj.weight",
    "sam_mask_decoder.iou_token.weight",
)
COMPILED = "_orig_mod."  # what torch.compile puts into names, anywhere
MAX_DEPTH = 4
TOP = "."  # what ``weights`` calls the top level of a file
_AVERAGED = {"ema", "averaged", "swa", "shadow"}  # words in the names of averaged weights
_TRAINED = "current_model_state"  # beside Lightning's averages, which are then its state_dict
_KINDS = {"ema": True, "model": False}


@dataclass(frozen=True)
class Unwrapped:
    """A state dict, its names without what wrappers put before and into them.

    Attributes:
        tensors: name -> tensor, in the order of the file.
        wrappers: keys and prefixes that were removed, from the outside in.
        extras: names of what else is in the file.
        anchor: the name by which the state dict was found; empty when it has no known name.
        stubs: name -> value of what stands between the tensors without being one.
    """

    tensors: Mapping[str, TensorRef]
    wrappers: tuple[str, ...]
    extras: tuple[str, ...]
    anchor: str
    stubs: Mapping[str, Any]


def unwrap(source: Source, *, weights: str | None = None, prefix: str | None = None) -> Unwrapped:
    """Find the SAM 2 state dict in a file.

    Args:
        source: the file.
        weights: which of several state dicts to take: the keys that lead to it (``model``, ``a.b``,
            ``.`` for the top level), ``ema`` for averaged weights, or ``model`` for the others.
        prefix: the prefix of the names in the state dict to take.

    Returns:
        The only state dict, or the one that was asked for. Without any known name in the file, the
        one with the most tensors.

    Raises:
        RefusedError: when several state dicts remain, none does, or the file holds no tensors by
            name.
    """
    candidates = list(_state_dicts(source.root))
    found = _pick(source, candidates, weights, prefix)
    longer = [one.prefix for one in candidates if one.path == found.path]
    others = tuple(p for p in longer if p != found.prefix and p.startswith(found.prefix))
    tensors: dict[str, TensorRef] = {}
    extras = _siblings(source.root, found.path)
    for name, ref in found.tensors.items():
        clean = name.removeprefix(found.prefix).replace(COMPILED, "")
        if not name.startswith(found.prefix) or name.startswith(others):
            extras.append(name)
        elif clean in tensors:
            raise RefusedError(f"{source.path}: {name} and another tensor are both {clean}")
        else:
            tensors[clean] = ref
    infix = any(COMPILED in name.removeprefix(found.prefix) for name in found.tensors)
    wrappers = (*found.path, *filter(None, (found.prefix, COMPILED if infix else "")))
    stubs = {
        name.removeprefix(found.prefix).replace(COMPILED, ""): value
        for name, value in _node(source.root, found.path).items()
        if isinstance(name, str) and not isinstance(value, TensorRef)
    }
    return Unwrapped(tensors, wrappers, tuple(extras), found.anchor, stubs)


@dataclass(frozen=True)
class _Found:
    """A state dict within a file: the keys that lead to it and the prefix of its names."""

    path: tuple[str, ...]
    tensors: Mapping[str, TensorRef]
    prefix: str
    anchor: str
    swapped: bool = False  # by Lightning, which then has the average in place of the model

    @property
    def place(self) -> str:
        """The keys that lead to it, as they are given with ``weights``."""
        return ".".join(self.path) or TOP

    @property
    def averaged(self) -> bool:
        """Whether these are weights averaged over a training."""
        words = {word for key in (*self.path, self.prefix) for word in re.split("[._]", key)}
        return self.swapped or not words.isdisjoint(_AVERAGED) or "n_averaged" in self.tensors


def walk(root: Any) -> Iterator[tuple[tuple[str, ...], Mapping[str, TensorRef]]]:
    """Find every dict in a file that holds tensors.

    Args:
        root: the tree of nested dicts, at most ``MAX_DEPTH`` levels deep.

    Yields:
        The keys that lead to the dict, and its tensors by name. A dict that is held twice comes
        once.
    """
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    for path, node in waiting:
        if not isinstance(node, dict) or id(node) in seen:
            continue
        seen.add(id(node))
        tensors = tensors_of(node)
        if tensors is not None:
            yield path, tensors
        if len(path) < MAX_DEPTH:
            waiting += [((*path, str(k)), v) for k, v in node.items() if isinstance(v, dict)]


def _state_dicts(root: Any) -> Iterator[_Found]:
    """Each state dict with an anchor, once; if there is none, the one with the most tensors."""
    holders = list(walk(root))
    found: dict[tuple[tuple[str, ...], str], _Found] = {}
    for truth_name in ANCHORS:
        # The longest first: the name in one dialect may be the end of the name in another.
        anchors = sorted(_names_of(truth_name), key=len, reverse=True)
        ends = tuple(anchors)
        for path, tensors in holders:
            for name in tensors:
                if not name.replace(COMPILED, "").endswith(ends):
                    continue
                anchor = next((one for one in anchors if _tail(name, one)), "")
                prefix = name[: len(name) - len(_tail(name, anchor))]
                if anchor and (path, prefix) not in found:
                    swapped = path == ("state_dict",) and _TRAINED in root
                    found[path, prefix] = _Found(path, tensors, prefix, anchor, swapped)
    if holders and not found:
        path, tensors = max(holders, key=lambda holder: len(holder[1]))
        yield _Found(path, tensors, "", "")
    yield from found.values()


def _names_of(truth_name: str) -> set[str]:
    """What the dialects call an anchor. For a trunk alone only the first anchor is unmistakable."""
    dialects = [d for d in DIALECTS if d.task != "trunk" or truth_name == ANCHORS[0]]
    return {name for d in dialects if (name := target_name(d, truth_name)) is not None}


def _tail(name: str, anchor: str) -> str:
    """The end of ``name`` that equals ``anchor`` without ``COMPILED``, or an empty string."""
    clean = name.replace(COMPILED, "")
    if clean != anchor and not clean.endswith(f".{anchor}"):
        return ""
    start = len(name)
    while name[start:].replace(COMPILED, "") != anchor:
        start -= 1
    return name[start:]


def _pick(source: Source, found: list[_Found], weights: str | None, prefix: str | None) -> _Found:
    """The state dict that is asked for, if exactly one remains."""
    if not found:
        makers = ", ".join(source.placeholders[:3])
        what = makers and f"; its values are made by {makers}, which this tool does not run"
        raise RefusedError(f"{source.path}: holds no tensors by name{what}")
    left = found
    if prefix is not None:
        left = [one for one in left if one.prefix.rstrip(".") == prefix.rstrip(".")]
    if weights is not None:
        named = [one for one in left if one.place == weights]
        left = named or [one for one in left if _KINDS.get(weights) is one.averaged]
    if len(left) == 1:
        return left[0]
    asked = " ".join(
        f"`{argument}={value}`"
        for argument, value in (("weights", weights), ("prefix", prefix))
        if value is not None
    )
    places = ", ".join(f"{one.place} ({one.prefix or 'no prefix'})" for one in left or found)
    if left:
        problem = f"holds {len(left)} SAM 2 state dicts{asked and f' for {asked}'}: {places}"
    else:
        problem = f"holds no state dict for {asked}; there is {places}"
    raise RefusedError(
        f"{source.path}: {problem}",
        hint="inspect, validate and convert choose one with "
        + " or ".join(_options(one, found) for one in left or found),
    )


def _options(one: _Found, found: Sequence[_Found]) -> str:
    """The options that choose this state dict."""
    same_place = [other for other in found if other.place == one.place]
    if len(same_place) == 1:
        return f"`weights={one.place}`"
    alone = sum(other.prefix == one.prefix for other in found) == 1
    return f"{'' if alone else f'`weights={one.place}` '}`prefix={one.prefix}`"


def _node(root: Any, path: tuple[str, ...]) -> Any:
    """The value that these keys lead to."""
    for key in path:
        root = next(value for other, value in root.items() if str(other) == key)
    return root


def _siblings(root: Any, path: tuple[str, ...]) -> list[str]:
    """Names of what is beside the state dict, and of what is in it and is not a tensor."""
    extras: list[str] = []
    for key in path:
        extras += [str(other) for other in root if str(other) != key]
        root = _node(root, (key,))
    return extras + [str(k) for k, v in root.items() if not isinstance(v, TensorRef)]
