"""Find the SAM 2 state dict in a file: under keys, behind prefixes, between compiled parts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from ..dialects import DIALECTS
from ..dialects.keymap import target_name
from ..errors import RefusedError, call_of
from ..io.open import Source
from ..io.source import tensors_of
from ..io.tensor import TensorRef
from .parts import (
    MAX_IN_ONE,
    bare,
    parts_alone,
    with_own_names,
    within_a_model,
    wrapped_in,
)

# Tensors by whose names a state dict is found, the most characteristic first.
ANCHORS = (
    "image_encoder.trunk.pos_embed_window",
    "image_encoder.trunk.patch_embed.proj.weight",
    "sam_mask_decoder.iou_token.weight",
)
MAX_DEPTH = 4
_MAX_JOINED = 50
_MAX_TREE = 16  # levels of a model that is a tree of dicts, one for each module
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
        extras: names of what else is in the file, tensors first.
        extra_tensors: those of ``extras`` that are tensors, or hold some by name.
        is_known: whether it has names of SAM 2.
        stubs: name -> value of what stands between the tensors without being one.
        parts: the parts of a model that it holds, in words; none for a whole model.
        notes: what was put before the names of parts, a sentence each.
    """

    tensors: Mapping[str, TensorRef]
    wrappers: tuple[str, ...]
    extras: tuple[str, ...]
    extra_tensors: tuple[str, ...]
    is_known: bool
    stubs: Mapping[str, Any]
    parts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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
    found = _pick(source, list(_state_dicts(source.root)), weights, prefix)
    tensors: dict[str, TensorRef] = {}
    for name, clean in found.names.items():
        if clean in tensors:
            raise RefusedError(f"{source.path}: {name} and another tensor are both {clean}")
        tensors[clean] = found.tensors[name]
    inside = (wrapped_in(name.removeprefix(found.prefix)) for name in found.names)
    wrappers = (*found.path, *filter(None, (found.prefix, *dict.fromkeys(inside))))
    left = [name for name in found.tensors if name not in found.names]
    beside = _siblings(source.root, found)
    holding = [name for name, value in beside if _holds_tensors(value)]
    stubs = {
        bare(name.removeprefix(found.prefix)): value
        for name, value in _node(source.root, found.path).items()
        if isinstance(name, str) and not isinstance(value, TensorRef)
    }
    return Unwrapped(
        tensors,
        wrappers,
        extras=(*left, *holding, *(n for n, value in beside if not _holds_tensors(value))),
        extra_tensors=(*left, *holding),
        is_known=found.is_known,
        stubs=stubs,
        parts=() if found.is_whole else tuple(found.parts),
        notes=tuple(_renamings(found)),
    )


@dataclass(frozen=True)
class _Found:
    """A state dict within a file: the keys that lead to it, and the names of its tensors.

    ``names`` maps those in ``tensors`` to those in a model; others are not part of it. ``parts``
    are parts of a model: what their names begin with here, and in a whole one.
    """

    path: tuple[str, ...]
    tensors: Mapping[str, TensorRef]
    prefix: str
    names: Mapping[str, str]
    is_known: bool = True
    is_whole: bool = True
    parts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    swapped: bool = False  # by Lightning, which then has the average in place of the model

    @property
    def place(self) -> str:
        """The keys that lead to it, as they are given with ``weights``."""
        return ".".join(self.path) or TOP

    @property
    def averaged(self) -> bool:
        """Whether these are weights averaged over a training."""
        words = {word for key in (*self.path, self.prefix) for word in _words(key)}
        return self.swapped or not words.isdisjoint(_AVERAGED) or "n_averaged" in self.tensors


def walk(
    root: Any, depth: int = MAX_DEPTH
) -> Iterator[tuple[tuple[str, ...], Mapping[str, TensorRef]]]:
    """Find every dict in a file that holds tensors.

    Args:
        root: the tree of nested dicts.
        depth: how many levels of it are looked at.

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
        if len(path) < depth:
            waiting += [((*path, str(k)), v) for k, v in node.items() if isinstance(v, dict)]


def _state_dicts(root: Any) -> Iterator[_Found]:
    """Each state dict with names of SAM 2; if there is none, the one with the most tensors."""
    holders = list(walk(root))
    found = list(_whole(holders))
    for path, tensors in holders:
        inside = [one for one in found if one.path == path and one.is_whole]
        others = [n for n in tensors if not any(n in one.names for one in inside)]
        found += [
            _Found(path, tensors, one.prefix, one.names, True, not one.parts, one.parts)
            for one in parts_alone(others, DIALECTS)
        ]
    found = _joined(root, found) or list(_some(holders))
    if holders and not found:
        path, tensors = max(holders, key=lambda holder: len(holder[1]))
        names = {name: bare(name) for name in tensors}
        yield _Found(path, tensors, "", names, is_known=False)
    for one in found:
        swapped = one.path == ("state_dict",) and _TRAINED in root
        yield replace(one, swapped=True) if swapped else one


def _whole(holders: Sequence[tuple[tuple[str, ...], Mapping[str, TensorRef]]]) -> Iterator[_Found]:
    """Each state dict with the names of a whole model, or of a part with its full names."""
    prefixes: dict[tuple[str, ...], dict[str, None]] = {}
    ends = tuple(end for truth_name in ANCHORS for end in _names_of(truth_name))
    likely = [(path, [n for n in refs if bare(n).endswith(ends)]) for path, refs in holders]
    for truth_name in ANCHORS:
        # The longest first: the name in one dialect may be the end of the name in another.
        anchors = sorted(_names_of(truth_name), key=len, reverse=True)
        for path, names_there in likely:
            for name in names_there:
                anchor = next((one for one in anchors if _tail(name, one)), "")
                if anchor:
                    prefix = name[: len(name) - len(_tail(name, anchor))]
                    prefixes.setdefault(path, {})[prefix] = None
    for path, tensors in holders:
        several = list(prefixes.get(path, ()))[:MAX_IN_ONE]
        for prefix in several:
            longer = tuple(p for p in several if p != prefix and p.startswith(prefix))
            clean = {
                name: bare(name.removeprefix(prefix))
                for name in tensors
                if name.startswith(prefix) and not name.startswith(longer)
            }
            own = with_own_names(list(clean.values()), DIALECTS)
            names = {name: own.names[short] for name, short in clean.items()}
            yield _Found(path, tensors, prefix, names, parts=own.parts)


def _some(holders: Sequence[tuple[tuple[str, ...], Mapping[str, TensorRef]]]) -> Iterator[_Found]:
    """Dicts that have no part as a whole, but nothing else than tensors with their full names.

    Programs that save what was trained leave such: a neck, the attention of a decoder.
    """
    for path, tensors in holders:
        placed = within_a_model(list(tensors), DIALECTS)
        if placed is not None:
            yield _Found(path, tensors, placed.prefix, placed.names, True, False, placed.parts)


def _joined(root: Any, found: list[_Found]) -> list[_Found]:
    """The state dicts, with parts of one model that stand under keys side by side put together."""
    if len(found) > _MAX_JOINED or all(one.is_whole for one in found):
        return found
    holders = list(walk(root, _MAX_TREE))
    parents = {one.path[:end] for one in found if not one.is_whole for end in range(len(one.path))}
    for parent in sorted(parents, key=len):
        below = [one for one in found if one.path[: len(parent)] == parent]
        if not below or any(one.is_whole or one.path == parent for one in below):
            continue
        flat = {
            ".".join((*path[len(parent) :], name)): (path, name, ref)
            for path, tensors in holders
            if path[: len(parent)] == parent
            for name, ref in tensors.items()
        }
        placed = parts_alone(flat, DIALECTS)
        if len(placed) != 1:
            continue
        taken = {flat[name][0][: len(parent) + 1] for name in placed[0].names}
        averaged = [not _AVERAGED.isdisjoint(_words(path[-1])) for path in taken if path != parent]
        if len(taken) > 1 and len(set(averaged)) == 1:
            tensors = {
                name: flat[name][2] for name in flat if flat[name][0][: len(parent) + 1] in taken
            }
            joined = _Found(parent, tensors, "", placed[0].names, True, False, placed[0].parts)
            found = [one for one in found if one not in below] + [joined]
    return found


@cache
def _names_of(truth_name: str) -> frozenset[str]:
    """What the dialects of whole models call an anchor."""
    names = (target_name(dialect, truth_name) for dialect in DIALECTS if dialect.task != "trunk")
    return frozenset(name for name in names if name is not None)


def _words(key: str) -> set[str]:
    return set(re.split("[._]", key))


def _tail(name: str, anchor: str) -> str:
    """The end of ``name`` that equals ``anchor`` when it is bare, or an empty string."""
    clean = bare(name)
    if clean != anchor and not clean.endswith(f".{anchor}"):
        return ""
    start = len(name)
    while bare(name[start:]) != anchor:
        start -= 1
    return name[start:]


def _pick(source: Source, found: list[_Found], weights: str | None, prefix: str | None) -> _Found:
    """The state dict that is asked for, if exactly one remains."""
    if not found:
        raise _nothing_by_name(source)
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
    places = ", ".join(
        f"{one.place} ({', '.join([one.prefix or 'no prefix', *_parts_of(one)])})"
        for one in left or found
    )
    if left:
        problem = f"holds {len(left)} SAM 2 state dicts{asked and f' for {asked}'}: {places}"
    else:
        problem = f"holds no state dict for {asked}; there is {places}"
    raise RefusedError(
        f"{source.path}: {problem}",
        hint="choose one with "
        + " or ".join(
            call_of("convert", source.path, *_options(one, found)) for one in left or found
        ),
    )


def _nothing_by_name(source: Source) -> RefusedError:
    """The error for a file in which no dict names a tensor."""
    what = "holds no tensors by name"
    if isinstance(source.root, TensorRef):
        what = "is a single tensor, without a name"
    elif isinstance(source.root, (list, tuple)) and any(
        isinstance(one, TensorRef) for one in source.root
    ):
        what = "is a list of tensors, without their names"
    elif source.placeholders:
        makers = ", ".join(source.placeholders[:3])
        what += f"; its values are made by {makers}, which this tool does not run"
    hint = 'save the state dict in the program that wrote it: torch.save(model.state_dict(), "OUT")'
    return RefusedError(f"{source.path}: {what}", hint=hint)


def _options(one: _Found, found: Sequence[_Found]) -> list[str]:
    """The options that choose this state dict."""
    place, prefix = f"weights={shlex.quote(one.place)}", f"prefix={shlex.quote(one.prefix)}"
    if sum(other.place == one.place for other in found) == 1:
        return [place]
    alone = sum(other.prefix == one.prefix for other in found) == 1
    return [prefix] if alone else [place, prefix]


def _node(root: Any, path: tuple[str, ...]) -> Any:
    """The value that these keys lead to."""
    for key in path:
        root = next(value for other, value in root.items() if str(other) == key)
    return root


def _siblings(root: Any, found: _Found) -> list[tuple[str, Any]]:
    """Name and value of what is beside the state dict, and of what is in it and is no tensor."""
    beside: list[tuple[str, Any]] = []
    for key in found.path:
        beside += [(str(other), value) for other, value in root.items() if str(other) != key]
        root = _node(root, (key,))
    joined = {name.partition(".")[0] for name in found.names} if not found.is_whole else set()
    return beside + [
        (str(key), value)
        for key, value in root.items()
        if not isinstance(value, TensorRef)
        and not (isinstance(value, dict) and any(f"{key}" == one for one in joined))
    ]


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, TensorRef) or tensors_of(value) is not None


def _parts_of(one: _Found) -> list[str]:
    return [] if one.is_whole else [" and ".join(one.parts)]


def _renamings(found: _Found) -> Iterator[str]:
    """Say what the names of parts begin with, where it is not what a whole model has there."""
    for part, (here, whole) in found.parts.items():
        if not here.endswith(whole):
            begins = f"begin with {here} in place of {whole}" if here else f"are without {whole}"
            yield f"the names of the {part} {begins}"
