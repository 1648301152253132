"""Every public function and class says what goes in, what comes out and what is raised."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support.paths import ROOT

_SECTIONS = ("Args", "Attributes", "Example", "Examples", "Note", "Raises", "Returns", "Yields")
Function = ast.FunctionDef | ast.AsyncFunctionDef
FILES = [
    path
    for top in ("sam21convert", "model")
    for path in sorted((ROOT / top).rglob("*.py"))
    if not any(parent.is_symlink() for parent in path.parents)
]


def sections(docstring: str) -> dict[str, str]:
    """The text of each section."""
    found: dict[str, list[str]] = {}
    now = ""
    for line in docstring.splitlines():
        title = line.strip().removesuffix(":")
        if line.strip() == f"{title}:" and title in _SECTIONS:
            now, found[title] = title, []
        elif now:
            found[now].append(line)
    return {title: "\n".join(lines) for title, lines in found.items()}


def decorators(node: Function | ast.ClassDef) -> set[str]:
    return {ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list}


def parameters(node: Function, *, method: bool) -> list[str]:
    given = node.args
    names = [arg.arg for arg in (*given.posonlyargs, *given.args)]
    if method and "staticmethod" not in decorators(node):
        names = names[1:]
    names += [arg.arg for arg in given.kwonlyargs]
    names += [f"*{given.vararg.arg}"] if given.vararg else []
    return names + ([f"**{given.kwarg.arg}"] if given.kwarg else [])


def raised(node: Function) -> set[str]:
    """The classes that a function raises itself, not those of functions within."""
    found: set[str] = set()
    waiting: list[ast.AST] = [*node.body]
    while waiting:
        inside = waiting.pop()
        if isinstance(inside, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(inside, ast.Raise) and inside.exc is not None:
            kind = inside.exc.func if isinstance(inside.exc, ast.Call) else inside.exc
            if isinstance(kind, ast.Name) and kind.id[0].isupper():
                found.add(kind.id)
        waiting += ast.iter_child_nodes(inside)
    return found


def described(names: list[str], section: str) -> list[str]:
    """Those of the names that the section does not describe."""
    lines = [line.strip() for line in section.splitlines()]
    heads = {name for line in lines for name in re.split(r",\s*", line.partition(":")[0])}
    return [name for name in names if name not in {head.partition(" (")[0] for head in heads}]


def lacks(node: Function, *, method: bool) -> Iterator[str]:
    """What the docstring of a function leaves out."""
    docstring = ast.get_docstring(node)
    if docstring is None:
        yield "a docstring"
        return
    kinds = decorators(node)
    if any(kind.endswith(("property", "overload")) for kind in kinds):
        return
    if any(kind.startswith("click.") for kind in kinds):
        return  # a command: its docstring is the text of --help
    found = sections(docstring)
    yield from described(parameters(node, method=method), found.get("Args", ""))
    returns = None if node.returns is None else ast.unparse(node.returns)
    if returns not in (None, "None", "NoReturn") and not {"Returns", "Yields"} & set(found):
        yield "Returns"
    yield from (kind for kind in raised(node) if kind not in found.get("Raises", ""))


def fields(node: ast.ClassDef) -> list[str]:
    """The public fields of a dataclass, a NamedTuple or a Protocol."""
    bases = " ".join(map(ast.unparse, node.bases))
    if "dataclass" not in decorators(node) and not re.search("NamedTuple|Protocol", bases):
        return []
    return [
        item.target.id
        for item in node.body
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name)
        and not item.target.id.startswith("_")
        and "ClassVar" not in ast.unparse(item.annotation)
    ]


def of_class(node: ast.ClassDef) -> Iterator[str]:
    docstring = ast.get_docstring(node)
    if docstring is None:
        yield f"{node.name}: a docstring"
        return
    told = sections(docstring)
    missing = described(fields(node), told.get("Attributes", ""))
    yield from (f"{node.name}: {name}" for name in missing)
    for item in node.body:
        if not isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if item.name == "__init__":
            own = sections(ast.get_docstring(item) or "").get("Args", "")
            missing = described(parameters(item, method=True), told.get("Args", "") + own)
            yield from (f"{node.name}(): {name}" for name in missing)
        elif not item.name.startswith("_"):
            yield from (f"{node.name}.{item.name}: {what}" for what in lacks(item, method=True))


def left_out(source: str) -> list[str]:
    """What the docstrings of a module leave out."""
    found: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found += of_class(node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found += (f"{node.name}: {what}" for what in lacks(node, method=False))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_are_complete(path: Path) -> None:
    assert left_out(path.read_text()) == []


def test_what_is_left_out_is_seen() -> None:
    source = '''
def take(source, *rest, size=0, **options) -> int:
    """Take something.

    Args:
        source: A path.
    """
    raise ValueError

@dataclass
class Pair:
    """Two.

    Attributes:
        one: The first.
    """
    one: int
    two: int
    def swap(self): ...
'''
    assert left_out(source) == [
        "take: size",
        "take: *rest",
        "take: **options",
        "take: Returns",
        "take: ValueError",
        "Pair: two",
        "Pair.swap: a docstring",
    ]
