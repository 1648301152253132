"""Importing this has ``finetune`` save after every step, where it usually waits for minutes."""

from __future__ import annotations

import accelerate  # noqa: F401 - so that each command need not

from sam21convert.workflows.finetune import loop, run  # noqa: F401

loop._PATIENCE = 0.0
