"""Find the parts of a model in a dict of tensors, whatever stands before their names.

Training code saves modules of SAM 2 alone (``sam_mask_decoder.state_dict()``), several of them, or
under names of its own (``mask_decoder.``). The names within a module are those of its package. They
tell the dialect and the part, and so the names that the tensors have in a whole model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from ..config.registry import shipped_tensors
from ..dialects.keymap import compile_keymap, covers, target_name
from ..dialects.rules import Dialect

# What torch.compile, FSDP and activation checkpointing put into names, anywhere.
_WRAPPED = re.compile(
    r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
MAX_IN_ONE = 20  # models, or parts of one kind, that are told apart in one dict
_EXAMPLE = "debug/sam2.1_debug"  # all models have its names, apart from numbers in them


@dataclass(frozen=True, slots=True)
class Part:
    """A module of SAM 2 that is saved alone.

    Attributes:
        name: what it is, in words.
        canonical: what its canonical names begin with.
        anchor: the canonical name of a tensor that shows it, wherever it stands.
    """

    name: str
    canonical: str
    anchor: str


# A part that holds another comes before it.
PARTS = (
    Part("image encoder", "image_encoder", "image_encoder.trunk.pos_embed_window"),
    Part(
        "trunk of the image encoder",
        "image_encoder.trunk",
        "image_encoder.trunk.pos_embed_window",
    ),
    Part(
        "prompt encoder",
        "sam_prompt_encoder",
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    Part("mask decoder", "sam_mask_decoder", "sam_mask_decoder.iou_token.weight"),
    Part(
        "memory attention",
        "memory_attention",
        "memory_attention.layers.0.cross_attn_image.q_proj.weight",
    ),
    Part("memory encoder", "memory_encoder", "memory_encoder.pix_feat_proj.weight"),
)


@dataclass(frozen=True)
class Placed:
    """Parts that were found in a dict of tensors.

    Attributes:
        prefix: what stands before all their names.
        names: name in the dict -> name in a whole model.
        parts: words for each part -> what its names begin with in the dict, and in a whole model.
    """

    prefix: str
    names: Mapping[str, str]
    parts: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class _Form:
    """A part in the names of a dialect: what they begin with, and the folded rest of each."""

    dialect: Dialect
    part: Part
    prefix: str
    anchor: str
    rest: frozenset[str]


@dataclass(frozen=True)
class _Hit:
    """A part in a dict of tensors, by what its names begin with there. ``known`` counts names."""

    form: _Form
    prefix: str
    known: int


def bare(name: str) -> str:
    """Take out of a name what wraps a module within a model.

    Args:
        name: a name with dots.

    Returns:
        The name without ``_orig_mod.``, ``_fsdp_wrapped_module.`` and their like.
    """
    return _WRAPPED.sub("", name) if "_mod" in name else name


def wrapped_in(name: str) -> str | None:
    """Tell what wraps a module within a model, by the name of a tensor.

    Args:
        name: a name with dots.

    Returns:
        The first of ``_orig_mod.`` and its like in the name, if there is one.
    """
    found = _WRAPPED.search(name) if "_mod" in name else None
    return found and found[0]


@lru_cache(maxsize=8192)
def folded(name: str) -> str:
    """Make names alike that differ only in the numbers of layers.

    Args:
        name: a name with dots.

    Returns:
        The name with ``#`` for each segment of digits.
    """
    return ".".join("#" if part.isdecimal() else part for part in name.split("."))


@cache
def names_of(dialect: Dialect) -> frozenset[str]:
    """List all names that a dialect has for any model.

    Args:
        dialect: the dialect.

    Returns:
        The folded names, aliases included.
    """
    keymap = compile_keymap(dialect, shipped_tensors(_EXAMPLE))
    return frozenset(map(folded, (*keymap.key, *keymap.aliases)))


@cache
def modules_of(dialect: Dialect) -> frozenset[str]:
    """List the modules and tensors of a model at its top level.

    Args:
        dialect: the dialect of the names.

    Returns:
        The first segments of all names, without those of vectors that SAM 2 does not have.
    """
    keymap = compile_keymap(dialect, shipped_tensors(_EXAMPLE))
    return frozenset(name.partition(".")[0] for name in keymap.key if name not in keymap.constants)


def within_a_model(names: Sequence[str], dialects: Iterable[Dialect]) -> Placed | None:
    """Place tensors whose names are all those of one dialect, behind one prefix at most.

    Args:
        names: names of all tensors in a dict.
        dialects: the dialects to look for; those of a trunk alone are left out, as their names are
            those of many models.

    Returns:
        The names in a model, with the modules that they belong to as the only part; None if one of
        the names is unknown.
    """
    clean = {name: bare(name) for name in names}
    common = _common(list(clean.values())).split(".")[:-1]
    for cut in range(len(common) + 1):
        prefix = "".join(f"{segment}." for segment in common[:cut])
        short = {name: text.removeprefix(prefix) for name, text in clean.items()}
        for dialect in dialects:
            if dialect.task != "trunk" and known(short.values(), dialect) == len(short):
                tops = dict.fromkeys(text.partition(".")[0] for text in short.values())
                module = ".".join(common[cut:]) or " and ".join(tops)
                return Placed(prefix, short, {f"tensors of {module}": ("", "")})
    return None


def known(names: Iterable[str], dialect: Dialect) -> int:
    """Count the names that a dialect has.

    Args:
        names: names of tensors in a model.
        dialect: the dialect.

    Returns:
        How many of them some model has in this dialect.
    """
    own = names_of(dialect)
    return sum(folded(name) in own for name in names)


def namings(dialects: Iterable[Dialect]) -> Iterator[Dialect]:
    """Choose the dialects that stand for all.

    Args:
        dialects: dialects, of which some have the same names, or a part of another's.

    Yields:
        Those that have names of their own. The names of a dialect are worked out when it is its
        turn, so whoever has found what is looked for should stop.
    """
    found: list[Dialect] = []
    for dialect in dialects:
        if not any(names_of(dialect) <= names_of(other) for other in found):
            found.append(dialect)
            yield dialect


def parts_alone(names: Iterable[str], dialects: tuple[Dialect, ...]) -> list[Placed]:
    """Find parts of a model among names that hold no whole one.

    Args:
        names: the names of the tensors.
        dialects: the dialects that they may be of.

    Returns:
        All parts together if each is there once. If one is there twice, those with the same prefix
        together, or else each alone.
    """
    clean = {name: bare(name) for name in names}
    if not any(name.endswith(_ends(dialects)) for name in clean.values()):
        return []
    tried = (_hits(list(clean.values()), dialect) for dialect in namings(dialects))
    hits = max(tried, key=lambda found: sum(hit.known for hit in found))
    if _each_once(hits):
        return [_placed(clean, hits, hits)] if hits else []
    groups: dict[str, list[_Hit]] = {}
    for hit in hits:
        groups.setdefault(_parent(hit.prefix), []).append(hit)
    return [
        _placed(clean, group, hits)
        for each in groups.values()
        for group in ([each] if _each_once(each) else [[hit] for hit in each])
    ]


def with_own_names(names: Sequence[str], dialects: tuple[Dialect, ...]) -> Placed:
    """Find parts of a whole model whose names begin in a way of their own: ``mask_decoder.``.

    Args:
        names: the names of the tensors of a model, without a prefix.
        dialects: the dialects that they may be of.

    Returns:
        All names, and those parts. Where nothing is found, no name changes.
    """
    most, best = 0, list[_Hit]()
    for dialect in namings(dialects):
        own = [name for name in names if folded(name) in names_of(dialect)]
        others = sorted(set(names).difference(own))
        if not others:
            return Placed("", {name: name for name in names}, {})
        hits = [
            hit
            for hit in (_hits(others, dialect))
            if hit.prefix and not any(name.startswith(hit.form.prefix or ".") for name in own)
        ]
        count = len(own) + sum(hit.known for hit in hits)
        if count > most and _each_once(hits):
            most, best = count, hits
    return Placed(
        "",
        {
            name: next((_renamed(name, h) for h in best if name.startswith(h.prefix)), name)
            for name in names
        },
        {hit.form.part.name: (hit.prefix, hit.form.prefix) for hit in best},
    )


@cache
def _forms(dialect: Dialect) -> tuple[_Form, ...]:
    """The parts that a dialect has a place for, in its names."""
    keymap = compile_keymap(dialect, shipped_tensors(_EXAMPLE))
    found = []
    for part in PARTS:
        below = f"{part.canonical}."
        keys = [e.key for e in keymap.entries if all(n.startswith(below) for n in e.canonical)]
        anchor = target_name(dialect, part.anchor)
        if not covers(dialect, part.canonical) or anchor is None:
            continue
        aliases = [alias for alias, of in keymap.aliases.items() if of in keys]
        prefix = _common(keys)
        rest = frozenset(folded(name.removeprefix(prefix)) for name in (*keys, *aliases))
        found.append(_Form(dialect, part, prefix, anchor.removeprefix(prefix), rest))
    return tuple(found)


@cache
def _ends(dialects: tuple[Dialect, ...]) -> tuple[str, ...]:
    return tuple({form.anchor for dialect in namings(dialects) for form in _forms(dialect)})


def _hits(names: Sequence[str], dialect: Dialect) -> list[_Hit]:
    """The parts among these names, in the names of one dialect."""
    hits: list[_Hit] = []
    for form in _forms(dialect):
        end = f".{form.anchor}"
        anchors = [name for name in names if name == form.anchor or name.endswith(end)]
        for name in anchors[:MAX_IN_ONE]:
            prefix = name[: len(name) - len(form.anchor)]
            rest = [other[len(prefix) :] for other in names if other.startswith(prefix)]
            count = sum(folded(other) in form.rest for other in rest)
            if 2 * count >= len(rest):
                hits.append(_Hit(form, prefix, count))
    return [hit for hit in hits if not any(_hides(other, hit) for other in hits)]


def _hides(hit: _Hit, other: _Hit) -> bool:
    """Whether two hits are one: a trunk within its encoder, or an encoder with no more than it."""
    inner, outer = (other, hit) if len(other.prefix) >= len(hit.prefix) else (hit, other)
    own = inner.form.prefix.removeprefix(outer.form.prefix)
    if hit is other or not own or inner.prefix != outer.prefix + own:
        return False
    return (hit is outer) == (outer.known > inner.known)


def _each_once(hits: Iterable[_Hit]) -> bool:
    places = [hit.form.part.canonical for hit in hits]
    return not any(
        one == other or other.startswith(f"{one}.")
        for at, one in enumerate(places)
        for to, other in enumerate(places)
        if at != to
    )


def _placed(clean: Mapping[str, str], group: Sequence[_Hit], hits: Sequence[_Hit]) -> Placed:
    """The names of some of the parts that were found, and of what belongs to them."""
    around = _common([hit.prefix for hit in group]) if len(group) > 1 else _parent(group[0].prefix)
    own = names_of(group[0].form.dialect)
    names = {}
    for name, shown in clean.items():
        inside = [hit for hit in hits if shown.startswith(hit.prefix)]
        if inside:
            hit = max(inside, key=lambda one: len(one.prefix))
            if hit in group:
                names[name] = _renamed(shown, hit)
        elif shown.startswith(around) and folded(shown.removeprefix(around)) in own:
            names[name] = shown.removeprefix(around)
    parts = {
        hit.form.part.name: (hit.prefix, hit.form.prefix)
        for hit in group
        if hit.form.dialect.task == "video"
    }
    prefix = around
    if len(group) == 1:  # as it is written, with what is put into it
        name = next(name for name in names if clean[name].startswith(group[0].prefix))
        prefix = name[: len(name) - len(_tail(name, clean[name].removeprefix(group[0].prefix)))]
    return Placed(prefix, names, parts)


def _tail(name: str, clean: str) -> str:
    """The shortest end of a name that is ``clean`` when it is :func:`bare`."""
    start = len(name)
    while bare(name[start:]) != clean:
        start -= 1
    return name[start:]


def _renamed(name: str, hit: _Hit) -> str:
    return hit.form.prefix + name.removeprefix(hit.prefix)


def _parent(prefix: str) -> str:
    return prefix[: prefix.rfind(".", 0, -1) + 1]


def _common(names: Sequence[str]) -> str:
    """The segments that all names begin with, without the last one of any."""
    shared = []
    for segments in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(segments)) > 1:
            break
        shared.append(f"{segments[0]}.")
    return "".join(shared)
