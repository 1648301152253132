"""Files for ultralytics: the official names; the file name decides which model it builds.

Source: ``ultralytics/models/sam/build.py``.
"""

from __future__ import annotations

from dataclasses import replace

from .official import OFFICIAL

ULTRALYTICS = replace(
    OFFICIAL,
    name="ultralytics",
    summary="ultralytics, which reads size and generation from the name of the file",
    containers=("torch zip",),
    file="{stem}_{s}.pt",
    by_path=True,
)
