"""A small data set of several videos, and the model that tracks them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sam21convert.config.registry import shipped_config

from ..model.test_video_parity import weights_of
from . import videos
from .checkpoints import official_pt
from .official import DEBUG

LENGTHS = {"ant": 4, "bee": 6, "cow": 3, "dog": 5}
BROKEN = "bee"  # the longest, so that it is begun first


def seeing(name: str) -> dict[str, torch.Tensor]:
    """Random weights that find their objects on every frame, as others see them on none."""
    weights = dict(weights_of(shipped_config(name)))
    score = max(one for one in weights if "pred_obj_score_head" in one and one.endswith("bias"))
    weights[score] = torch.full_like(weights[score], 10.0)
    return weights


def model(home: Path) -> Path:
    """A checkpoint, which needs no config beside it."""
    return official_pt(home / "model.pt", seeing(DEBUG[0]))


def data(root: Path, *, broken: bool) -> Path:
    """Videos with the folders of DAVIS; of one the last frame may be cut short."""
    height, width = videos.frame(0).shape[:2]
    y, x = np.mgrid[:height, :width]
    for at, (name, length) in enumerate(LENGTHS.items()):
        frames, truth = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        for folder in (frames, truth):
            folder.mkdir(parents=True)
        for number in range(length):
            Image.fromarray(videos.frame(number + at)).save(frames / f"{number:05d}.jpg")
            ids = np.zeros((height, width), np.uint8)
            ids[(x - width / 3 - 2 * number) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2] = 1
            ids[(x > width / 2) & (y > height / (at + 2)) & (y < height / 2 + 2)] = 2
            Image.fromarray(ids).save(truth / f"{number:05d}.png")
    if broken:
        last = root / f"JPEGImages/480p/{BROKEN}/{LENGTHS[BROKEN] - 1:05d}.jpg"
        last.write_bytes(last.read_bytes()[:200])
    return root
