"""Paths that the system refuses are one line, in every command, wherever they are given."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sam21convert.commands.main import main

from ..io.test_write_faults import permissions_held
from ..support.checkpoints import DEBUG
from ..support.outputs import make_inputs

# What each of them is called by the system; None: the message is ours.
PATHS = {
    "shut/in.pt": "Permission denied",
    "shut/none": "Permission denied",
    "unreadable.pt": "Permission denied",
    "in.pt/x.pt": "Not a directory",
    "loop": None,
    "loop/x.pt": "Too many levels of symbolic links",
    "n" * 256: "File name too long",
    "n" * 256 + ".pt": "File name too long",
    "y/" * 2100 + "x.pt": "File name too long",
    "y/" * 1500 + "x.pt": "No such file or directory",  # more folders than Python calls in a call
    "\udcff.pt": "No such file or directory",
}
SOURCES = {
    "inspect": ["inspect", "PATH"],
    "validate": ["validate", "PATH"],
    "convert": ["convert", "PATH", "out.pt"],
    "convert to a folder": ["convert", "PATH", "out"],
    "base": ["convert", "in.pt", "out.pt", "--base", "PATH"],
    "config": ["convert", "in.pt", "out.pt", "--config", "PATH"],
    "diff": ["diff", "PATH", "in.pt"],
    "parity": ["parity", "in.pt", "truth:PATH"],
    "page": ["page", "PATH", "out", "--cdn"],
    "pull": ["pull", "PATH", "out.pt"],
    "image": ["predict", "image", "PATH", "--checkpoint", "in.pt", "--point", "3,3", "-o", "o.png"],
    "checkpoint": [
        *("predict", "image", "in.png", "--checkpoint", "PATH"),
        *("--point", "3,3", "-o", "o.png"),
    ],
}
OUTPUTS = {
    "convert": ["convert", "in.pt", "PATH.pt"],
    "convert to a folder": ["convert", "in.pt", "PATH"],
    "overwrite": ["convert", "in.pt", "PATH", "--overwrite"],
    "with YAML": ["convert", "in.pt", "PATH.pt", "--image-size", "256"],
    "sample": ["sample", "PATH.pt", "--config", DEBUG],
    "batch": ["batch", "in.pt", "--out", "PATH"],
    "plot": ["diff", "in.pt", "in.pt", "--plot", "PATH.png"],
    "report": ["parity", "in.pt", "in.pt", "--report", "PATH"],
    "pull": ["pull", "in.pt", "PATH.pt"],
    "image": [
        *("predict", "image", "in.png", "--checkpoint", "in.pt"),
        *("--point", "3,3", "-o", "PATH.png"),
    ],
    "video": [
        *("predict", "video", "in", "--checkpoint", "in.pt"),
        *("--point", "3,3", "-o", "PATH"),
    ],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    make_inputs(home)
    (home / "shut").mkdir()
    (home / "shut" / "in.pt").touch()
    (home / "shut").chmod(0)
    (home / "unreadable.pt").touch(0o000)
    (home / "loop").symlink_to("loop")
    return home


def refused(home: Path, words: list[str], path: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    """The answer, which is one line and leaves nothing behind."""
    monkeypatch.chdir(home)
    before = os.listdir(home)
    with permissions_held():
        result = CliRunner().invoke(main, [word.replace("PATH", path) for word in words])
    assert result.exit_code in (2, 3), result.output
    first, *more = result.stderr.splitlines()
    assert first.startswith("error: ")
    assert not [line for line in more if not line.startswith("hint: ")]
    assert os.listdir(home) == before
    return result


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("command", SOURCES)
def test_as_a_source(home: Path, command: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(home, SOURCES[command], path, monkeypatch)


@pytest.mark.parametrize("path", ["shut/o", "in.pt/o", "loop/o", "n" * 300, "y/" * 2100])
@pytest.mark.parametrize("command", OUTPUTS)
def test_as_an_output(home: Path, command: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(home, OUTPUTS[command], path, monkeypatch)


@pytest.mark.parametrize("command", [name for name in OUTPUTS if name != "batch"])
def test_a_folder_that_is_missing_is_wrong_usage(
    home: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == "plot":
        pytest.importorskip("matplotlib")
    result = refused(home, OUTPUTS[command], "no/o", monkeypatch)
    assert result.stderr.endswith(": the folder no does not exist\n")
    assert result.exit_code == 2
    written = refused(home, OUTPUTS[command], "shut/o", monkeypatch)
    assert written.exit_code == 3


@pytest.mark.parametrize("path", PATHS)
def test_the_line_names_the_path_and_the_cause(
    home: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = refused(home, ["inspect", "PATH"], path, monkeypatch)
    monkeypatch.chdir(home)
    with permissions_held():
        answer = json.loads(CliRunner().invoke(main, ["inspect", path, "--json"]).stdout)
    assert answer["error"].startswith(f"{path}: ")
    assert (PATHS[path] or "no such file") in answer["error"]
    assert answer["exit_code"] == result.exit_code
