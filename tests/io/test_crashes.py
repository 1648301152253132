"""Conversions killed at any moment leave the old output or the complete new one.

The next run removes all temporary files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..support.crashing import SCENARIOS
from ..support.paths import ROOT

EVERY = [*SCENARIOS, "batch"]


def killed(home: Path, points: int, *names: str, broken: str = "") -> list[dict[str, Any]]:
    command = [
        sys.executable,
        "-m",
        "tests.support.crashing",
        str(points),
        str(home),
        broken,
        *names,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["name"] for each in found] == list(names), done.stderr
    return found


def test_at_fourteen_moments_of_each_kind_of_conversion(tmp_path: Path) -> None:
    found = killed(tmp_path, 14, *EVERY)
    assert [each["wrong"] for each in found] == [[]] * len(EVERY)
    assert sum(sum(each["found"].values()) for each in found) >= 200
    assert all(len(each["found"]) > 1 for each in found)  # some were killed late enough to be new


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_at_two_hundred_moments(tmp_path: Path, name: str) -> None:
    [found] = killed(tmp_path, 200, name)
    assert found["wrong"] == []
    assert sum(found["found"].values()) == 200


@pytest.mark.parametrize(
    ("name", "broken", "says"),
    [
        ("pt over", "in place", "a part"),
        ("yaml over", "mixing", "a part"),
        ("folder over, no exchange", "mixing folder", "a part"),
        ("pt without renameat2", "littering", "the next run leaves"),
        ("folder over", "permissions", "opened to others"),
    ],
)
def test_unsafe_ways_of_writing_are_detected(
    tmp_path: Path, name: str, broken: str, says: str
) -> None:
    [found] = killed(tmp_path, -20, name, broken=broken)
    assert any(says in wrong for wrong in found["wrong"]), found
