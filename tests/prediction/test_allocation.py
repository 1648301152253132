"""Memory of freed arrays is kept by commands that compute, where the C library can."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner

from sam21convert.commands.main import main
from sam21convert.prediction import allocation
from sam21convert.prediction.allocation import keep_freed_memory  # before conftest replaces it

# Pages that the system had to fill while 64 MB came and went ten times, in times of their pages.
# Before that it takes some times until a hole is left that fits.
PROGRAM = """
import resource
from sam21convert.prediction.allocation import keep_freed_memory
{before}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
size = 64 << 20
for number in range(40):
    if number == 30:
        before = faults()
    b"x" * size
print((faults() - before) / (size / resource.getpagesize()))
"""


def printed(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout


def filled(before: str) -> float:
    return float(printed(PROGRAM.format(before=before)))


RELEASE = """
from pathlib import Path
from resource import getpagesize
from sam21convert.prediction.allocation import give_back_freed_memory, keep_freed_memory
keep_freed_memory()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize() >> 20
below = resident()
pieces = [b"x" * (1 << 20) for _ in range(64)]
in_the_way = bytearray(1 << 20)
pieces.clear()
held = resident() - below
give_back_freed_memory()
print(held, resident() - below)
"""
needs_glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt"
)


@needs_glibc
def test_what_is_kept_is_not_filled_again() -> None:
    assert filled("keep_freed_memory()") < 1.5
    assert filled("") > 9


@needs_glibc
def test_what_is_kept_can_be_given_back() -> None:
    """Of 64 megabytes that were freed: those held before it gives back, and after."""
    held, left = map(int, printed(RELEASE).split())
    assert held > 60
    assert left < 10


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_without_mallopt_nothing_happens(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    library = mock.Mock(return_value=object())
    monkeypatch.setattr(ctypes, "CDLL", library)
    keep_freed_memory()
    assert library.called == (platform == "linux")


@pytest.fixture
def keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: Callable[[str], Path]
) -> Callable[[str], bool]:
    """Whether a command line of ``{model}`` would keep it; the command ends there."""

    def keep() -> None:
        raise LookupError("here it is kept")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(allocation, "keep_freed_memory", keep)

    def run(line: str) -> bool:
        words = line.format(model=checkpoints("debug/sam2.1_debug")).split()
        return "here it is kept" in CliRunner().invoke(main, words).output

    return run


@pytest.mark.parametrize(
    "line",
    [
        "parity {model} {model}",
        "predict image picture.png --checkpoint {model} --point 1,1 -o out.png",
        "predict video frames --checkpoint {model} --point 1,1 -o out",
        "push {model} me/model --license mit",
        "convert {model} out.safetensors --parity",
        "demo out",
    ],
)
def test_commands_that_compute_keep_it(keeps: Callable[[str], bool], line: str) -> None:
    assert keeps(line)


@pytest.mark.parametrize(
    "line",
    [
        "predict video frames --checkpoint {model} --point 1,1 -o out --offload",
        "evaluate {model} data",
        "push {model} me/model --license mit --evaluate data",
        "convert {model} out.safetensors --parity --evaluate data",
        "convert {model} out.safetensors",
    ],
)
def test_commands_for_long_videos_do_not(keeps: Callable[[str], bool], line: str) -> None:
    """They are to take little memory."""
    assert not keeps(line)
