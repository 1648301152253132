"""Compile the rules of a dialect, for one inventory of the model, into a checked bijection.

Rules are applied only from canonical names to target names, once per tensor. The result is a finite
table, and reading a file inverts that table. So the inverse needs no rules of its own, and the
order in which rules are written does not matter.
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
    """The rules of a dialect are not a bijection: a mistake in the dialect, not in a file."""


@dataclass(frozen=True, slots=True)
class KeyMapEntry:
    """One tensor of the dialect, and the tensors of the model that it is made of.

    Attributes:
        key: the target name.
        canonical: the canonical names of the parts, in the order of their concatenation along the
            first axis; a single name unless the rule is a :class:`~.rules.Concat`.
        spec: type and shape as stored by the dialect.
        axes: the order of the model's axes in the dialect, as in :class:`~.rules.Permute`; empty
            when it is the same. Never given for several parts.
    """

    key: str
    canonical: tuple[str, ...]
    spec: TensorSpec
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class KeyMap:
    """A dialect, compiled for one inventory of the model.

    Attributes:
        dialect: the dialect.
        canonical: the inventory: canonical name to type and shape, in the order of the state dict.
        entries: one entry for each tensor of the dialect that is not a tied copy or a constant.
        tied: target name of each tied copy -> target name of the tensor that it repeats.
        aliases: accepted alternative name -> the dialect's own target name.
        constants: target name -> vector that the model does not have.
        dropped: the canonical names that the dialect has no place for.
    """

    dialect: Dialect
    canonical: Inventory
    entries: tuple[KeyMapEntry, ...]
    tied: Mapping[str, str]
    aliases: Mapping[str, str]
    constants: Mapping[str, Constant]
    dropped: tuple[str, ...]

    @cached_property
    def key(self) -> dict[str, TensorSpec]:
        """The inventory of a complete file in this dialect: target name to type and shape."""
        own = {entry.key: entry.spec for entry in self.entries}
        constants = {name: constant.spec for name, constant in self.constants.items()}
        return {**own, **{name: own[of] for name, of in self.tied.items()}, **constants}

    def fit(self, found: Inventory) -> Fit:
        """Compare the tensors of a file with those that a complete file holds.

        Args:
            found: the inventory of the file, by the names in the file.

        Returns:
            What fits and what does not. Every tensor of ``found`` is either named as that of a key
            or unexpected. Every key is named, missing, or optional: constants are, and so is one
            of two tied copies.
        """
        keys = self.key
        names: dict[str, str] = {}
        unexpected = []
        for name in found:
            own = name if name in keys else self.aliases.get(name)
            # An alias beside the name that it stands for is a second tensor, thus unexpected.
            if own is None or (own != name and own in found) or own in names:
                unexpected.append(name)
            else:
                names[own] = name
        repeats = tuple(
            (names[name], names[of])
            for name, of in self.tied.items()
            if name in names and of in names
        )
        missing_copies = tuple(
            absent
            for name, of in self.tied.items()
            for absent, present in ((name, of), (of, name))
            if absent not in names and present in names
        )
        optional = {*missing_copies, *self.constants}
        missing = [name for name in keys if name not in names and name not in optional]
        pairs = [(name, keys[own], found[name]) for own, name in names.items()]
        return Fit(
            names=names,
            missing=tuple(missing),
            unexpected=tuple(unexpected),
            mismatched=tuple(
                (name, expected, actual)
                for name, expected, actual in pairs
                if actual.shape != expected.shape
            ),
            wrong_type=tuple(
                (name, actual) for name, _, actual in pairs if actual.dtype not in WEIGHT_DTYPES
            ),
            repeats=repeats,
            missing_copies=missing_copies,
        )


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file compare with those that a dialect and a config ask for.

    Attributes:
        names: target name -> name in the file, which differs where the file uses an alias.
        missing: target names of the tensors that the file should hold and does not.
        unexpected: names in the file that the dialect does not know.
        mismatched: name in the file, expected type and shape, found type and shape, for each
            tensor whose shape is wrong.
        wrong_type: name in the file, found type and shape, for each tensor whose type is none of
            F16, BF16, F32 and F64.
        repeats: pairs of names in the file, a tied copy and its original, which must be equal.
        missing_copies: target names of tied tensors that are absent while their counterpart is
            there.
    """

    names: Mapping[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, TensorSpec, TensorSpec], ...]
    wrong_type: tuple[tuple[str, TensorSpec], ...]
    repeats: tuple[tuple[str, str], ...]
    missing_copies: tuple[str, ...]

    @property
    def faults(self) -> int:
        """The number of tensors that do not fit."""
        return (
            len(self.missing) + len(self.unexpected) + len(self.mismatched) + len(self.wrong_type)
        )


def compile_keymap(dialect: Dialect, canonical: Inventory) -> KeyMap:
    """Apply the rules of a dialect to every tensor of an inventory.

    Args:
        dialect: the dialect.
        canonical: the inventory of the model: canonical name to type and shape.

    Returns:
        The table of names, checked to be a bijection between the covered tensors and the keys.

    Raises:
        RuleError: when a tensor has no rule or two equally specific ones, when two tensors would
            get the same key, when concatenated parts do not fit together, or when a tied copy
            repeats a key that does not exist.
    """
    covered = [name for name in canonical if covers(dialect, name)]
    renames = _renames(dialect)
    concats = [rule for rule in dialect.rules if isinstance(rule, Concat)]
    concat_of = {name: concat for concat in concats for name in concat.canonical}
    axes = _axes(dialect, canonical)
    entries: dict[str, KeyMapEntry] = {}
    for name in covered:
        concat = concat_of.get(name)
        if concat is None:
            order, spec = axes.get(name, ()), canonical[name]
            entry = KeyMapEntry(renames.apply(name), (name,), spec.permuted(order), order)
        elif name == concat.canonical[0]:
            entry = KeyMapEntry(concat.key, concat.canonical, _concatenated(concat, canonical))
        else:
            continue
        if entry.key in entries:
            clash = entries[entry.key].canonical[0]
            raise RuleError(f"{dialect.name}: {clash} and {name} both become {entry.key}")
        entries[entry.key] = entry
    tied = {copy.name: copy.of for copy in dialect.tied}
    for name, of in tied.items():
        if name in entries or of not in entries:
            raise RuleError(f"{dialect.name}: {name} cannot repeat {of}")
    kept = set(covered)
    return KeyMap(
        dialect,
        canonical,
        tuple(entries.values()),
        tied,
        _expand_aliases(dialect, entries),
        {vector.name: _constant(vector, canonical) for vector in dialect.constants},
        tuple(name for name in canonical if name not in kept),
    )


def target_name(dialect: Dialect, canonical_name: str) -> str | None:
    """The target name of one tensor, found without compiling the dialect.

    Args:
        dialect: the dialect.
        canonical_name: the canonical name of a tensor that is not part of a
            :class:`~.rules.Concat`.

    Returns:
        The target name, or None when the dialect has no place for the tensor.

    Raises:
        RuleError: when no rule matches the name, or two match equally well.
    """
    if covers(dialect, canonical_name):
        return _renames(dialect).apply(canonical_name)
    return None


def covers(dialect: Dialect, canonical_name: str) -> bool:
    """Whether a dialect has a place for a tensor of the model.

    Args:
        dialect: the dialect.
        canonical_name: the canonical name of the tensor.

    Returns:
        Whether the name equals one of the prefixes ``dialect.covers`` or lies below one.
    """
    return any(_is_below(canonical_name, prefix) for prefix in dialect.covers)


def _is_below(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(f"{prefix}.")


def _concatenated(concat: Concat, canonical: Inventory) -> TensorSpec:
    specs = [canonical[name] for name in concat.canonical]
    if len({(spec.dtype, spec.shape[1:]) for spec in specs}) != 1:
        raise RuleError(f"{concat.key}: its parts differ in type or shape")
    return TensorSpec(specs[0].dtype, (sum(s.shape[0] for s in specs), *specs[0].shape[1:]))


def _axes(dialect: Dialect, canonical: Inventory) -> dict[str, tuple[int, ...]]:
    """The order of axes of every tensor that the dialect permutes, by canonical name."""
    found = {}
    for permute in dialect.permutes:
        template = _Template(permute.canonical)
        hits = {name: template.match(name) for name in canonical}
        found.update({name: permute.axes for name, hit in hits.items() if hit and not hit.rest})
    return found


def _constant(vector: ConstantVector, canonical: Inventory) -> Constant:
    like = canonical[vector.like]
    return Constant(TensorSpec(like.dtype, (like.shape[vector.axis],)), vector.value)


def _expand_aliases(dialect: Dialect, entries: Mapping[str, KeyMapEntry]) -> dict[str, str]:
    found = {}
    for alias in dialect.aliases:
        template = _Template(alias.of)
        for name in entries:
            hit = template.match(name)
            if hit is not None and not hit.rest:
                found.update({_insert(hit.digits, other): name for other in alias.others})
    return found


@dataclass(frozen=True, slots=True)
class _Hit:
    digits: Mapping[str, str]  # what each {x} stands for
    rest: str  # the segments that follow those of the template


class _Template:
    """A dotted name with ``{x}`` for digits, prepared for matching."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.weight = (text.count(".") + 1 if text else 0, len(_HOLE.sub("", text)))
        # Most names are ruled out by this literal start, without the regular expression.
        self._head = text.partition("{")[0]

    def may_begin(self, start: str) -> bool:
        """Whether a name that starts like this may match."""
        return self._head.startswith(start) or start.startswith(self._head)

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
    """The renaming rules of a dialect, the most specific first."""

    def __init__(self, rules: Iterable[Rename]) -> None:
        templates = [(_Template(rule.canonical), rule.key) for rule in rules]
        self._rules = sorted(templates, key=lambda rule: rule[0].weight, reverse=True)
        # The rules that may match, by the first segments of a name, which rule out most.
        self._by_start: dict[str, list[tuple[_Template, str]]] = {}

    def apply(self, name: str) -> str:
        start = ".".join(name.split(".", 3)[:3])
        if (rules := self._by_start.get(start)) is None:
            rules = [rule for rule in self._rules if rule[0].may_begin(start)]
            self._by_start[start] = rules
        hits = ((rule, key, rule.match(name)) for rule, key in rules)
        best, key, hit = next((found for found in hits if found[2]), (None, "", None))
        # ``hits`` is a generator: the search for a rival continues after the best rule.
        if best is None or hit is None:
            raise RuleError(f"no rule for {name}")
        rival = next((found[0] for found in hits if found[2]), None)
        if rival is not None and rival.weight == best.weight:
            raise RuleError(f"{name}: {best.text} and {rival.text} fit equally well")
        return ".".join(filter(None, (_insert(hit.digits, key), hit.rest)))


@cache
def _renames(dialect: Dialect) -> _Renames:
    return _Renames(rule for rule in dialect.rules if isinstance(rule, Rename))


def _insert(digits: Mapping[str, str], template: str) -> str:
    return _HOLE.sub(lambda hole: digits[hole[1]], template) if digits else template
