"""Installations made of links: what an extra of the package brings is there, and nothing else."""

from __future__ import annotations

import os
import shutil
import sys
import venv
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from .paths import PACKAGE, ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

Project = Mapping[str, Any]


def project() -> Project:
    """What ``pyproject.toml`` says of the package."""
    found: Project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def declared(extra: str = "") -> list[Requirement]:
    """What the package needs, or one of its extras, which may name others."""
    about = project()
    lines = about["optional-dependencies"][extra] if extra else about["dependencies"]
    found = []
    for one in map(Requirement, lines):
        if one.name != about["name"]:
            found.append(one)
        else:
            found += [each for inner in sorted(one.extras) for each in declared(inner)]
    return found


def closure(requirements: Iterable[Requirement]) -> dict[str, metadata.Distribution]:
    """The distributions that pip would install for requirements, from those of this Python."""
    found: dict[str, metadata.Distribution] = {}
    asked: set[tuple[str, str]] = set()

    def add(wanted: Iterable[Requirement], extra: str) -> None:
        for one in wanted:
            if one.marker is not None and not one.marker.evaluate({"extra": extra}):
                continue
            name = one.name.lower().replace("_", "-").replace(".", "-")
            for inner in ("", *one.extras):
                if (name, inner) not in asked:
                    asked.add((name, inner))
                    found[name] = metadata.distribution(one.name)
                    add(map(Requirement, found[name].requires or ()), inner)

    add(requirements, "")
    return found


def size(distributions: Iterable[metadata.Distribution]) -> int:
    """The bytes of all files, compiled ones included."""
    return sum(
        Path(str(one.locate_file(file))).stat().st_size
        for one in distributions
        for file in one.files or ()
        if Path(str(one.locate_file(file))).is_file()
    )


def _tops(distribution: metadata.Distribution) -> Iterator[Path]:
    """The files and folders that a distribution has in ``site-packages``."""
    for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
        yield Path(str(distribution.locate_file(top)))


def install(home: Path, *extras: str, package: Path = PACKAGE) -> Path:
    """Make an environment with the package and what it declares.

    Args:
        home: The folder to make.
        *extras: Extras of the package.
        package: The folder of the package.

    Returns:
        The Python of the environment.
    """
    venv.EnvBuilder(symlinks=True).create(home)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = home / "lib" / version / "site-packages"
    needed = [*declared(), *(one for extra in extras for one in declared(extra))]
    for one in closure(needed).values():
        for top in _tops(one):
            if not (site / top.name).exists():
                (site / top.name).symlink_to(top)
    (site / "sam21convert").symlink_to(package)
    return home / "bin" / "python"


def changed(home: Path, module: str, start: str) -> Path:
    """A copy of the package, one module of which begins with another statement.

    Args:
        home: The folder for the copy.
        module: The path of the module in the package.
        start: The statement, which follows the imports from ``__future__``.

    Returns:
        The folder of the package.
    """
    copy = shutil.copytree(PACKAGE, home / "sam21convert", ignore=shutil.ignore_patterns("*.pyc"))
    path = copy / module
    text = path.read_text()
    first = "from __future__ import annotations\n"
    assert first in text
    path.write_text(text.replace(first, f"{first}{start}\n", 1))
    return copy


def clone(home: Path) -> Path:
    """A copy of what a clone of the repository installs from."""
    home.mkdir()
    documents = ("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff")
    for name in ("pyproject.toml", "MANIFEST.in", *documents):
        shutil.copyfile(ROOT / name, home / name)
    for name in ("sam21convert", "model", "configs"):
        ignored = shutil.ignore_patterns("*.pyc")
        shutil.copytree(ROOT / name, home / name, symlinks=True, ignore=ignored)
    return home


def environment() -> dict[str, str]:
    """The variables of this process without those that lead Python to other packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
