"""The folder that ``parity --report`` writes."""

from __future__ import annotations

from pathlib import Path

from ..io.output.atomic import new_folder
from .findings import ParityResult
from .page.page import page
from .tables.data import data
from .tables.latex import latex
from .tables.markdown import markdown


def write_folder(report: ParityResult, folder: Path, *, overwrite: bool = False) -> Path:
    """Write a report as a page, as JSON, and as tables.

    Either all files appear complete, or none does.

    Args:
        report: The results.
        folder: The folder, which is created if it does not exist.
        overwrite: Whether a folder that is not empty is allowed. Other files in it are kept.

    Returns:
        Path of the page.

    Raises:
        UsageError: For a folder that is not empty, without ``overwrite``.
    """
    texts = {
        "index.html": page(report),
        "report.json": report.to_json() + "\n",
        "table.tex": latex(report),
        "table.md": markdown(report),
        "table.csv": data(report),
    }
    with new_folder(folder, overwrite=overwrite) as new:
        for name, text in texts.items():
            # A path that is not text holds what UTF-8 cannot.
            (new / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    return folder / "index.html"
