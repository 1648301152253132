"""Our interpreter of pickles misses no name that the standard library's would import.

The comparison runs in a child: damage makes the standard library reserve memory that is not there.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from ..support.paths import ROOT

SECONDS = 10


def compared(program: str, seconds: int = SECONDS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # CPython reports buffers that damaged pickles leave behind
        text=True,
        timeout=seconds + 60,
        check=False,
    )


@pytest.mark.parametrize("seconds", [SECONDS, pytest.param(600, marks=pytest.mark.slow)])
def test_no_name_is_missed_in_damaged_pickles(seconds: int) -> None:
    found = compared(
        f"from tests.fuzzing.differential import main; raise SystemExit(main({seconds}, 0))",
        seconds,
    )
    assert found.returncode == 0, found.stdout
    inputs, whole, names = (int(word) for word in found.stdout.replace(",", "").split()[:5:2])
    assert inputs > 5_000
    assert whole > inputs / 10
    assert names > inputs


FAULTS = {
    "the last name is forgotten": "return replace(found, references=found.references[:-1])",
    "names behind a fault are forgotten": (
        "return found if found.end is not None else replace(found, references=())"
    ),
    "names that are not ASCII are cut": (
        "return replace(found, references=tuple(r for r in found.references if r.name.isascii()))"
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_would_be_found(fault: str) -> None:
    program = f"""
from dataclasses import replace
import tests.fuzzing.differential as differential
true = differential.scan
def broken(data):
    found = true(data)
    {FAULTS[fault]}
differential.scan = broken
raise SystemExit(differential.main(30, 0))
"""
    found = compared(program)
    assert found.returncode == 1, found.stdout
    assert "missed" in found.stdout
