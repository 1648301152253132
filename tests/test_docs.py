"""What the documents list is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sam21convert.comparison.deviations import DEVIATIONS
from sam21convert.comparison.scenarios import BY_NAME
from sam21convert.comparison.sides import RUNNERS

DOCS = Path(__file__).parent.parent / "docs"


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table of docs/parity.md after some words."""
    text = (DOCS / "parity.md").read_text().partition(heading)[2]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    return [line.strip("|\n").split(" | ") for line in table[0].splitlines()[2:]]


def test_every_scenario() -> None:
    listed = [name for row in rows("**Scenarios**") for name in re.findall("`(.+?)`", row[0])]
    assert listed == list(BY_NAME)


def test_every_known_deviation() -> None:
    listed = [(row[0].strip(" `"), row[1], row[3]) for row in rows("## Known deviations")]
    assert listed == [(d.name, f"{d.runner} {d.versions}", d.summary) for d in DEVIATIONS]


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_runner(runner: str) -> None:
    assert f"`{runner}`" in (DOCS / "parity.md").read_text()
