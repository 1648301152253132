"""The tensors of a checkpoint as a tree of modules, in which modules that are alike stand once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TypeAlias

from ..io.folding import braced
from ..io.tensor import TensorSpec
from ..report import Line, Part, Table, size_text

_LINES = 100  # of a tree as text
_DEEPEST = 50  # levels; what a name has beyond stays together
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_NUMBERED = re.compile(rf"({_NUMBER.pattern}|\{{[0-9,-]+\}})(\.|\Z)")
_Named: TypeAlias = tuple[tuple[str, ...], TensorSpec]  # segments of a name, from a module on
_INDENTED = 'style="margin-left: 1em"'
_OPEN = 2  # levels that a notebook shows without a click


@dataclass(frozen=True)
class Leaf:
    """A tensor.

    Attributes:
        name: its name within its module; the whole name if it is in none.
        dtype: its element type.
        shape: its shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)}"


@dataclass(frozen=True)
class Module:
    """A module, or several that are alike. Numbers are those of all of them together.

    Attributes:
        name: its name within the module around it, which may have dots, such as ``mlp.layers.0``;
            ``blocks.{0-2,5}`` stands for four. Empty for the whole checkpoint.
        copies: how many modules it stands for.
        tensors: the number of tensors, at all depths.
        parameters: the number of their elements.
        bytes: the size of their data.
        dtypes: element type -> number of tensors, the most common first.
        leaves: the tensors that are in no deeper module, of one copy.
        modules: the modules in it, of one copy, in the order of the model.
    """

    name: str
    copies: int
    tensors: int
    parameters: int
    bytes: int
    dtypes: dict[str, int]
    leaves: tuple[Leaf, ...]
    modules: tuple[Module, ...]

    def shown(self) -> list[Part]:
        """What people see: the tree as deep as a hundred lines hold.

        Returns:
            A row for each module: its name, size, element types, and its tensors or their number.
        """
        rows = [*_rows(self, 1)]
        for depth in range(2, _DEEPEST):
            deeper = [*_rows(self, depth)]
            if len(deeper) > _LINES or len(deeper) == len(rows):
                break
            rows = deeper
        parts: list[Part] = [Table(tuple(rows), right=(1,))]
        hidden = len([*_rows(self, _DEEPEST)]) - len(rows)
        return [*parts, *([Line((f"({hidden} deeper lines with --json)",))] if hidden else [])]

    def to_html(self) -> str:
        """Give the tree for a notebook.

        Returns:
            Nested ``details`` elements, the first levels open.
        """
        return _leaves_html(self.leaves) + "".join(_html(module, 1) for module in self.modules)


def tree_of(inventory: Mapping[str, TensorSpec]) -> Module:
    """Make the tree.

    Args:
        inventory: name -> type and shape, in the order of the model.

    Returns:
        The module that holds all of them.
    """
    named = [(tuple(name.split(".", _DEEPEST - 1)), spec) for name, spec in inventory.items()]
    return _module("", 1, named)


def _module(name: str, copies: int, tensors: Sequence[_Named]) -> Module:
    children: dict[str, list[_Named]] = {}
    for (first, *rest), spec in tensors:
        if rest:
            children.setdefault(first, []).append((tuple(rest), spec))
    specs = [spec for _, spec in tensors]
    dtypes = Counter(spec.dtype for spec in specs).most_common()
    return Module(
        name=name,
        copies=copies,
        tensors=copies * len(specs),
        parameters=copies * sum(spec.numel for spec in specs),
        bytes=copies * sum(spec.nbytes for spec in specs),
        dtypes={dtype: copies * count for dtype, count in dtypes},
        leaves=tuple(
            Leaf(path[0], spec.dtype, spec.shape) for path, spec in tensors if len(path) == 1
        ),
        modules=tuple(_children(children)),
    )


def _children(found: Mapping[str, list[_Named]]) -> Iterator[Module]:
    """Make the modules in a module: one for those that are alike but for their number."""
    alike: dict[tuple[str | None, tuple[_Named, ...]], list[str]] = {}
    for name, tensors in found.items():
        kind = None if _NUMBER.fullmatch(name) else name
        alike.setdefault((kind, tuple(tensors)), []).append(name)
    for (kind, inside), names in alike.items():
        made = _module(braced(map(int, names)) if kind is None else kind, len(names), inside)
        # A list, or what is around a single module, is no level of its own.
        numbered = all(_NUMBERED.match(one.name) for one in made.modules)
        if made.leaves or made.copies > 1 or not (numbered or len(made.modules) == 1):
            yield made
        else:
            for one in made.modules:
                yield replace(one, name=f"{made.name}.{one.name}")


def _rows(module: Module, depth: int, indent: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Name, size, element types and content of what is in a module, down to a depth."""
    for leaf in module.leaves if module.modules else ():
        spec = TensorSpec(leaf.dtype, leaf.shape)
        name, shape = indent + leaf.name, str(list(leaf.shape))
        yield name, size_text(spec.nbytes), leaf.dtype, shape
    for one in module.modules:
        content = ", ".join(map(str, one.leaves))
        if one.modules:
            content = f"{one.tensors:,} tensors"
        name = indent + one.name
        yield name, size_text(one.bytes), ", ".join(one.dtypes), content
        if depth > 1:
            yield from _rows(one, depth - 1, indent + "  ")


def _html(module: Module, level: int) -> str:
    size = f"{size_text(module.bytes)}, {', '.join(module.dtypes)}"
    name = f"<code>{escape(module.name)}</code>"
    if not module.modules:
        content = ", ".join(map(str, module.leaves))
        return f"<div {_INDENTED}>{name} {escape(content)}: {escape(size)}</div>"
    inside = _leaves_html(module.leaves) + "".join(_html(m, level + 1) for m in module.modules)
    head = f"{name} {module.tensors:,} tensors: {escape(size)}"
    state = " open" if level < _OPEN else ""
    return f"<details{state} {_INDENTED}><summary>{head}</summary>{inside}</details>"


def _leaves_html(leaves: Sequence[Leaf]) -> str:
    return "".join(
        f"<div {_INDENTED}><code>{escape(leaf.name)}</code> {list(leaf.shape)}: "
        f"{size_text(TensorSpec(leaf.dtype, leaf.shape).nbytes)}, {escape(leaf.dtype)}</div>"
        for leaf in leaves
    )
