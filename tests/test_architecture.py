"""The house keeps its shape: imports point one way, and the package holds what is on disk."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import sam21convert
from sam21convert.packages import BACKENDS

from .support.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

PACKAGE = ROOT / "sam21convert"

# From the roof down: a package imports from those after it, never from those before or beside it.
FLOORS = (
    {"commands"},
    {"workflows"},
    {"comparison", "evaluation", "web"},
    {"conversion", "prediction", "training"},
    {"checkpoint"},
    {"hub", "export"},
    {"config", "dialects"},
    {"io", "packages", "progress"},
    {"model", "errors", "report", "markup"},
)
LEVEL = {room: level for level, floor in enumerate(reversed(FLOORS)) for room in floor}
# A face names what is public, lazily, wherever it stands.
FACES = {"sam21convert", "sam21convert.model"}
LOOSE = {"__init__", "__main__", "_version", "errors", "packages", "progress", "report"}

# What modules of the model import beyond torch and the standard library.
MODEL_IMPORTS = {
    "automatic_mask_generator": {"numpy"},
    "connected_components": {"numpy", "scipy"},
    "pictures": {"PIL", "numpy"},
    "run_lengths": {"numpy"},
    "stored_squares": {"numpy"},
    "video_files": {"av"},
    "video_frames": {"PIL", "numpy"},
    "video_squares": {"PIL", "av", "numpy"},
    "image_predictor": {"PIL", "numpy"},
}

Arrows = Mapping[str, set[str]]


def files() -> list[Path]:
    """Every module; the links to model and configs are followed."""
    return sorted(
        Path(folder) / name
        for folder, _, names in os.walk(PACKAGE, followlinks=True)
        for name in names
        if name.endswith(".py")
    )


def name_of(path: Path) -> str:
    parts = ["sam21convert", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {name_of(path): path for path in files()}


def imported(path: Path) -> set[str]:
    """Modules of the package that a module imports: in functions and for type checkers as well."""
    inside = ["sam21convert", *path.relative_to(PACKAGE).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*inside[: len(inside) - node.level + 1], *(node.module or "").split(".")]
            whole = ".".join(filter(None, base))
            within = {f"{whole}.{alias.name}" for alias in node.names}
            found |= within & {*modules()} or {whole}
    return found & {*modules()}


@cache
def arrows() -> Arrows:
    """Imports by module, but for those of the faces."""
    return {name: imported(path) for name, path in modules().items() if name not in FACES}


def room_of(module: str) -> str:
    return (*module.split("."), "")[1]


def rising(graph: Arrows) -> list[str]:
    """Imports between rooms that do not lead downwards."""
    return [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in targets - FACES
        if room_of(name) in LEVEL
        and room_of(target) != room_of(name)
        and LEVEL.get(room_of(target), -1) >= LEVEL[room_of(name)]
    ]


def circle(graph: Arrows) -> list[str]:
    """The modules of a circle of imports, or nothing."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name not in done:
            for target in graph.get(name, set()) - FACES:
                if found := walk(target, [*path, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in graph if (found := walk(name, []))), [])


def rooms(graph: Arrows) -> dict[str, set[str]]:
    """The same with folders as one room each, and the loose modules as rooms of their own."""
    found: dict[str, set[str]] = {}
    for name, targets in graph.items():
        reached = {room_of(target) for target in targets - FACES}
        found.setdefault(room_of(name), set()).update(reached - {room_of(name)})
    return found


def floors(graph: Arrows) -> list[list[str]]:
    """Rooms by the longest way down from each, the ground first."""

    @cache
    def height(room: str) -> int:
        return 1 + max((height(below) for below in graph[room]), default=-1)

    stories: dict[int, list[str]] = {}
    for room in sorted(graph):
        stories.setdefault(height(room), []).append(room)
    return [stories[level] for level in sorted(stories)]


@pytest.mark.parametrize("name", modules())
def test_imports_lead_downwards(name: str) -> None:
    assert not rising({name: arrows().get(name, set())})


def test_no_two_modules_import_each_other_by_whatever_way() -> None:
    assert not circle(arrows())


def test_there_are_ten_floors_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    found = floors(rooms(arrows()))
    with capsys.disabled():
        print("\n" + "\n".join("  ".join(floor) for floor in reversed(found)))
    assert len(found) <= 10


def test_an_arrow_that_rises_a_circle_and_an_eleventh_floor_are_seen() -> None:
    name = "sam21convert."
    up = {f"{name}io.open": {f"{name}hub.pull"}, f"{name}hub.pull": {f"{name}io.open"}}
    assert rising(up) == [f"{name}io.open imports {name}hub.pull"]
    assert sorted(circle(up)) == [f"{name}hub.pull", f"{name}io.open"]
    assert not circle({f"{name}hub.pull": {f"{name}io.open"}})
    tower = {str(room): {str(room - 1)} if room else set() for room in range(11)}
    assert len(floors(tower)) == 11


def test_the_walk_sees_imports_of_every_kind() -> None:
    graph = arrows()
    assert "sam21convert.io.tensor" in graph["sam21convert.dialects.keymap"]
    assert "sam21convert.checkpoint.values" in graph["sam21convert.checkpoint.validate"]  # late
    assert "sam21convert.model" in graph["sam21convert.model.video_predictor"]  # through the face
    assert len(graph) > 150


def test_ten_packages_and_few_loose_modules() -> None:
    inside = {name.split(".")[1] for name in modules() if name.count(".") > 1}
    assert inside | {"configs"} == {*LEVEL, "configs"} - LOOSE
    assert {path.stem for path in PACKAGE.glob("*.py")} == LOOSE


def test_no_module_at_the_top_hides_a_public_function() -> None:
    assert not {path.stem for path in PACKAGE.iterdir()} & {*sam21convert.__all__}


def test_the_model_stands_alone() -> None:
    for path in (PACKAGE / "model").glob("*.py"):
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1 or path.stem == "__init__", f"{path} reaches out"
                names = [node.module] if node.level == 0 and node.module else []
            found |= {name.partition(".")[0] for name in names}
        found -= {"torch", *sys.stdlib_module_names}
        assert found == MODEL_IMPORTS.get(path.stem, set()), path


def run(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_the_model_imports_decoders_and_scipy_only_when_they_are_used() -> None:
    run(
        "import sys, sam21convert.model.connected_components, sam21convert.model.video_frames\n"
        "sys.exit('av' in sys.modules or 'scipy' in sys.modules)"
    )


def test_the_model_is_imported_without_the_rest() -> None:
    run(
        "import sys, sam21convert.model.image_predictor, sam21convert.model.video_predictor\n"
        "rest = [name for name in sys.modules if name.startswith('sam21convert.')]\n"
        "sys.exit(any(not name.startswith(('sam21convert.model', 'sam21convert._version'))\n"
        "             for name in rest))"
    )


def test_the_package_list_is_what_is_on_disk() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(listed) == {name for name, path in modules().items() if path.stem == "__init__"}


def test_no_name_but_its_own_reaches_the_importer() -> None:
    run(
        "import sys, sam21convert.model.config, sam21convert.configs\n"
        "sys.exit('model' in sys.modules or 'configs' in sys.modules)"
    )


def packages_imported(path: Path) -> set[str]:
    """Packages that a module imports, also within functions; "?" for names made up at run time."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call):
            run_time = ast.unparse(node.func).endswith(("import_module", "__import__"))
            found |= {"?"} if run_time else set()
    return found


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_compared_with_is_imported_by_one_module(path: Path) -> None:
    """By name, and no other module has a way to; a package may import parts of itself so."""
    found = packages_imported(path)
    assert not found & {*BACKENDS, "torchvision"}
    assert ("?" in found) <= (path.name in ("packages.py", "lazily.py", "__init__.py"))


def test_the_walk_over_packages_sees_them() -> None:
    assert "sam2" in packages_imported(ROOT / "tests" / "support" / "official.py")
    assert "?" in packages_imported(PACKAGE / "packages.py")


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and number of lines of each, without its docstring, which has to describe everything."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            documented = ast.get_docstring(node) is not None
            first = node.body[0]
            described = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - described


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
    assert [name for name, lines in functions(path) if lines > 60] == []
