"""``sam21convert demo``."""

from __future__ import annotations

from pathlib import Path

import click

from ..progress import ProgressBar
from ..report import Report
from .shared import answering, device_option, json_option


@click.command(short_help="Demonstrate the tools on a sample checkpoint.")
@click.argument("folder", type=click.Path(path_type=Path), default="sam21convert-demo")
@device_option("to run both files on")
@json_option
@answering
def demo(folder: Path, device: str, progress: ProgressBar) -> Report:
    """Demonstrate the tools on a sample checkpoint, in FOLDER.

    Writes a SAM 2.1 tiny checkpoint with random weights, converts it to a transformers folder and
    back, compares every bit, runs both on one image, and draws the masks. The default FOLDER is
    sam21convert-demo.

    \b
    Example:
      sam21convert demo
    """
    from ..packages import require
    from ..prediction.allocation import keep_freed_memory

    require("torch", "demo")
    keep_freed_memory()
    progress.start("importing torch", 0)
    from ..workflows.demo import demonstrate

    return demonstrate(folder, device=device, progress=progress)
