"""Where things are in a checkout, and what is in a folder."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FIXTURES = ROOT / "tests" / "fixtures"
PACKAGE = ROOT / "sam21convert"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in it, and what is in it."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
