"""How much memory is free, so that a video that does not fit is refused before it is read."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CONTROL_GROUP = Path("/sys/fs/cgroup")
# Of both versions of control groups: the limit, what is used, and the share of that which is a
# cache of files, and is given up when memory is needed.
_LIMITS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def free_memory(device: torch.device | None) -> int | None:
    """Tell how much memory can still be used.

    Args:
        device: The device that the memory belongs to; None for the processor, without torch.

    Returns:
        The number of bytes; None for a device without memory, and if the system does not tell.
    """
    if device is not None and device.type == "meta":
        return None
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    found = [size for size in (_of_machine(), _of_control_group()) if size is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:  # not Linux
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            return None
    available = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return None if available is None else int(available[1]) * 1024


def _of_control_group() -> int | None:
    """What the container that we run in may still use."""
    for limit, used, statistics, cache in _LIMITS:
        try:
            texts = [(_CONTROL_GROUP / name).read_text() for name in (limit, used, statistics)]
        except OSError:
            continue
        cached = re.search(rf"^{cache} (\d+)", texts[2], re.MULTILINE)
        if texts[0].strip().isdecimal():
            return max(0, int(texts[0]) - int(texts[1]) + (int(cached[1]) if cached else 0))
    return None
