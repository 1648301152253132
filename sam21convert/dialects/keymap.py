"""Compile a dialect against the inventory of the ground truth into a checked bijection.

The rules run forwards only, once per tensor. The way back is the inverse of the finite result, so
it needs no rules of its own, and the order of the rules means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from ..io.tensor import WEIGHT_DTYPES, Constant, Inventory, TensorSpec
from .rules import Concat, ConstantVector, Dialect, Rename

_HOLE = re.compile(r"\{(\w+)\}")


class RuleError(ValueError):
    """A dialect's rules do not make a bijection: a mistake in the dialect, not in a file."""


@dataclass(frozen=True, slots=True)
class KeyMapEntry:
    """One tensor of the dialect and the tensors of the ground truth in it, along the first axis.

    With ``axes`` it is one, whose axes it holds in that order.
    """

    key: str
    canonical: tuple[str, ...]
    spec: TensorSpec
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class KeyMap:
    """A dialect, compiled for one inventory. ``dropped`` is what the dialect has no place for."""

    dialect: Dialect
    canonical: Inventory
    entries: tuple[KeyMapEntry, ...]
    tied: Mapping[str, str]  # repeated foreign name -> the foreign name it repeats
    aliases: Mapping[str, str]  # accepted foreign name -> the dialect's own
    constants: Mapping[str, Constant]  # foreign name of what the ground truth has not
    dropped: tuple[str, ...]

    @cached_property
    def key(self) -> dict[str, TensorSpec]:
        """What a complete file in this dialect holds."""
        own = {entry.key: entry.spec for entry in self.entries}
        constants = {name: fill.spec for name, fill in self.constants.items()}
        return {**own, **{name: own[of] for name, of in self.tied.items()}, **constants}

    def fit(self, found: Inventory) -> Fit:
        """Account for every tensor of ``found`` and every tensor that should be there."""
        names: dict[str, str] = {}
        unexpected = []
        for name in found:
            own = name if name in self.key else self.aliases.get(name)
            if own is None or (own != name and own in found) or own in names:
                unexpected.append(name)
            else:
                names[own] = name
        repeats = tuple(
            (names[name], names[of])
            for name, of in self.tied.items()
            if name in names and of in names
        )
        lone = tuple(
            absent
            for name, of in self.tied.items()
            for absent, present in ((name, of), (of, name))
            if absent not in names and present in names
        )
        optional = {*lone, *self.constants}
        missing = [name for name in self.key if name not in names and name not in optional]
        pairs = [(found[name], self.key[own], name) for own, name in names.items()]
        return Fit(
            names=names,
            missing=tuple(missing),
            unexpected=tuple(unexpected),
            mismatched=tuple((n, want, has) for has, want, n in pairs if has.shape != want.shape),
            wrong_type=tuple((n, has) for has, _, n in pairs if has.dtype not in WEIGHT_DTYPES),
            repeats=repeats,
            lone=lone,
        )


@dataclass(frozen=True)
class Fit:
    """How a file's tensors compare with those a dialect and config ask for."""

    names: Mapping[str, str]  # the dialect's name -> the name in the file
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, TensorSpec, TensorSpec], ...]  # name, expected, found
    wrong_type: tuple[tuple[str, TensorSpec], ...]  # name, found
    repeats: tuple[tuple[str, str], ...]  # names in the file that must hold the same bytes
    lone: tuple[str, ...]  # copies that are absent while the tensor itself is there

    @property
    def faults(self) -> int:
        """Number of tensors that do not fit."""
        return (
            len(self.missing) + len(self.unexpected) + len(self.mismatched) + len(self.wrong_type)
        )


def compile_keymap(dialect: Dialect, canonical: Inventory) -> KeyMap:
    """Expand the rules over ``canonical``.

    Raises :class:`RuleError` when a tensor has no rule or two equally good ones, or when two
    tensors would get the same name.
    """
    covered = [name for name in canonical if covers(dialect, name)]
    gathers = [rule for rule in dialect.rules if isinstance(rule, Concat)]
    renames = _renames(dialect)
    gathered = {name: gather for gather in gathers for name in gather.canonical}
    axes = _axes(dialect, canonical)
    entries: dict[str, KeyMapEntry] = {}
    for name in covered:
        gather = gathered.get(name)
        if gather is None:
            order, spec = axes.get(name, ()), canonical[name]
            entry = KeyMapEntry(renames.apply(name), (name,), spec.permuted(order), order)
        elif name == gather.canonical[0]:
            entry = KeyMapEntry(gather.key, gather.canonical, _stack(gather, canonical))
        else:
            continue
        if entry.key in entries:
            clash = entries[entry.key].canonical[0]
            raise RuleError(f"{dialect.name}: {clash} and {name} both become {entry.key}")
        entries[entry.key] = entry
    tied = {echo.name: echo.of for echo in dialect.tied}
    for name, of in tied.items():
        if name in entries or of not in entries:
            raise RuleError(f"{dialect.name}: {name} cannot repeat {of}")
    kept = set(covered)
    return KeyMap(
        dialect,
        canonical,
        tuple(entries.values()),
        tied,
        _expand_spellings(dialect, entries),
        {fill.name: _constant(fill, canonical) for fill in dialect.constants},
        tuple(name for name in canonical if name not in kept),
    )


def target_name(dialect: Dialect, truth_name: str) -> str | None:
    """The dialect's name of one tensor that it does not gather; None when it does not cover it."""
    if covers(dialect, truth_name):
        return _renames(dialect).apply(truth_name)
    return None


def covers(dialect: Dialect, truth_name: str) -> bool:
    """Whether the dialect has a place for a tensor of the ground truth."""
    return any(_under(truth_name, top) for top in dialect.covers)


def _under(name: str, top: str) -> bool:
    return not top or name == top or name.startswith(f"{top}.")


def _stack(gather: Concat, canonical: Inventory) -> TensorSpec:
    specs = [canonical[name] for name in gather.canonical]
    if len({(spec.dtype, spec.shape[1:]) for spec in specs}) != 1:
        raise RuleError(f"{gather.key}: its parts differ in type or shape")
    return TensorSpec(specs[0].dtype, (sum(s.shape[0] for s in specs), *specs[0].shape[1:]))


def _axes(dialect: Dialect, canonical: Inventory) -> dict[str, tuple[int, ...]]:
    """The tensors of the ground truth that the dialect holds with other axes."""
    found = {}
    for permute in dialect.permutes:
        template = _Template(permute.canonical)
        hits = {name: template.match(name) for name in canonical}
        found.update({name: permute.axes for name, hit in hits.items() if hit and not hit.rest})
    return found


def _constant(fill: ConstantVector, canonical: Inventory) -> Constant:
    like = canonical[fill.like]
    return Constant(TensorSpec(like.dtype, (like.shape[fill.axis],)), fill.value)


def _expand_spellings(dialect: Dialect, entries: Mapping[str, KeyMapEntry]) -> dict[str, str]:
    found = {}
    for spelling in dialect.aliases:
        template = _Template(spelling.of)
        for name in entries:
            hit = template.match(name)
            if hit is not None and not hit.rest:
                found.update({_fill(other, hit.digits): name for other in spelling.others})
    return found


@dataclass(frozen=True, slots=True)
class _Hit:
    digits: Mapping[str, str]  # what each {x} stands for
    rest: str  # the segments after the template's


class _Template:
    """A dotted name with ``{x}`` for digits, ready to be matched."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.weight = (text.count(".") + 1 if text else 0, len(_HOLE.sub("", text)))
        self._head = text.partition("{")[0]  # most names are told apart by it alone

    def match(self, name: str) -> _Hit | None:
        if not name.startswith(self._head):
            return None
        if self._head == self.text:
            rest = name[len(self.text) :]
            if self.text and rest and rest[0] != ".":
                return None
            return _Hit({}, rest.removeprefix("."))
        hit = self._pattern.match(name)
        return _Hit(hit.groupdict(), name[hit.end() :]) if hit else None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        literal, *holes = _HOLE.split(self.text)
        pattern = re.escape(literal)
        for name, after in zip(holes[::2], holes[1::2], strict=True):
            pattern += rf"(?P<{name}>\d+){re.escape(after)}"
        return re.compile(rf"{pattern}(?:\.|$)")


class _Renames:
    """The renaming rules of a dialect, best first."""

    def __init__(self, rules: Iterable[Rename]) -> None:
        templates = [(_Template(rule.canonical), rule.key) for rule in rules]
        self._rules = sorted(templates, key=lambda rule: rule[0].weight, reverse=True)

    def apply(self, name: str) -> str:
        hits = ((rule, key, rule.match(name)) for rule, key in self._rules)
        best, key, hit = next((found for found in hits if found[2]), (None, "", None))
        if best is None or hit is None:
            raise RuleError(f"no rule for {name}")
        rival = next((found[0] for found in hits if found[2]), None)
        if rival is not None and rival.weight == best.weight:
            raise RuleError(f"{name}: {best.text} and {rival.text} fit equally well")
        return ".".join(filter(None, (_fill(key, hit.digits), hit.rest)))


@cache
def _renames(dialect: Dialect) -> _Renames:
    return _Renames(rule for rule in dialect.rules if isinstance(rule, Rename))


def _fill(template: str, digits: Mapping[str, str]) -> str:
    return _HOLE.sub(lambda hole: digits[hole[1]], template) if digits else template
