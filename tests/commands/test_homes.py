"""A quoted ``~`` is the home folder, and a folder to write has not the name of a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import sam21convert
from sam21convert.config.hydra_writer import to_hydra
from sam21convert.config.load import load_config
from sam21convert.errors import UsageError
from sam21convert.io.output.folders import refuse_file_name

from ..support.checkpoints import DEBUG
from ..support.outputs import make_inputs
from .test_commands import run

SAME = ["truth:~/in.pt", "truth:~/in.pt", "--scenarios", "point"]
AT = ["--checkpoint", "~/in.pt", "--point", "3,3", "-o"]
WRITING = {
    "convert": (["convert", "~/in.pt", "~/o.safetensors", "--config=~/c.yaml"], "o.safetensors"),
    "folder": (["convert", "~/in.pt", "~/folder", "--config", "~/c.yaml"], "folder"),
    "sample": (["sample", "~/s.pt", "--config=~/c.yaml"], "s.pt"),
    "diff": (["diff", "~/in.pt", "~/in.pt", "--plot", "~/d.png"], "d.png"),
    "batch": (["batch", "~/i*.pt", "--out", "~/all", "--config=~/c.yaml"], "all"),
    "parity": (["parity", *SAME, "--report", "~/report", "--config=~/c.yaml"], "report"),
    "image": (["predict", "image", "~/in.png", *AT, "~/o.png"], "o.png"),
    "everything": (
        ["predict", "image", "~/in.png", *AT[:2], "--everything", *AT[4:], "~/e.png"],
        "e.png",
    ),
    "video": (["predict", "video", "~/in", *AT, "~/video"], "video"),
}
FOLDERS = {
    "batch": ["batch", "in.pt", "--out", "OUT"],
    "parity": ["parity", "in.pt", "in.pt", "--report", "OUT"],
    "video": ["predict", "video", "in", "--checkpoint", "in.pt", "--point", "3,3", "-o", "OUT"],
    "demo": ["demo", "OUT"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    make_inputs(home)
    (home / "c.yaml").write_text(to_hydra(load_config(DEBUG)))
    return home


@pytest.mark.parametrize("name", WRITING)
def test_home(name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words, made = WRITING[name]
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    assert not (home / made).exists()
    done = run(*words, *(["--points-per-side", "1"] if name == "everything" else []))
    assert done.exit_code == 0, done.output
    assert (home / made).exists()
    assert not os.listdir(tmp_path)


def test_a_folder_of_that_very_name_is_meant(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    sam21convert.convert(home / "in.pt", "~/x.pt")
    assert os.listdir(tmp_path / "~") == ["x.pt"]


@pytest.mark.parametrize(
    ("out", "folder"),
    [("out.mp4", "out"), ("o.tar.gz", "o"), ("m.safetensor", "m"), ("my out.pt", "'my out'")],
)
@pytest.mark.parametrize("command", FOLDERS)
def test_the_name_of_a_file_is_refused_before_anything_is_done(
    command: str, out: str, folder: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    before = os.listdir(home)
    done = run(*(out if word == "OUT" else word for word in FOLDERS[command]))
    assert done.exit_code == 2
    assert f"{out}: the output is a folder" in done.stderr
    assert f"without such an ending: {folder}\n" in done.stderr
    assert os.listdir(home) == before


def test_a_folder_that_exists_and_other_dots_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").mkdir()
    for name in ("out.mp4", "epoch_1.5", "sam2.1", "a.b.c", "run.final"):
        refuse_file_name(tmp_path / name)
    with pytest.raises(UsageError):
        refuse_file_name(tmp_path / "other.mp4")


@pytest.mark.parametrize("option", ["--video", "--images"])
def test_a_missing_input_of_parity_is_told_with_what_is_spelt_alike(
    option: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "holiday").mkdir(exist_ok=True)
    scenario = "video-point" if option == "--video" else "point"
    done = run("parity", "in.pt", "in.pt", "--scenarios", scenario, option, "hoilday")
    assert done.exit_code == 3, done.output
    assert "hoilday: No such file or directory" in done.stderr
    assert "did you mean holiday?" in done.stderr


def test_so_is_a_missing_picture(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    done = run("predict", "image", "inn.png", *AT[:1], "in.pt", *AT[2:], "o2.png")
    assert done.exit_code == 3
    assert "or in.png?" in done.stderr
