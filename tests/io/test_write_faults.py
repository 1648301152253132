"""Faults while an output is written give a one-line error and change nothing."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sam21convert import convert
from sam21convert.checkpoint.open import open_checkpoint
from sam21convert.commands.main import main
from sam21convert.errors import UnreadableError, UsageError
from sam21convert.io.output import atomic
from sam21convert.io.output import rename as renaming
from sam21convert.io.output.atomic import new_file, new_folder
from sam21convert.io.output.staging import leftovers, recover
from sam21convert.workflows.batch.journal import alone_in

from ..support.checkpoints import DEBUG, official_pt, state_dict
from ..support.crashing import tree
from ..support.outputs import KINDS, each_kind, make_inputs, outputs, web_of

# The forms of an output: a file in each container, a folder, a file with its YAML.
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "pt": ("out.pt", {}),
    "safetensors": ("out.safetensors", {}),
    "folder": ("out", {}),
    "with yaml": ("out.pt", {"image_size": 256}),
}
each_form = pytest.mark.parametrize("form", FORMS)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def command(home: Path, form: str, *more: object) -> Result:
    name, options = FORMS[form]
    sizes = ["--image-size", options["image_size"]] if options else []
    return run("convert", home / "in.pt", home / name, *sizes, *more)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_pt(tmp_path_factory.mktemp("source") / "in.pt", state_dict(DEBUG))


@pytest.fixture
def home(tmp_path: Path, source: Path) -> Path:
    shutil.copy(source, tmp_path / "in.pt")
    return tmp_path


@pytest.fixture(params=["new", "overwrite"])
def over(request: pytest.FixtureRequest, home: Path) -> list[str]:
    """The option for a new output, or for replacing an earlier one of every form."""
    if request.param == "new":
        return []
    for name, old in (("out.pt", "old"), ("out.safetensors", "old"), ("out.yaml", "old")):
        (home / name).write_text(old)
    (home / "out").mkdir()
    (home / "out" / "model.safetensors").write_text("old")
    (home / "out" / "README.md").write_text("mine")
    return ["--overwrite"]


@contextmanager
def unchanged(home: Path) -> Iterator[None]:
    before = tree(home, hidden=True)
    yield
    assert tree(home, hidden=True) == before


def one_line(result: Result, code: int, *says: str) -> None:
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.replace("\nhint: ", " ").splitlines()) == 1, result.stderr
    for text in says:
        assert text in result.stderr


@contextmanager
def permissions_held() -> Iterator[None]:
    """Make permissions apply to root too, by dropping Linux capabilities."""
    if os.geteuid() != 0 or sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None)
    version = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()
    assert libc.capget(version, held) == 0
    less = (ctypes.c_uint32 * 6)(*held)
    less[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of the effective ones
    assert libc.capset(version, less) == 0
    try:
        yield
    finally:
        assert libc.capset(version, held) == 0


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """Mount an in-memory file system of this size; skip the test where that is impossible."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class TestDisk:
    @each_form
    def test_a_file_that_may_not_grow(self, home: Path, over: list[str], form: str) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        with unchanged(home):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
            try:
                result = command(home, form, *over)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            one_line(result, 3, str(home / FORMS[form][0]), "File too large")

    @pytest.mark.parametrize("kind", each_kind)
    def test_no_kind_of_output_fits(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        make_inputs(tmp_path)
        web_of(tmp_path, monkeypatch)
        monkeypatch.chdir(tmp_path)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            result = run(*KINDS[kind])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        if kind.startswith("batch"):  # which tells of each of its outputs
            assert result.exit_code == 1
            assert "File too large" in result.stdout
            assert set(outputs(tmp_path)) == {"out", "out/batch.json"}
        else:
            said = result.stderr.splitlines()[-1:]  # matplotlib also tells that it has no cache
            out = next(word for word in KINDS[kind] if word.startswith("out"))
            assert (result.exit_code, said) == (3, [f"error: {out}: File too large"])
            assert not outputs(tmp_path)

    @each_form
    @pytest.mark.parametrize("fault", ["full", "read-only"])
    def test_a_disk_that_is_full_or_read_only(
        self, home: Path, source: Path, form: str, fault: str
    ) -> None:
        disk = home / "disk"
        with mounted(disk, "3m" if fault == "full" else "40m"):
            shutil.copy(source, home / "in.pt")
            if fault == "full":
                (disk / "old").write_bytes(b"1" * (1 << 20))
            else:
                subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            name, settings = FORMS[form]
            sizes = ["--image-size", 256] if settings else []
            with unchanged(disk):
                result = run("convert", home / "in.pt", disk / name, *sizes)
                says = "No space left" if fault == "full" else "Read-only file system"
                one_line(result, 3, str(disk / name), says)

    def test_a_folder_that_is_a_mount_point_is_written(self, home: Path) -> None:
        out = home / "out"
        with mounted(out, "40m"):
            for more in ([], ["--overwrite", "--image-size", 256]):
                assert command(home, "folder", *more).exit_code == 0
            assert "model.safetensors" in os.listdir(out)
            assert not [name for name in os.listdir(out) if name.startswith(".")]

    def test_no_room_for_the_yaml(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> str:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("sam21convert.conversion.write.to_hydra", full)
        with unchanged(home):
            one_line(command(home, "with yaml"), 3, "No space left")

    @each_form
    def test_no_permission(self, source: Path, form: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            home.chmod(0o755)
            (home / "in.pt").write_bytes(source.read_bytes())
            (home / "shut").mkdir(mode=0o555)
            name, options = FORMS[form]
            sizes = ["--image-size", 256] if options else []
            with permissions_held():
                result = run("convert", home / "in.pt", home / "shut" / name, *sizes)
            one_line(result, 3, str(home / "shut" / name), "Permission denied")
            assert os.listdir(home / "shut") == []

    @each_form
    def test_a_folder_that_vanishes(
        self, home: Path, form: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name, options = FORMS[form]
        (home / "gone").mkdir()
        with pytest.raises(FileNotFoundError) as caught:
            convert(
                home / "in.pt",
                home / "gone" / name,
                check=lambda _: shutil.rmtree(home / "gone"),
                **options,
            )
        assert str(caught.value.filename) == str(home / "gone" / name)
        assert os.listdir(home) == ["in.pt"]


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"1")


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"1")


def _replace(path: Path) -> None:
    shutil.copy2(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


CHANGES: dict[str, Callable[[Path], None]] = {
    "appended to": _append,
    "written in": _flip,
    "replaced by an equal one": _replace,
    "cut": lambda path: os.truncate(path, 1000),
    "removed": Path.unlink,
}


class TestSource:
    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize("moment", ["before it is read", "after"])
    def test_a_source_that_changes_is_detected(
        self, home: Path, change: str, moment: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        convert(home / "in.pt", home / "in")
        weights = home / "in" / "model.safetensors"
        options: dict[str, Any] = {"check": lambda _: CHANGES[change](weights)}
        if moment != "after":

            def changing(*arguments: Any, **more: Any) -> Any:
                found = open_checkpoint(*arguments, **more)
                CHANGES[change](weights)
                return found

            monkeypatch.setattr("sam21convert.conversion.plan.open_checkpoint", changing)
            options = {}
        with pytest.raises((UnreadableError, FileNotFoundError)) as caught:
            convert(home / "in", home / "out.pt", **options)
        assert "model.safetensors" in str(caught.value)
        assert {path.name for path in home.iterdir()} == {"in.pt", "in"}

    def test_reading_the_source_is_not_a_change(self, home: Path) -> None:
        """Control: access times do not count."""

        def read(_: Path) -> None:
            (home / "in.pt").read_bytes()
            os.utime(home / "in.pt", ns=(1, (home / "in.pt").stat().st_mtime_ns))

        convert(home / "in.pt", home / "out.pt", check=read)

    @pytest.mark.parametrize("form", ["pt", "folder"])
    @pytest.mark.parametrize("way", ["itself", "symlink", "hard link", "dots", "folder link"])
    def test_the_source_is_never_the_output(self, home: Path, form: str, way: str) -> None:
        name, options = FORMS[form]
        convert(home / "in.pt", home / name, **options)
        given = home / name
        other = home / f"other{given.suffix}"
        if way == "symlink":
            other.symlink_to(given)
        elif way == "hard link":
            if form == "folder":
                other.mkdir()
                os.link(given / "model.safetensors", other / "model.safetensors")
            else:
                os.link(given, other)
        elif way == "dots":
            (home / "sub").mkdir()
            other = home / "sub" / ".." / name
        elif way == "folder link":
            (home / "elsewhere").symlink_to(home)
            other = home / "elsewhere" / name
        else:
            other = given
        with unchanged(home), pytest.raises(UsageError, match="is the input"):
            convert(given, other, overwrite=True, **options)

    def test_a_source_inside_the_output_folder_stays(self, home: Path) -> None:
        (home / "out").mkdir()
        (home / "in.pt").rename(home / "out" / "in.pt")
        before = (home / "out" / "in.pt").read_bytes()
        convert(home / "out" / "in.pt", home / "out", overwrite=True)
        assert (home / "out" / "in.pt").read_bytes() == before
        convert(home / "out" / "in.pt", home / "out", overwrite=True)
        assert os.listdir(home) == ["out"]

    @pytest.mark.parametrize("name", ["out.pt", "out"])
    def test_a_given_config_is_never_the_output(self, home: Path, name: str) -> None:
        convert(home / "in.pt", home / name, image_size=256)
        config = home / "out.yaml" if name == "out.pt" else home / "out"
        with unchanged(home), pytest.raises(UsageError, match="is the given config"):
            convert(home / "in.pt", home / name, config=config, image_size=192, overwrite=True)


class TestOutputPath:
    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize(
        ("name", "there", "code"),
        [
            ("out.pt", "folder", 2),
            ("out", "file", 2),
            ("out", "dangling link", 2),
            ("n" * 300 + ".pt", "nothing", 3),
            ("n" * 253 + ".pt", "nothing", 3),
            ("no/out.pt", "nothing", 2),
            ("in.pt/out.pt", "nothing", 2),
        ],
    )
    def test_a_path_that_cannot_be_written_is_refused(
        self, home: Path, name: str, there: str, code: int, overwrite: bool
    ) -> None:
        if there == "folder":
            (home / name).mkdir()
            (home / name / "mine").touch()
        elif there == "file":
            (home / name).touch()
        elif there == "dangling link":
            (home / name).symlink_to(home / "nowhere")
        with unchanged(home):
            result = run("convert", home / "in.pt", home / name, *["--overwrite"] * overwrite)
            one_line(result, code, name)

    def test_a_folder_in_the_place_of_the_yaml(self, home: Path) -> None:
        (home / "out.yaml").mkdir()
        with unchanged(home):
            result = command(home, "with yaml", "--overwrite")
            one_line(result, 2, "out.yaml: is a folder")

    @pytest.mark.parametrize("leads", ["to a file", "nowhere"])
    @pytest.mark.parametrize("form", ["pt", "safetensors", "with yaml"])
    def test_a_link_is_replaced_and_its_target_stays(
        self, home: Path, form: str, leads: str
    ) -> None:
        name, _ = FORMS[form]
        if leads == "to a file":
            (home / "theirs").write_text("theirs")
        (home / name).symlink_to("theirs")
        one_line(command(home, form), 2, "exists")
        assert command(home, form, "--overwrite").exit_code == 0
        assert not (home / name).is_symlink()
        assert (home / "theirs").exists() == (leads == "to a file")
        assert leads == "nowhere" or (home / "theirs").read_text() == "theirs"

    def test_a_link_to_a_folder_stays_a_link(self, home: Path) -> None:
        (home / "real").mkdir()
        (home / "real" / "mine").touch()
        (home / "out").symlink_to("real")
        assert command(home, "folder", "--overwrite").exit_code == 0
        assert (home / "out").is_symlink()
        assert {"mine", "model.safetensors"} < {path.name for path in (home / "real").iterdir()}
        assert set(os.listdir(home)) == {"in.pt", "real", "out"}

    def test_a_folder_keeps_its_attributes_and_the_files_in_it(self, home: Path) -> None:
        (home / "out" / "logs").mkdir(parents=True)
        (home / "out" / "logs" / "log").write_text("mine")
        (home / "out" / "link").symlink_to("logs")
        (home / "out").chmod(0o750)
        inode = (home / "out" / "logs" / "log").stat().st_ino
        assert command(home, "folder", "--overwrite").exit_code == 0
        assert (home / "out").stat().st_mode & 0o777 == 0o750
        assert (home / "out" / "logs" / "log").stat().st_ino == inode
        assert (home / "out" / "link").is_symlink()

    def test_a_current_folder_is_not_exchanged(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (home / "out").mkdir()
        (home / "out" / "mine").touch()
        monkeypatch.chdir(home / "out")
        assert run("convert", home / "in.pt", ".", "--overwrite").exit_code == 0
        assert {"mine", "model.safetensors"} < set(os.listdir())
        assert sorted(os.listdir(home)) == ["in.pt", "out"]


class TestSignals:
    @each_form
    @pytest.mark.parametrize(
        ("number", "code", "said"),
        [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    )
    def test_a_signal_gives_one_line_and_changes_nothing(
        self,
        home: Path,
        over: list[str],
        form: str,
        number: signal.Signals,
        code: int,
        said: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def slow(path: Path, *_: object) -> None:
            path.write_bytes(b"half")
            assert callable(signal.getsignal(number))
            os.kill(os.getpid(), number)
            time.sleep(10)

        for name in ("write_torch", "write_safetensors"):
            monkeypatch.setattr(f"sam21convert.conversion.write.{name}", slow)
        before = signal.getsignal(number)
        with unchanged(home):
            result = command(home, form, *over)
        assert (result.exit_code, result.stderr) == (code, f"error: {said}\n")
        assert signal.getsignal(number) is before

    def test_a_commit_that_is_interrupted_is_completed(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[Path] = []

        def interrupting(path: Path) -> None:
            calls.append(path)
            if len(calls) == 2:
                raise KeyboardInterrupt
            renaming.sync(path)

        monkeypatch.setattr("sam21convert.io.output.staging.sync", interrupting)
        with pytest.raises(KeyboardInterrupt):
            convert(home / "in.pt", home / "out.pt", image_size=256)
        assert sorted(os.listdir(home)) == ["in.pt", "out.pt", "out.yaml"]


class TestTwoWriters:
    @each_form
    def test_the_second_writer_is_refused_and_the_first_completes(
        self, home: Path, over: list[str], form: str
    ) -> None:
        name, options = FORMS[form]
        there, done = threading.Event(), threading.Event()

        def wait(_: Path) -> None:
            there.set()
            assert done.wait(20)

        writer = threading.Thread(
            target=convert,
            args=(home / "in.pt", home / name),
            kwargs={"check": wait, "overwrite": bool(over), **options},
        )
        writer.start()
        try:
            assert there.wait(20)
            one_line(command(home, form, *over, "--dtype", "float16"), 2, "another run")
        finally:
            done.set()
            writer.join()
        convert(home / "in.pt", home / ("alone" + Path(name).suffix), **options)
        for file, content in tree(home, hidden=True).items():
            if file.startswith("alone"):
                twin = home / file.replace("alone", "out", 1)
                assert twin.is_dir() or twin.read_bytes() == content
            assert "sam21" not in file

    def test_of_many_writers_at_once_one_succeeds(self, home: Path) -> None:
        dtypes = ("float32", "float16", "bfloat16")
        for dtype in dtypes:
            convert(home / "in.pt", home / f"{dtype}.pt", dtype=dtype)  # type: ignore[arg-type]
        told: list[str] = []

        def one(dtype: Any) -> None:
            try:
                convert(home / "in.pt", home / "out.pt", dtype=dtype, overwrite=True)
            except UsageError as error:
                told.append(error.message)

        threads = [threading.Thread(target=one, args=(dtype,)) for dtype in dtypes * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        whole = [(home / f"{dtype}.pt").read_bytes() for dtype in dtypes]
        assert (home / "out.pt").read_bytes() in whole
        assert len(told) < 9
        assert all("another run" in message for message in told)
        assert not [name for name in os.listdir(home) if name.startswith(".")]


def named(letter: str, length: int) -> str:
    """A name of so many bytes."""
    name = letter * (length // len(letter.encode()))
    return name + "x" * (length - len(name.encode()))


def staging(name: str, suffix: str) -> str:
    """What a temporary name looks like for a name that is too long to be used whole."""
    mark = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    start = os.fsencode(name)[: 120 - 17].decode(errors="ignore")
    return f".{start}~{mark}.sam21.{suffix}"


class TestLongNames:
    @each_form
    def test_the_longest_name_is_written(self, home: Path, form: str) -> None:
        suffix = Path(FORMS[form][0]).suffix
        longest = 253 if form == "with yaml" else 255  # in bytes; its YAML has a longer name
        name = named("é", longest - len(suffix)) + suffix
        sizes = ["--image-size", 256] if form == "with yaml" else []
        for more in ([], ["--overwrite"]):
            result = run("convert", home / "in.pt", home / name, *sizes, *more)
            assert result.exit_code == 0, result.output
        yaml = {name[:-3] + ".yaml"} if sizes else set()
        assert set(os.listdir(home)) == {"in.pt", name} | yaml

    @pytest.mark.parametrize("letter", ["n", "é", "\N{PILE OF POO}"])
    def test_a_name_of_any_length_is_written(self, tmp_path: Path, letter: str) -> None:
        for length in (1, 119, 120, 121, 122, 123, 241, 242, 254, 255):
            path = tmp_path / named(letter, length)
            with new_file(path, overwrite=False) as file:
                assert len(os.fsencode(file.name)) <= 143  # as much as some file systems allow
            path.unlink()
            with new_folder(path, overwrite=False) as folder:
                (folder / path.name).touch()
            assert os.listdir(tmp_path) == os.listdir(path) == [path.name]
            shutil.rmtree(path)

    @pytest.mark.parametrize("name", ["n" * 252 + ".pt", "n" * 126 + ".pt", "é" * 120 + ".pt"])
    @pytest.mark.parametrize("suffix", ["tmp", "scratch"])
    def test_a_leftover_is_recognised(self, home: Path, name: str, suffix: str) -> None:
        (home / staging(name, suffix)).touch()
        assert leftovers(home) == [home / staging(name, suffix)[1:].rpartition(".sam21")[0]]
        convert(home / "in.pt", home / name)
        assert set(os.listdir(home)) == {"in.pt", name}
        (home / staging(name, suffix)).touch()
        assert leftovers(home) == [home / name]
        recover(home / name)
        assert set(os.listdir(home)) == {"in.pt", name}

    def test_a_commit_is_completed(self, home: Path) -> None:
        name = "n" * 255
        (home / name).mkdir()
        (home / staging(name, "folder")).mkdir()
        (home / staging(name, "folder") / "a").touch()
        for found in leftovers(home):
            recover(found)
        assert os.listdir(home / name) == ["a"]
        assert set(os.listdir(home)) == {"in.pt", name}

    def test_long_names_that_begin_alike_have_nothing_in_common(self, home: Path) -> None:
        names = ["n" * 240 + end for end in ("1.pt", "2.pt")]
        (home / staging(names[0], "tmp")).touch()
        convert(home / "in.pt", home / names[1])
        assert (home / staging(names[0], "tmp")).exists()


class TestLeftovers:
    def test_leftovers_of_other_outputs_stay(self, home: Path) -> None:
        foreign = [".out.pt.tmp", ".other.pt.sam21.tmp", "out.pt.sam21.tmp"]
        for name in [*foreign, ".out.pt.sam21.tmp"]:
            (home / name).touch()
        convert(home / "in.pt", home / "out.pt")
        assert set(os.listdir(home)) == {"in.pt", "out.pt", *foreign}

    def test_a_link_in_place_of_a_leftover_is_not_followed(self, home: Path) -> None:
        (home / "theirs").write_text("theirs")
        (home / ".out.pt.sam21.tmp").symlink_to("theirs")
        one_line(command(home, "pt"), 3, "out.pt")
        assert (home / "theirs").read_text() == "theirs"

    @each_form
    def test_without_locks_a_leftover_is_not_removed(
        self, home: Path, over: list[str], form: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none(*_: object) -> None:
            raise OSError(37, "No locks available")

        monkeypatch.setattr("sam21convert.io.output.staging.fcntl.flock", none)
        assert command(home, form, *over).exit_code == 0
        stage = home / f".{FORMS[form][0]}.sam21.tmp"
        assert not stage.exists()
        stage.touch()
        one_line(command(home, form, "--overwrite"), 2, "another run", f"remove {stage}")

    def test_a_folder_in_use_by_a_batch_is_not_exchanged(self, home: Path) -> None:
        (home / "out").mkdir()
        (home / "out" / "batch.json").touch()
        with alone_in(home / "out"), unchanged(home):
            one_line(
                command(home, "folder", "--overwrite"),
                2,
                "another process is writing in this folder",
            )


def unsupported(*_: object) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


class TestOnTheDisk:
    """Contents are synced to the disk before the rename, and names after it."""

    @pytest.fixture
    def log(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
        events: list[tuple[str, str]] = []
        fsync, replace, rename, renameat2 = os.fsync, os.replace, os.rename, renaming._renameat2

        def synced(fd: int) -> None:
            events.append(("sync", str(Path(f"/proc/self/fd/{fd}").readlink())))
            fsync(fd)

        def named(real: Callable[..., None]) -> Callable[..., None]:
            def call(source: Any, target: Any, *flags: int, **options: Any) -> None:
                events.append(("name", str(target)))
                real(source, target, *flags, **options)

            return call

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", named(replace))
        monkeypatch.setattr(os, "rename", named(rename))
        monkeypatch.setattr(os, "link", named(os.link))
        monkeypatch.setattr(renaming, "_renameat2", named(renameat2))
        return events

    def durable(self, log: list[tuple[str, str]], home: Path, name: str) -> bool:
        """Whether all files were synced before the first rename, and each folder after its last."""
        first = next(at for at, (what, _) in enumerate(log) if what == "name")
        last = {str(Path(path).parent): at for at, (what, path) in enumerate(log) if what == "name"}
        stage = str(home / f".{name}.sam21.tmp")
        synced = {path for what, path in log[:first] if what == "sync" and path.startswith(stage)}
        files = [path for path in (home / name, *home.glob(f"{name}/*.json")) if path.exists()]
        files += home.glob(f"{name}/*.safetensors")
        inside = {stage + str(path)[len(str(home / name)) :] for path in files}
        named = all(("sync", folder) in log[at:] for folder, at in last.items())
        return inside <= synced and named

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs the names of open files")
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("exchanges", [True, False], ids=["exchanged", "one by one"])
    def test_outputs_are_synced_in_this_order(
        self,
        home: Path,
        over: list[str],
        form: str,
        exchanges: bool,
        log: list[tuple[str, str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """On every system: not all can exchange two folders, or rename without replacing."""
        if not exchanges:
            monkeypatch.setattr(renaming, "_renameat2", unsupported)
        assert command(home, form, *over).exit_code == 0
        assert self.durable(log, home, FORMS[form][0]), log

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs the names of open files")
    @pytest.mark.parametrize("lost", ["contents", "names"])
    def test_another_order_is_detected(
        self, home: Path, log: list[tuple[str, str]], lost: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if lost == "contents":
            monkeypatch.setattr(atomic, "sync_tree", lambda folder: None)
        else:
            monkeypatch.setattr(atomic, "sync", lambda path: None)
        assert command(home, "folder").exit_code == 0
        assert not self.durable(log, home, "out")
