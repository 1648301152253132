"""Exit code 1 is a no. A fault of ours is 70, and output that nobody can read is no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import sam21convert
from sam21convert import __version__
from sam21convert.checkpoint.inspect import Inspection
from sam21convert.commands.main import main
from sam21convert.progress import ProgressBar

from ..support.checkpoints import DEBUG, official_pt
from ..support.paths import ROOT

SECRET = "hf_" + "Qx7" * 9


@pytest.fixture
def pt(tmp_path: Path) -> Path:
    return official_pt(tmp_path / "m.pt")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def breaking(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Makes ``inspect`` raise something that it never should."""

    def fail(*_: object, **__: object) -> None:
        raise error

    # Imported before that, or it would keep what stands in here.
    monkeypatch.setattr("sam21convert.checkpoint.inspect_all.inspect", fail)
    monkeypatch.setattr("sam21convert.checkpoint.inspect.inspect", fail)


class OutOfMemoryError(RuntimeError):
    """Named as torch's, for a GPU."""


class TestFaults:
    @pytest.mark.parametrize(
        "error",
        [
            ValueError("embedded null byte"),
            KeyError("x"),
            AssertionError(),
            RecursionError("maximum recursion depth exceeded"),
            UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"),
            ImportError("no such module"),
            SystemExit(1),  # a library that ends the process
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_a_fault_is_named_as_ours(
        self, pt: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
    ) -> None:
        breaking(monkeypatch, error)
        result = run("inspect", pt)
        fault, hint = result.stderr.splitlines()
        assert (result.exit_code, result.stdout) == (70, "")
        said = f"error: a fault of sam21convert {__version__}: {type(error).__name__}"
        assert fault.startswith(said)
        assert hint.startswith("hint: please report it")
        assert "SAM21CONVERT_TRACEBACK=1" in hint

    def test_with_json_it_is_an_object(self, pt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        breaking(monkeypatch, ValueError("x"))
        result = run("inspect", pt, "--json")
        answer = json.loads(result.stdout)
        assert (result.exit_code, answer["exit_code"], result.stderr) == (70, 70, "")
        assert answer["error"] == f"a fault of sam21convert {__version__}: ValueError: x"
        assert "report" in answer["hint"]

    @pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
    def test_a_traceback_is_shown_when_it_is_asked_for(
        self, pt: Path, monkeypatch: pytest.MonkeyPatch, value: str, shown: bool
    ) -> None:
        monkeypatch.setenv("SAM21CONVERT_TRACEBACK", value)
        breaking(monkeypatch, ValueError("x"))
        result = run("inspect", pt)
        assert result.exit_code == 70
        assert result.stderr.startswith("Traceback") == shown
        assert ("test_ending.py" in result.stderr) == shown
        assert result.stderr.splitlines()[-2].startswith("error: a fault")

    def test_errors_of_the_user_show_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Control."""
        monkeypatch.setenv("SAM21CONVERT_TRACEBACK", "1")
        result = run("inspect", tmp_path / "gone.pt")
        assert (result.exit_code, len(result.stderr.splitlines())) == (3, 1)

    def test_its_text_is_short_safe_and_without_secrets(
        self, pt: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        breaking(monkeypatch, ValueError(f"\x1b[31m\n{SECRET} " + "x" * 10_000))
        result = run("inspect", pt)
        assert len(result.stderr.splitlines()) == 2
        assert len(result.stderr) < 1000
        assert "\x1b" not in result.stderr
        assert SECRET not in result.stderr

    def test_a_report_that_cannot_be_printed_is_a_fault(
        self, pt: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Inspection, "shown", lambda self: 1 / 0)
        assert run("inspect", pt).exit_code == 70

    def test_so_is_one_outside_of_commands(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise ValueError("x")

        monkeypatch.setattr(click.Group, "parse_args", fail)
        assert run("inspect", "m.pt").exit_code == 70
        assert json.loads(run("inspect", "m.pt", "--json").stdout)["exit_code"] == 70

    def test_so_is_an_installation_that_lacks_a_part(self) -> None:
        lacking = (
            "import sys; sys.modules['click'] = None\n"
            "from sam21convert.__main__ import start; start()"
        )
        done = subprocess.run(
            [sys.executable, "-c", lacking], capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 70
        assert done.stderr.startswith("error: a fault of sam21convert")
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate"),
        ],
    )
    def test_a_lack_of_memory_is_not_ours(
        self, pt: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        breaking(monkeypatch, error)
        result = run("inspect", pt)
        assert result.exit_code == 3
        assert result.stderr.startswith("error: not enough memory")

    def test_ctrl_c_where_no_handler_is_in_place(
        self, pt: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        breaking(monkeypatch, KeyboardInterrupt())
        assert run("inspect", pt).exit_code == 130


@pytest.mark.parametrize(
    ("line", "path", "said"),
    [
        ("frob", "", "no such command 'frob'"),
        ("help frob", "", "no such command 'frob'"),
        ("help convrt", "", "no such command 'convrt'. Did you mean convert?"),
        ("predict imag", "predict", "no such command 'imag'. Did you mean image?"),
        ("convert a b --tp hf", "convert", "no such option '--tp'"),
        ("convert a b --to hf-vidio", "convert", "invalid value for '--to': 'hf-vidio' is"),
        ("inspect", "inspect", "missing argument 'SOURCE|FOLDER|PATTERN...'"),
        ("sample out.pt --seed a", "sample", "invalid value for '--seed': 'a' is"),
    ],
)
def test_wrong_usage_is_an_error_like_any_other(line: str, path: str, said: str) -> None:
    result = run(*line.split())
    error, hint = result.stderr.splitlines()
    command = " ".join(["main", *path.split(), "--help"])
    assert result.exit_code == 2
    assert error.startswith(f"error: {said}")
    assert not error.endswith(".")
    assert hint == f"hint: {command} shows the usage"
    assert run(*command.split()[1:]).exit_code == 0


class TestUsage:
    @pytest.mark.parametrize(
        "words",
        [["a\0b"], ["inspect", "a\0b"], ["convert", "a", "b", "--config", "x\0"], ["hf://a/b\0"]],
    )
    def test_no_argument_holds_a_zero_byte(self, words: list[str]) -> None:
        result = run(*words)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: an argument cannot hold a zero byte\n")

    @pytest.mark.parametrize("words", [["safety", ""], ["convert", "a", "b", "--config", ""], [""]])
    def test_none_is_empty(self, words: list[str]) -> None:
        """As a path it would be the current folder."""
        result = run(*words)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: an argument is empty: is a variable of the shell")

    @pytest.mark.parametrize("words", [["\x1b[31m"], ["inspect", "--\x1b[31m"], ["list", "\x1b"]])
    def test_arguments_are_shown_escaped(self, words: list[str]) -> None:
        """A pattern of the shell may expand to any name."""
        result = run(*words)
        assert result.exit_code == 2
        assert "\x1b" not in result.stderr
        assert r"\x1b" in result.stderr

    @pytest.mark.parametrize("words", [["--help"], ["inspect", "--help"], ["--version"]])
    def test_help_is_a_yes(self, words: list[str]) -> None:
        assert run(*words).exit_code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
class TestOutput:
    """Run by a shell, in processes of their own."""

    def shell(self, home: Path, line: str, **more: str) -> tuple[int, str, str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}
        command = f"{sys.executable} -m sam21convert"
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line.replace('sam21convert', command, 1)}"],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    @pytest.mark.parametrize("words", ["inspect m.pt", "inspect m.pt --json", "inspect --help"])
    def test_a_full_device(self, tmp_path: Path, pt: Path, words: str) -> None:
        said = "error: standard output: No space left on device\n"
        assert self.shell(tmp_path, f"sam21convert {words} > /dev/full") == (3, "", said)

    @pytest.mark.parametrize("words", ["inspect m.pt", "--version", "inspect gone.pt --json"])
    def test_a_pipe_that_nobody_reads(self, tmp_path: Path, pt: Path, words: str) -> None:
        assert self.shell(tmp_path, f"sam21convert {words} | true") == (141, "", "")

    @pytest.mark.parametrize(
        ("words", "code"), [("inspect gone.pt", 3), ("nothing", 2), ("inspect m.pt", 0)]
    )
    def test_errors_that_nobody_can_read_keep_their_code(
        self, tmp_path: Path, pt: Path, words: str, code: int
    ) -> None:
        ended, _, said = self.shell(tmp_path, f"sam21convert {words} 2> /dev/full")
        assert (ended, said) == (code, "")

    @pytest.mark.parametrize("prepared", [True, False])
    def test_closed_streams_do_not_end_up_in_an_output(
        self, tmp_path: Path, pt: Path, prepared: bool
    ) -> None:
        """The files that are opened first would take their place, as they do without care."""
        (tmp_path / "program.py").write_text(
            "import os\n"
            "import sam21convert.commands.ending as ending\n"
            "import sam21convert.io.safetensors as writer\n"
            "from sam21convert.__main__ import start\n"
            f"if not {prepared}: ending.prepare_streams = lambda: None\n"
            "real = writer.copy_tensors\n"
            "def chatty(*given):\n"
            "    real(*given)\n"
            "    for fd in (0, 1, 2): os.write(fd, b'hello')\n"
            "writer.copy_tensors = chatty\n"
            "start()\n"
        )
        line = f"{sys.executable} program.py convert m.pt out.safetensors >&- 2>&- <&-"
        assert (self.shell(tmp_path, line)[0] == 0) == prepared
        assert (tmp_path / "out.safetensors").exists() == prepared

    def test_names_that_standard_output_cannot_encode(self, tmp_path: Path, pt: Path) -> None:
        pt.rename(tmp_path / "é.pt")
        code, out, err = self.shell(tmp_path, "sam21convert inspect *.pt", PYTHONIOENCODING="ascii")
        assert (code, err) == (0, "")
        assert out.startswith(r"file        \xe9.pt")

    def test_names_that_are_no_text(self, tmp_path: Path, pt: Path) -> None:
        pt.rename(os.fsdecode(bytes(tmp_path) + b"/\xff\n.pt"))
        code, out, err = self.shell(tmp_path, "sam21convert convert *.pt $'b\\xff'")
        assert (code, err) == (0, "")
        assert out.startswith(r"read     \udcff\n.pt (official, torch zip)")
        assert sorted(os.listdir(bytes(tmp_path))) == [b"b\xff", b"\xff\n.pt"]


class Terminal:
    """A standard error that is one, and may vanish."""

    def __init__(self, *, gone: bool = False) -> None:
        self.text, self.gone = "", gone

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.gone:
            raise OSError(5, "Input/output error")
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


class TestProgress:
    def test_names_are_escaped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr("sam21convert.progress._PATIENCE", 0)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        escaped = r"reading \x1b[2J\n name\x1b[31m\r\n (1 of 2)"
        with ProgressBar() as progress:
            progress.start("reading \x1b[2J\n", 2)
            progress.advance(1, "name\x1b[31m\r\n")
            while escaped not in terminal.text:  # or the time of this test runs out
                time.sleep(0.01)
        assert "\x1b[31m" not in terminal.text
        assert "\x1b[2J" not in terminal.text

    @pytest.mark.parametrize("stream", [None, Terminal(gone=True)], ids=["closed", "gone"])
    def test_work_goes_on_without_a_terminal(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stream: Any
    ) -> None:
        monkeypatch.setattr(sys, "stderr", stream)
        with ProgressBar() as progress:
            sam21convert.sample(tmp_path / "m.pt", DEBUG)
            sam21convert.convert(tmp_path / "m.pt", tmp_path / "out", progress=progress)
        assert (tmp_path / "out").is_dir()


def child(program: str, *shell: str) -> tuple[int, list[str], str]:
    """The exit code of a process, the words that it prints, and its errors."""
    done = subprocess.run(
        [*shell, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    return done.returncode, done.stdout.split(), done.stderr


def test_little_garbage_is_searched_for() -> None:
    """Python's own threshold was 700 for long; what is left to its end searches all objects."""
    program = (
        "import atexit, gc, sys; from sam21convert.__main__ import start\n"
        "sys.argv = ['sam21convert', '--version']\n"
        "atexit.register(lambda: print(gc.get_threshold()[0]))\n"
        "try: start()\n"
        "finally: print('left')"
    )
    code, words, _ = child(program)
    assert (code, words[-1]) == (0, "10000")
    assert "left" not in words


class TestEnd:
    """Without a search among all objects, where nothing needs Python's own end."""

    program = """
import atexit, sys, threading, time
from sam21convert.commands.ending import end_at_once

def work():
    time.sleep(0.2)
    print("worked")

atexit.register(print, "registered")
print("written")
{before}
try:
    sys.exit({code})
except SystemExit as ended:
    end_at_once(ended)
    print("left")
    raise
"""

    @pytest.mark.parametrize("code", [0, 1, 70])
    def test_what_was_printed_and_registered_is_kept(self, code: int) -> None:
        found = child(self.program.format(before="", code=code))
        assert found == (code, ["written", "registered"], "")

    @pytest.mark.parametrize("which", ["profile", "trace"])
    def test_in_a_profiler_python_ends(self, which: str) -> None:
        found = child(self.program.format(before=f"sys.set{which}(lambda *_: None)", code=3))
        assert found == (3, ["written", "left", "registered"], "")

    def test_threads_finish_their_work(self) -> None:
        begin = "threading.Thread(target=work{}).start()"
        found = child(self.program.format(before=begin.format(""), code=3))
        assert found == (3, ["written", "left", "worked", "registered"], "")
        unwaited = begin.format(", daemon=True")
        found = child(self.program.format(before=unwaited, code=3))
        assert found == (3, ["written", "registered"], "")

    def test_output_that_is_lost_is_told_by_python(self) -> None:
        program = self.program.format(before="", code=3)
        code, _, errors = child(program, "bash", "-c", '"$@" > /dev/full', "-")
        assert code == 120
        assert "No space left on device" in errors
