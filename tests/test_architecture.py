"""The house keeps its shape: imports point one way, the package holds what is on disk."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sam21convert.peers import INSTALL

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sam21convert"

# From the ground up: a module may import from its own layer and from those before it.
LAYERS = (
    {"errors", "model", "configs"},
    {"tensors", "report", "peers", "small_files"},
    {"rules"},
    {"keymap", "dialects", "hf"},
    {
        "catalog",
        "timm_config",
        "config_files",
        "config_hydra",
        "official_yaml",
        "prompts",
        "picture",
        "media",
    },
    {"containers", "published"},
    {"hub_errors"},
    {"patience"},
    {"hub", "downloading"},
    {"remote_files"},
    {"references"},
    {"unwrapping", "identification", "relatives", "adapters", "checkpoint", "ratings", "safety"},
    {"fitting", "destination", "pulling"},
    {"manifest", "output_names", "ledger", "batch_report"},
    {"generations", "mapping", "settings"},
    {"filling", "merging", "noting"},
    {"inspection", "planning"},
    {"positions", "readme", "snippets", "remote"},
    {"values", "parts", "pairing", "diff_picture", "diffing"},
    {"validation", "conversion", "loading"},
    {"sampling", "prediction", "video_prediction", "comparison"},
    {"demonstration", "proving", "card"},
    {"gating", "repository"},
    {"publishing", "batch_run"},
    {"batching"},
    {"commands"},
    {"__main__", "__init__"},
)
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
# The one module of the model that knows the rest of the project, and only when it is called.
BUILDERS = PACKAGE / "model" / "build.py"
FOR_BUILDERS = {"config_files", "errors", "hub", "loading"}

# What modules of the model import beyond torch and the standard library.
MODEL_IMPORTS = {
    "components": {"numpy", "scipy"},
    "frames": {"PIL", "av", "numpy"},
    "image_predictor": {"PIL", "numpy"},
}


def modules() -> list[Path]:
    """Every module; the links to model and configs are followed."""
    return sorted(
        Path(folder) / name
        for folder, _, names in os.walk(PACKAGE, followlinks=True)
        for name in names
        if name.endswith(".py")
    )


def imported(path: Path) -> set[str]:
    """Names of the top-level parts of the package that a module imports, also within functions."""
    inside = path.relative_to(PACKAGE).parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        package = ["sam21convert", *inside[:-1]][: len(inside) - node.level + 1]
        full = [*package, *(node.module.split(".") if node.module else [])]
        names = [full[1]] if len(full) > 1 else [alias.name for alias in node.names]
        found |= {name for name in names if not name.startswith("__")}
    return found - {inside[0].removesuffix(".py")}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imported(path) - (FOR_BUILDERS if path == BUILDERS else set()):
        assert LEVEL[name] <= LEVEL[own], f"{path} imports {name}"


def test_the_model_stands_alone() -> None:
    for path in (PACKAGE / "model").glob("*.py"):
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                reach = FOR_BUILDERS if path == BUILDERS else set()
                assert node.level <= 1 or node.module in reach, f"{path} reaches out of the model"
                names = [node.module] if node.level == 0 and node.module else []
            found |= {name.partition(".")[0] for name in names}
        found -= {"torch", *sys.stdlib_module_names}
        assert found == MODEL_IMPORTS.get(path.stem, set()), path


def test_the_model_imports_decoders_and_scipy_only_when_they_are_used() -> None:
    program = (
        "import sys, sam21convert.model.components, sam21convert.model.frames\n"
        "sys.exit('av' in sys.modules or 'scipy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_the_builders_reach_out_when_called_and_not_when_imported() -> None:
    top = [
        node for node in ast.parse(BUILDERS.read_text()).body if isinstance(node, ast.ImportFrom)
    ]
    assert all(node.level <= 1 for node in top)
    assert imported(BUILDERS) == FOR_BUILDERS


def test_the_walk_over_imports_sees_the_arrows_that_are_there() -> None:
    assert "tensors" in imported(PACKAGE / "keymap.py")
    assert "checkpoint" in imported(PACKAGE / "planning.py")
    assert "hf" in imported(PACKAGE / "containers" / "__init__.py")


def test_the_package_list_is_what_is_on_disk() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    on_disk = {
        ".".join(("sam21convert", *path.parent.relative_to(PACKAGE).parts))
        for path in modules()
        if path.name == "__init__.py"
    }
    assert set(listed) == on_disk


def test_no_name_but_its_own_reaches_the_importer() -> None:
    program = (
        "import sys, sam21convert.model.config, sam21convert.configs\n"
        "sys.exit('model' in sys.modules or 'configs' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


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


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_compared_with_is_imported_by_one_module(path: Path) -> None:
    """By name, and no other module has a way to; a package may import parts of itself so."""
    found = packages_imported(path)
    assert not found & {*INSTALL, "torchvision"}
    assert ("?" in found) <= (path.name in ("peers.py", "__init__.py"))


def test_the_walk_over_packages_sees_them() -> None:
    assert "sam2" in packages_imported(Path(__file__).parent / "official.py")
    assert "?" in packages_imported(PACKAGE / "peers.py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 320
