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

from .checkpoint.test_inspect_all import Payload
from .commands.test_commands import run
from .support.checkpoints import DEBUG
from .support.paths import DOCS, ROOT


def recipes() -> list[Any]:
    text = (DOCS / "ci.md").read_text()
    return [yaml.safe_load(found) for found in re.findall(r"```yaml\n(.*?)```\n", text, re.S)]


def hook() -> dict[str, str]:
    (found,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    return {name: str(value) for name, value in found.items()}


@pytest.fixture
def project(checkpoints: Callable[[str], Path], tmp_path: Path) -> Path:
    """A repository with a checkpoint, and the program on its path."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.pt").symlink_to(checkpoints(DEBUG))
    (tmp_path / "models" / "README.md").write_text("# Mine\n")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "sam21convert"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sam21convert "$@"\n')
    program.chmod(0o755)
    return tmp_path


def step(project: Path, script: str) -> int:
    """Run a step as a runner does."""
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    variables = {"PATH": path, "PYTHONPATH": str(ROOT), "GITHUB_STEP_SUMMARY": "summary.md"}
    line = ["bash", "-e", "-o", "pipefail", "-c", script]
    done = subprocess.run(line, cwd=project, env={**os.environ, **variables}, capture_output=True)
    return done.returncode


def test_the_steps_of_the_action(project: Path) -> None:
    (job,) = recipes()[0]["jobs"].values()
    install, safe, ours, table = [one["run"] for one in job["steps"] if "run" in one]
    assert install == "pip install git+REPOSITORY"
    assert [step(project, one) for one in (safe, ours, table)] == [0, 0, 0]
    summary = (project / "summary.md").read_text()
    assert re.search(r"models/mine.pt +SAM 2.1 debug, official .* harmless\n", summary)
    (project / "models" / "cache.pkl").write_bytes(pickle.dumps(Payload()))
    assert [step(project, one) for one in (safe, ours)] == [1, 1]


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
