"""Memory of freed arrays is kept by commands that compute, where the C library can."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner

from sam21convert.commands.main import main
from sam21convert.prediction import allocation

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


def filled(before: str) -> float:
    program = PROGRAM.format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt"
)
def test_what_is_kept_is_not_filled_again() -> None:
    assert filled("keep_freed_memory()") < 1.5
    assert filled("") > 9


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_without_mallopt_nothing_happens(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    library = mock.Mock(return_value=object())
    monkeypatch.setattr(ctypes, "CDLL", library)
    allocation.keep_freed_memory()
    assert library.called == (platform == "linux")


@pytest.mark.parametrize(
    "line",
    [
        "parity {model} {model}",
        "predict image picture.png --checkpoint {model} --point 1,1 -o out.png",
        "predict video frames --checkpoint {model} --point 1,1 -o out",
        "push {model} me/model --license mit",
        "convert {model} out.safetensors --parity",
        "evaluate {model} data",
        "demo out",
    ],
)
def test_commands_that_compute_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: Any, line: str
) -> None:
    def keep() -> None:
        raise LookupError("here it is kept")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(allocation, "keep_freed_memory", keep)
    words = line.format(model=checkpoints("debug/sam2.1_debug")).split()
    done = CliRunner().invoke(main, words)
    assert "here it is kept" in done.output
