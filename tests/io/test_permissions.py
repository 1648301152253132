"""What replaces a file may be read and written by those who could read and write the old one."""

from __future__ import annotations

import os
import shutil
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sam21convert.commands.main import main
from sam21convert.io.output import atomic
from sam21convert.io.output.atomic import new_file, new_files, new_folder, scratch

from ..support.outputs import KINDS, each_kind, make_inputs, modes, outputs, web_of
from .test_write_faults import permissions_held

FILES, FOLDERS = (0o640, 0o600, 0o444, 0o666), (0o750, 0o700, 0o2775)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("inputs")
    make_inputs(home)
    return home


@pytest.fixture
def home(tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    web_of(tmp_path, monkeypatch)
    return tmp_path


def run(words: list[str]) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output


def change_modes(home: Path) -> None:
    """Gives every file and folder one of several modes, so that neighbours differ."""
    of_files, of_folders = cycle(FILES), cycle(FOLDERS)
    for name, status in outputs(home).items():
        (home / name).chmod(next(of_folders if stat.S_ISDIR(status.st_mode) else of_files))


@pytest.mark.parametrize("kind", each_kind)
def test_overwriting_keeps_permissions(home: Path, kind: str) -> None:
    run(KINDS[kind])
    assert set(modes(home).values()) <= {0o644, 0o755}
    change_modes(home)
    before, old = modes(home), outputs(home)
    if kind.startswith("batch"):  # what is up to date is not written again
        os.utime(home / "in.pt")
    run([*KINDS[kind], "--overwrite"])
    assert modes(home) == before
    written = [name for name, new in outputs(home).items() if new.st_ino != old[name].st_ino]
    assert [name for name in written if (home / name).is_file()]


@pytest.mark.parametrize("kind", ["pt", "file with YAML", "transformers folder", "frames"])
def test_new_outputs_honour_the_umask(home: Path, kind: str) -> None:
    os.umask(0o027)
    run(KINDS[kind])
    assert set(modes(home).values()) <= {0o640, 0o750}
    os.umask(0o077)
    for name in [name for name in modes(home) if "/" not in name]:
        shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()
    run(KINDS[kind])
    assert set(modes(home).values()) <= {0o600, 0o700}


def without_exchange(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(atomic, "exchange", lambda *_: False)


def from_within(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.chdir(home / "out")


@pytest.mark.parametrize("way", [without_exchange, from_within])
def test_folders_that_are_written_file_by_file_keep_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[pytest.MonkeyPatch, Path], None]
) -> None:
    out = tmp_path / "out"

    def write() -> None:
        with new_folder(out, overwrite=True, without={"masks"}) as folder:
            (folder / "masks").mkdir()
            for name in ("a.json", "b.safetensors", "masks/c.png"):
                (folder / name).write_text(str(os.urandom(8)))

    write()
    change_modes(tmp_path)
    before = modes(tmp_path)
    way(monkeypatch, tmp_path)
    write()
    assert modes(tmp_path) == before
    assert len(before) == 5


def test_a_new_file_in_an_old_folder_honours_the_umask(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o700)
    (tmp_path / "out" / "old").touch(mode=0o600)
    with new_folder(tmp_path / "out", overwrite=True) as folder:
        for name in ("old", "new"):
            (folder / name).touch()
    assert modes(tmp_path) == {"out": 0o700, "out/new": 0o644, "out/old": 0o600}


@pytest.mark.parametrize("there", ["a link", "another kind"])
def test_what_is_no_file_of_the_same_kind_has_no_permissions_to_keep(
    tmp_path: Path, there: str
) -> None:
    """A link has none of its own, and those of its target are for the target."""
    (tmp_path / "target").touch(mode=0o600)
    (tmp_path / "out").mkdir()
    if there == "a link":
        (tmp_path / "out" / "a").symlink_to(tmp_path / "target")
    else:
        os.mkfifo(tmp_path / "out" / "a", 0o600)
    with new_folder(tmp_path / "out", overwrite=True) as folder:
        (folder / "a").touch()
    assert modes(tmp_path) == {"out": 0o755, "out/a": 0o644, "target": 0o600}


@contextmanager
def an_output(form: str, path: Path) -> Iterator[Path]:
    """A file or folder that is being written over ``path``."""
    if form == "file":
        with new_file(path, overwrite=True) as file:
            yield file
    elif form == "files":
        with new_files(path, path.with_suffix(".yaml"), overwrite=True) as folder:
            (folder / path.name).touch()
            yield folder
    else:
        with new_folder(path, overwrite=True) if form == "folder" else scratch(path) as folder:
            yield folder


@pytest.mark.parametrize("form", ["file", "files", "folder", "scratch"])
def test_a_private_output_is_private_while_it_is_written(tmp_path: Path, form: str) -> None:
    path = tmp_path / "out.pt"
    path.mkdir(mode=0o700) if form == "folder" else path.touch(mode=0o600)
    with an_output(form, path) as unfinished:
        assert not stat.S_IMODE(unfinished.stat().st_mode) & 0o077
    assert not stat.S_IMODE(path.stat().st_mode) & 0o077


def test_a_file_that_nobody_may_write_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.touch(mode=0o400)
    with permissions_held(), new_file(path, overwrite=True) as file:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.write_text("new")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_text()) == (0o400, "new")


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@as_root
@pytest.mark.parametrize("owner", [(0, 12345), (12345, 0), (12345, 54321)])
def test_owner_and_group_are_kept(tmp_path: Path, owner: tuple[int, int]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
        os.chown(tmp_path / name, *owner)
        (tmp_path / name).chmod(0o640)
    with new_file(tmp_path / "a", overwrite=True):
        pass
    with new_files(tmp_path / "b", overwrite=True) as folder:
        (folder / "b").touch()
    for name in ("a", "b"):
        status = (tmp_path / name).stat()
        assert (status.st_uid, status.st_gid) == owner
        assert stat.S_IMODE(status.st_mode) == 0o640


@as_root
@pytest.mark.parametrize(("mode", "kept"), [(0o640, 0o600), (0o664, 0o644), (0o604, 0o604)])
def test_another_group_gets_no_more_than_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, kept: int
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = tmp_path / "out"
    path.touch()
    os.chown(path, 0, 12345)
    path.chmod(mode)
    monkeypatch.setattr(os, "chown", refused)  # as for a user outside of the group
    with new_file(path, overwrite=True):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == kept


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """A POSIX access list as Linux stores it, of tag, permissions and id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_an_access_list_is_kept(tmp_path: Path) -> None:
    path, nobody = tmp_path / "out", 0xFFFFFFFF
    path.touch()
    users = [(1, 6, nobody), (2, 4, 12345), (4, 0, nobody), (0x10, 4, nobody), (0x20, 0, nobody)]
    try:
        os.setxattr(path, "system.posix_acl_access", access_list(*users))
    except (OSError, AttributeError):
        pytest.skip("no access lists here")
    with new_file(path, overwrite=True):
        pass
    assert os.getxattr(path, "system.posix_acl_access") == access_list(*users)


def test_a_file_system_without_permissions_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    (tmp_path / "out").touch(mode=0o600)
    monkeypatch.setattr(Path, "chmod", refused)
    monkeypatch.setattr(os, "chown", refused)
    with new_file(tmp_path / "out", overwrite=True) as file:
        file.write_text("new")
    assert (tmp_path / "out").read_text() == "new"


def test_a_read_only_folder_inside_the_output_is_no_obstacle(tmp_path: Path) -> None:
    """Its copy is removed after the exchange."""
    logs = tmp_path / "out" / "logs"
    logs.mkdir(parents=True)
    (logs / "log").touch()
    logs.chmod(0o555)
    with permissions_held(), new_folder(tmp_path / "out", overwrite=True) as folder:
        (folder / "a").touch()
    assert os.listdir(tmp_path) == ["out"]
    assert sorted(modes(tmp_path)) == ["out", "out/a", "out/logs", "out/logs/log"]
    assert modes(tmp_path)["out/logs"] == 0o555
