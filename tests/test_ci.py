"""The recipes of docs/ci.md: the steps of the GitHub Action are run, and the pre-commit hook."""

from __future__ import annotations

import os
import pickle
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import sam21convert

from .checkpoint.test_inspect_all import Payload
from .commands.test_commands import run
from .support.checkpoints import DEBUG
from .support.paths import DOCS, ROOT


def recipes() -> list[Any]:
    text = (DOCS / "ci.md").read_text()
    return [yaml.safe_load(found) for found in re.findall(r"```yaml\n(.*?)```\n", text, re.S)]


def runs(job: str) -> list[str]:
    """What the steps of a job run."""
    return [one["run"] for one in recipes()[0]["jobs"][job]["steps"] if "run" in one]


def hook() -> dict[str, str]:
    (found,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    return {name: str(value) for name, value in found.items()}


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=me", "-c", "user.email=me@localhost")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def bring(folder: Path) -> None:
    """Commit what a pull request brings."""
    git(folder, "add", "models")
    git(folder, "commit", "--quiet", "-m", "brought")


@pytest.fixture
def project(checkpoints: Callable[[str], Path], tmp_path: Path) -> Path:
    """A repository with a checkpoint, and the program on its path."""
    (tmp_path / "models").mkdir()
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / "models" / "README.md").write_text("# Mine\n")
    (tmp_path / "models" / "old.pkl").write_bytes(pickle.dumps(Payload()))
    git(tmp_path, "add", "models")
    git(tmp_path, "commit", "--quiet", "-m", "base")
    (tmp_path / "models" / "mine.pt").symlink_to(checkpoints(DEBUG))
    sam21convert.convert(checkpoints(DEBUG), tmp_path / "models" / "my-model")
    (tmp_path / "bin").mkdir()
    provide(tmp_path, "-m sam21convert")
    return tmp_path


def provide(project: Path, program: str) -> None:
    """Put the program on the path of the project."""
    file = project / "bin" / "sam21convert"
    file.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {program} "$@"\n')
    file.chmod(0o755)


def step(project: Path, script: str) -> int:
    """Run a step as a runner does."""
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    variables = {"PATH": path, "PYTHONPATH": str(ROOT), "GITHUB_STEP_SUMMARY": "summary.md"}
    variables |= {"BASE": "main~1"}
    line = ["bash", "-e", "-o", "pipefail", "-c", script]
    done = subprocess.run(line, cwd=project, env={**os.environ, **variables}, capture_output=True)
    return done.returncode


def test_the_steps_of_the_action(project: Path) -> None:
    install, *steps = runs("brought")
    assert install == "pip install git+REPOSITORY"
    bring(project)
    assert [step(project, one) for one in steps] == [0, 0, 0, 0]
    assert (project / "brought").read_text() == "models/mine.pt\0models/my-model\0"
    summary = (project / "summary.md").read_text()
    assert re.search(r"models/mine.pt +SAM 2.1 debug, official .* harmless\n", summary)
    assert "old.pkl" not in summary


@pytest.mark.parametrize("name", ["evil", "damaged"])
def test_a_pull_request_that_brings_harm_or_damage_fails(project: Path, name: str) -> None:
    _, find, safe, sound, _ = runs("brought")
    whole = (project / "models" / "mine.pt").read_bytes()
    content = pickle.dumps(Payload()) if name == "evil" else whole[:900]
    (project / "models" / f"{name}.pt").write_bytes(content)
    bring(project)
    assert step(project, find) == 0
    assert step(project, safe) == step(project, sound) == 123  # xargs, of what it runs


def test_a_pull_request_without_checkpoints_passes(project: Path) -> None:
    _, *steps = runs("brought")
    (project / "models" / "old.pkl").unlink()
    git(project, "add", "models/old.pkl")
    git(project, "commit", "--quiet", "-m", "without it")
    assert [step(project, one) for one in steps] == [0, 0, 0, 0]
    assert (project / "brought").read_bytes() == b""


def test_the_nightly_comparison(project: Path) -> None:
    install, compare = runs("nightly")
    assert install == "pip install 'sam21convert[transformers] @ git+REPOSITORY'"
    assert compare.startswith("sam21convert parity models/mine.pt transformers:models/my-model")
    provide(project, "-c 'import tests.conftest, sam21convert.__main__ as it; it.start()'")
    assert step(project, f"{compare} --scenarios point --quiet") == 0
    assert (project / "evidence" / "index.html").is_file()


def test_the_hook(project: Path) -> None:
    assert recipes()[1]["repos"][0]["hooks"] == [{"id": hook()["id"]}]
    (project / "evil.pkl").write_bytes(pickle.dumps(Payload()))
    program, *words = shlex.split(hook()["entry"])
    assert program == "sam21convert"
    assert run(*words, project / "models" / "mine.pt").exit_code == 0
    assert run(*words, project / "models" / "mine.pt", project / "evil.pkl").exit_code == 1


def test_the_hook_is_given_what_may_be_a_pickle() -> None:
    pattern = re.compile(hook()["files"])
    for name in ("a.pt", "runs/a.pth", "a.ckpt", "x.pkl", "m/pytorch_model-00001-of-00002.bin"):
        assert pattern.search(name), name
    for name in ("a.safetensors", "a.py", "firmware.bin", "a.pt.md"):
        assert not pattern.search(name), name
