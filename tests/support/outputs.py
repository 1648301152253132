"""Every kind of output: the command lines that write them, and what they read."""

from __future__ import annotations

import os
import shutil
import stat
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam21convert.hub.resolve import locate
from sam21convert.prediction.media import new_video

from .checkpoints import DEBUG, official_pt

SIDE = 64
CLICK = ["--checkpoint", "in.pt", "--point", "a:9,9", "--point", "b:40,40"]
# What they read is called in*, what they write is called out*. Shards are missing: no command
# replaces them.
KINDS: dict[str, list[str]] = {
    "pt": ["convert", "in.pt", "out.pt"],
    "safetensors": ["convert", "in.pt", "out.safetensors"],
    "file with YAML": ["convert", "in.pt", "out.pt", "--image-size", "256"],
    "transformers folder": ["convert", "in.pt", "out"],
    "timm folder": ["convert", "in.pt", "out", "--to", "timm"],
    "sample": ["sample", "out.pt", "--config", DEBUG],
    "sample folder": ["sample", "out", "--config", DEBUG],
    "pull": ["pull", "https://host/in.pt", "out.pt"],
    "plot": ["diff", "in.pt", "in.pt", "--plot", "out.png"],
    "parity report": [
        "parity",
        "in.pt",
        "truth:in.pt",
        "--scenarios",
        "encoder",
        "--report",
        "out",
    ],
    "batch": ["batch", "in.pt", "--out", "out"],
    "batch of files": ["batch", "in.pt", "--out", "out", "--suffix", ".pt"],
    "image": ["predict", "image", "in.png", *CLICK, "-o", "out.png"],
    "frames": ["predict", "video", "in", *CLICK, "-o", "out"],
    "video": ["predict", "video", "in.mp4", *CLICK, "-o", "out"],
}
SLOW = {"plot", "parity report"}
each_kind = [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in KINDS]


def make_inputs(home: Path) -> None:
    """A checkpoint, a picture and two videos, of noise, which makes large files."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    official_pt(home / "in.pt")
    Image.fromarray(frames[0]).save(home / "in.png")
    (home / "in").mkdir()
    with new_video(home / "in.mp4", Fraction(10), SIDE, SIDE) as append:
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(home / "in" / f"{number}.jpg")
            append(frame)


def web_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every address lead to the checkpoint, which is downloaded at once."""

    def copy(url: str, path: Path) -> None:
        if not path.exists():
            path.parent.mkdir(parents=True)
            shutil.copy(home / "in.pt", path)

    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "in-cache"))
    monkeypatch.setattr("sam21convert.hub.resolve.download", copy)
    locate("https://host/in.pt")


def outputs(home: Path) -> dict[str, os.stat_result]:
    """Everything below ``home`` but what is read."""
    return {
        str(path.relative_to(home)): path.lstat()
        for path in sorted(home.rglob("*"))
        if not path.relative_to(home).parts[0].startswith("in")
    }


def modes(home: Path) -> dict[str, int]:
    """The mode of each of them."""
    return {name: stat.S_IMODE(status.st_mode) for name, status in outputs(home).items()}
