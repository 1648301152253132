"""The dialects, one short file per family.

Some dialects share all their tensor names. A file with those names is reported as the first of them
in ``DIALECTS``; the others only say in which container and under which file name a program wants
it.
"""

from __future__ import annotations

from ..errors import UsageError, did_you_mean, nearest
from .comfyui import COMFYUI
from .mlx import MLX
from .official import OFFICIAL, OFFICIAL_IMAGE
from .rules import Dialect
from .timm import TIMM
from .transformers import HF_IMAGE, HF_VIDEO
from .ultralytics import ULTRALYTICS

DIALECTS: tuple[Dialect, ...] = (OFFICIAL, HF_VIDEO, HF_IMAGE, MLX, TIMM, ULTRALYTICS, COMFYUI)
BY_NAME = {dialect.name: dialect for dialect in DIALECTS}
# The names of those without memory; the last one is read and never written.
OF_IMAGES = frozenset(one.name for one in (*DIALECTS, OFFICIAL_IMAGE) if one.task == "image")
EITHER = ("hf", "transformers")  # hf-image for an image model, else hf-video


def named(name: str) -> Dialect:
    """Find a dialect by its name.

    Args:
        name: The name, or one of ``EITHER``.

    Returns:
        The dialect; ``HF_VIDEO`` for one of ``EITHER``.

    Raises:
        UsageError: When there is none of this name.
    """
    if name in EITHER:
        return HF_VIDEO
    if name not in BY_NAME:
        near = nearest(name, [*BY_NAME, *EITHER])
        raise UsageError(
            f"no dialect is called {name!r}",
            hint=did_you_mean(near, f"one of {', '.join(BY_NAME)}"),
        )
    return BY_NAME[name]


__all__ = [
    "BY_NAME",
    "DIALECTS",
    "EITHER",
    "HF_IMAGE",
    "HF_VIDEO",
    "MLX",
    "OFFICIAL",
    "OFFICIAL_IMAGE",
    "OF_IMAGES",
    "TIMM",
    "named",
]
