"""Malformed and malicious files: how each is made, and the expected verdict on it.

``build(folder)`` makes them again, byte for byte the same.
"""

from __future__ import annotations

from pathlib import Path

from . import attacks, broken_pickles, folders, safetensors_files, values, zips
from .case import Case

CASES: tuple[Case, ...] = (
    *attacks.cases(),
    *broken_pickles.cases(),
    *zips.cases(),
    *safetensors_files.cases(),
    *folders.cases(),
    *values.cases(),
)


def build(home: Path) -> dict[Case, Path]:
    """Make every case, each in a folder of its own."""
    made = {}
    for number, case in enumerate(CASES):
        path = home / f"{number:03}" / case.file
        path.parent.mkdir()
        case.build(path)
        made[case] = path
    return made
