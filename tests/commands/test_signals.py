"""Ctrl-C and SIGTERM end a command with one line at whatever moment they arrive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sam21convert.commands.signals import Stopped, Stopping
from sam21convert.report import head

from ..support.answers import conforms
from ..support.checkpoints import official_pt
from ..support.paths import ROOT

ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
both = pytest.mark.parametrize("number", ENDS)

# Sends a signal to itself when it first looks for a module.
RINGING = """
import os, sys

class Bell:
    def __init__(self, name, number):
        self.name, self.number = name, number

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            self.name = None
            os.kill(os.getpid(), self.number)

sys.meta_path.insert(0, Bell(sys.argv.pop(1), int(sys.argv.pop(1))))
sys.argv[0] = "sam21convert"
from sam21convert.__main__ import start
start()
"""
# While these are imported, one after the other, by the command below.
IMPORTS = (
    "sam21convert.commands.ending",
    "sam21convert.commands.main",
    "click.core",
    "sam21convert.commands.predict",
    "sam21convert.prediction.image",
    "numpy",
    "numpy.linalg",
    "torch._C",
    "torch.functional",
    "torch.nn",
    "PIL.PngImagePlugin",
)


def child(program: Sequence[str], home: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *program],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def segmenting(home: Path) -> list[str]:
    """A command that imports most of what there is."""
    from PIL import Image

    official_pt(home / "m.pt")
    Image.new("RGB", (32, 32)).save(home / "p.png")
    given = ["--checkpoint", "m.pt", "--point", "9,9", "-o", "out.png"]
    return ["predict", "image", "p.png", *given]


@pytest.mark.parametrize("name", IMPORTS)
def test_a_signal_during_an_import_is_one_line(tmp_path: Path, name: str) -> None:
    words = segmenting(tmp_path)
    before = {*os.listdir(tmp_path)}
    number = signal.SIGINT if IMPORTS.index(name) % 2 else signal.SIGTERM
    code, said = ENDS[number]
    with child(["-c", RINGING, name, str(int(number)), *words], tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", f"error: {said}\n")
    assert {*os.listdir(tmp_path)} == before


@both
def test_with_json_it_is_an_object(tmp_path: Path, number: signal.Signals) -> None:
    code, said = ENDS[number]
    words = ["click.core", str(int(number)), "inspect", "m.pt", "--json"]
    with child(["-c", RINGING, *words], tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    assert conforms(out) == {**head("error/1", code), "error": said, "hint": None}


def sent_after(seconds: float, number: signal.Signals, home: Path) -> tuple[int, str]:
    """Status and words of a command that gets a signal so long after it was started."""
    with child(["-m", "sam21convert", "inspect", "m.pt"], home) as process:
        time.sleep(seconds)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    return process.returncode, err


def check_moments(home: Path, moments: Sequence[float]) -> None:
    official_pt(home / "m.pt")
    seen = []
    for seconds in moments:
        status, said = sent_after(seconds, signal.SIGTERM, home)
        # Before its first line runs Python ends silently, which shells show as 143 as well; and
        # at the end the command may be done.
        assert (status, said) in [(143, "error: terminated\n"), (-15, ""), (0, "")], seconds
        seen.append(status)
    assert 143 in seen


def test_sigterm_from_the_first_millisecond_on(tmp_path: Path) -> None:
    check_moments(tmp_path, [0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3])


@pytest.mark.slow
def test_sigterm_at_a_hundred_moments(tmp_path: Path) -> None:
    check_moments(tmp_path, [at / 200 for at in range(100)])


@both
def test_an_ignored_signal_stays_ignored(tmp_path: Path, number: signal.Signals) -> None:
    """As nohup and background jobs of shells have it."""
    official_pt(tmp_path / "m.pt")
    ignoring = f"import signal; signal.signal({int(number)}, signal.SIG_IGN)\n"
    words = ["click.core", str(int(number)), "inspect", "m.pt"]
    with child(["-c", ignoring + RINGING, *words], tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("file        m.pt")


class Signalling:
    """An object whose end is interrupted."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)


def test_a_signal_while_an_object_is_destroyed_counts(capfd: pytest.CaptureFixture[str]) -> None:
    """Python would report it and go on."""
    reached = False
    with pytest.raises(Stopped), Stopping():
        thing = Signalling()
        del thing
        for _ in range(100):
            time.sleep(0.01)
        reached = True
    assert not reached
    assert capfd.readouterr() == ("", "")


class Named:
    """An attribute during whose naming a signal arrives."""

    def __set_name__(self, owner: type, name: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_while_a_class_is_made_is_no_other_error() -> None:
    """Python 3.11 raises a RuntimeError from what is raised there."""
    with pytest.raises(Stopped) as raised, Stopping():
        type("Owner", (), {"attribute": Named()})
    assert raised.value.exit_code == 143


def test_an_error_without_a_signal_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError), Stopping():
        raise RuntimeError
