"""What is built: a wheel that holds the whole package, and an sdist that gives the same wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.metadata import Metadata
from packaging.specifiers import SpecifierSet

import sam21convert

from .support import installs
from .support.checkpoints import DEBUG
from .support.paths import PACKAGE, ROOT

INFO = f"sam21convert-{sam21convert.__version__}.dist-info"


def build(clone: Path, *kinds: str) -> Path:
    """Build with the setuptools that is installed, so that no index is asked.

    Args:
        clone: What is built from.
        *kinds: ``--wheel``; nothing for an sdist, and a wheel from that.

    Returns:
        The folder of what was built.
    """
    options = ("--no-isolation", *kinds, "-o", f"{clone}/dist")
    line = [sys.executable, "-m", "build", *options, str(clone)]
    done = subprocess.run(line, env=installs.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "absent from the `packages` configuration" not in done.stderr
    return clone / "dist"


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


def on_disk() -> dict[str, bytes]:
    """The files of the package; the links to model and configs are followed."""
    return {
        str((Path(folder) / name).relative_to(ROOT)): (Path(folder) / name).read_bytes()
        for folder, _, names in os.walk(PACKAGE, followlinks=True)
        for name in names
        if not name.endswith(".pyc")
    }


def parts(wheel: Mapping[str, bytes]) -> dict[str, bytes]:
    """What a wheel holds besides what describes it."""
    return {name: data for name, data in wheel.items() if not name.startswith(INFO)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, and the wheel that was built from it."""
    return build(installs.clone(tmp_path_factory.mktemp("built") / "clone"))


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return built / f"sam21convert-{sam21convert.__version__}-py3-none-any.whl"


def test_the_wheel_holds_the_whole_package(wheel: Path) -> None:
    assert differing(parts(content(wheel)), on_disk()) == []


def test_what_is_left_out_would_be_noticed(tmp_path: Path) -> None:
    clone = installs.clone(tmp_path / "clone")
    text = (clone / "pyproject.toml").read_text()
    kept = '"sam21convert.comparison.page" = ["*.css"]'
    assert kept in text
    (clone / "pyproject.toml").write_text(text.replace(kept, kept.replace('"*.css"', "")))
    (wheel,) = build(clone, "--wheel").iterdir()
    assert differing(parts(content(wheel)), on_disk()) == ["sam21convert/comparison/page/page.css"]


def test_the_tree_gives_the_same_wheel_as_the_sdist(wheel: Path, tmp_path: Path) -> None:
    (direct,) = build(installs.clone(tmp_path / "clone"), "--wheel").iterdir()
    assert direct.name == wheel.name
    assert differing(content(direct), content(wheel)) == []


def test_the_sdist_says_what_it_is(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    inside = content(wheel)
    about = Metadata.from_email(inside[f"{INFO}/METADATA"], validate=True)
    assert about.license_expression == "Apache-2.0"
    assert inside[f"{INFO}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert about.description_content_type == "text/markdown"
    assert {*(about.provides_extra or ())} == {*installs.project()["optional-dependencies"]}


def test_classifiers_are_what_is_tested() -> None:
    """The Pythons of noxfile.py, as requires-python has it."""
    about: Any = installs.project()
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(about["classifiers"]))
    tested = re.search(r"PYTHONS = \((.*)\)", (ROOT / "noxfile.py").read_text())
    assert tested is not None
    assert named == re.findall(r"3\.\d+", tested[1])
    allowed = SpecifierSet(about["requires-python"])
    assert next(minor for minor in range(20) if f"3.{minor}" in allowed) == int(named[0][2:])
    assert ("Typing :: Typed" in about["classifiers"]) == (PACKAGE / "py.typed").exists()
    assert not [one for one in about["classifiers"] if one.startswith("License")]  # PEP 639


def test_the_readme_names_the_wheel(wheel: Path) -> None:
    assert f"pip install '{wheel.name}[torch]'" in (ROOT / "README.md").read_text()


def test_the_citation_agrees() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    about = installs.project()
    assert cited["version"] == about["version"] == sam21convert.__version__
    assert (cited["title"], cited["license"]) == (about["name"], about["license"])
    assert cited["authors"] == about["authors"]
    assert cited["cff-version"] == "1.2.0"


PROGRAM = f"""
import sam21convert
from sam21convert.workflows.demo import demonstrate

print(sam21convert.__file__)
print(demonstrate("demo", "{DEBUG}"))
"""


def demo(python: Path, work: Path, *line: str) -> str:
    """What a demonstration says that runs in an empty folder."""
    work.mkdir()
    done = subprocess.run(
        [python, *line], cwd=work, env=installs.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    """Unpacked, where nothing but the extra ``torch`` is installed; a small model."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    python = installs.install(tmp_path / "env", "torch", package=tmp_path / "sam21convert")
    said = demo(python, tmp_path / "work", "-c", PROGRAM)
    assert said.startswith(str(tmp_path / "env"))
    assert "Both conversions kept every bit." in said


@pytest.mark.slow
def test_a_wheel_that_is_installed_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    """By pip, with torch from the index, in an empty environment: gigabytes."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", f"{wheel}[torch]"], check=True)
    assert "Both conversions kept" in demo(python, tmp_path / "work", "-m", "sam21convert", "demo")
