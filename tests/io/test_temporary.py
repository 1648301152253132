"""Temporary folders of killed runs are removed by the next run, and nothing else is."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from sam21convert.io.output.staging import locked
from sam21convert.io.output.temporary import temporary_folder

LEFT = ".sam21convert-k3_jd92x.sam21.tmp"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def leave(home: Path) -> Path:
    """What a killed run leaves."""
    (home / LEFT / "deep").mkdir(parents=True)
    (home / LEFT / "deep" / "model.safetensors").touch()
    return home / LEFT


def test_it_is_private_and_removed(home: Path) -> None:
    with pytest.raises(ZeroDivisionError), temporary_folder() as folder:
        assert folder.parent == home
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "a").touch()
        _ = 1 / 0
    assert os.listdir(home) == []


def test_leftovers_are_removed(home: Path) -> None:
    leave(home)
    with temporary_folder() as folder:
        assert os.listdir(home) == [folder.name]


def test_folders_in_use_stay(home: Path) -> None:
    with temporary_folder() as one, temporary_folder() as other:
        assert set(os.listdir(home)) == {one.name, other.name}
    left = leave(home)
    with locked(left), temporary_folder():
        assert left.exists()


@pytest.mark.parametrize(
    "name",
    ["sam21convert-demo", "sam21convert-my_model", ".out.sam21.tmp", "tmpk3_jd92x", LEFT[1:]],
)
def test_what_others_made_stays(home: Path, name: str) -> None:
    (home / name).mkdir()
    with temporary_folder():
        assert (home / name).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_those_of_other_users_stay(home: Path) -> None:
    os.chown(leave(home), 12345, -1)
    with temporary_folder():
        assert (home / LEFT).exists()


def test_a_link_is_not_followed(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    theirs = tmp_path_factory.mktemp("theirs")
    (theirs / "a").touch()
    (home / LEFT).symlink_to(theirs)
    with temporary_folder():
        assert (theirs / "a").exists()


def test_without_locks_nothing_is_removed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("sam21convert.io.output.staging.fcntl.flock", none)
    leave(home)
    with temporary_folder():
        assert (home / LEFT).exists()
    assert os.listdir(home) == [LEFT]


def test_one_that_is_taken_for_a_leftover_is_made_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a run that starts between the moments when it is made and when it is locked."""
    real, made = tempfile.mkdtemp, list[str]()

    def make(*given: str) -> str:
        made.append(real(*given))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make)
    with temporary_folder() as folder:
        assert str(folder) == made[1]
