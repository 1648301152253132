"""The page and the JSON in the folder that ``evaluate --report`` writes."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..io.output.atomic import new_files
from .page.page import page
from .page.videos import worst_videos
from .report import Evaluation

PICTURES = "frames"  # the folder for pictures of the worst frame of each video
PAGE, DATA = "index.html", "report.json"


def write_page(found: Evaluation, folder: Path) -> None:
    """Write an evaluation as a page and as JSON: both appear complete, or neither does.

    Args:
        found: The evaluation.
        folder: The folder, which may hold the pictures of each video.

    Raises:
        OSError: If they cannot be written.
    """
    pictures = folder / PICTURES
    texts = {PAGE: page(found, pictures), DATA: found.to_json() + "\n"}
    first, *others = (folder / name for name in texts)
    with new_files(first, *others, overwrite=True) as staging:
        for name, text in texts.items():
            # A path that is not text holds what UTF-8 cannot.
            (staging / name).write_text(text, encoding="utf-8", errors="backslashreplace")


def drop_others(found: Evaluation, folder: Path) -> None:
    """Remove the pictures that are not on the page, if no run goes on that may show others.

    Args:
        found: The evaluation.
        folder: The folder of the page.

    Raises:
        OSError: If they cannot be removed.
    """
    shown, pictures = worst_videos(found), folder / PICTURES
    for path in pictures.iterdir() if pictures.is_dir() else ():
        if path.name not in shown:
            shutil.rmtree(path)
