"""Paths that do not exist, and what may be meant by them."""

from __future__ import annotations

from pathlib import Path

import pytest

import sam21convert
from sam21convert.errors import MissingFileError
from sam21convert.io.nearby import expanded, missing, nearby, there

FILES = ("tiny.pt", "tiny.yaml", "epoch_9.pt", "runs/last.pt")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("tinny.pt", ["tiny.pt", "tiny.yaml"]),
        ("tiny.safetensors", ["tiny.pt", "tiny.yaml"]),
        ("Epoch-9.pt", ["epoch_9.pt"]),
        ("run", ["runs"]),
        ("runs/lst.pt", ["runs/last.pt"]),
        ("run/last.pt", ["runs/last.pt"]),
        ("other.pt", []),
        ("nowhere/last.pt", []),
        ("tiny.pt/x.pt", []),
        ("y/" * 1500 + "x.pt", []),
    ],
)
def test_what_is_spelt_alike_is_found(folder: Path, typed: str, meant: list[str]) -> None:
    assert [str(path) for path in nearby(Path(typed))] == meant


@pytest.mark.parametrize(
    ("typed", "is_there"),
    [("tiny.pt", True), ("runs", True), ("x.pt", False), ("tiny.pt/x.pt", False), ("\0", False)],
)
@pytest.mark.usefixtures("folder")
def test_whether_something_has_a_name(typed: str, is_there: bool) -> None:
    assert there(Path(typed)) == is_there


def test_what_the_system_does_not_tell_is_not_said_to_be_missing() -> None:
    path = Path("n" * 256)
    with pytest.raises(OSError, match="File name too long"):
        there(path)
    assert missing(path).message == f"{path}: File name too long"


def test_the_error_names_it_in_quotes_where_a_shell_splits(folder: Path) -> None:
    (folder / "my model.pt").touch()
    with pytest.raises(MissingFileError) as caught:
        sam21convert.inspect("my modell.pt")
    assert caught.value.hint == "did you mean 'my model.pt'?"


def test_a_home_that_no_shell_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "runs"))
    assert expanded(Path("~/last.pt")) == folder / "runs/last.pt"
    assert expanded(Path("~no-such-user/x")) == Path("~no-such-user/x")
    assert expanded(Path("a~/x")) == Path("a~/x")
    (folder / "~").mkdir()
    assert expanded(Path("~/last.pt")) == Path("~/last.pt")  # something has that very name
