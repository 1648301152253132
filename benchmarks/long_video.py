"""What memory a long video takes, with its frames in memory and in a file.

    python -m benchmarks.long_video [--config NAME] [--image-size N] [--frames N] [--ways WAY ...]

Follows one object through random pictures by ``sam21convert predict video``, each time in a process
of its own. Run it from the root of a checkout.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import sam21convert

WAYS = {"memory": (), "offloaded": ("--offload",)}


def peak(*arguments: str | Path | int) -> float:
    """Peak memory of a command, in GB."""
    child = subprocess.Popen([sys.executable, "-m", "sam21convert", *map(str, arguments)])
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit("the command failed")
    return used.ru_maxrss / 1e6


def main() -> None:
    """Measure, and print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="sam2.1/sam2.1_hiera_t")
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as home:
        weights, frames = Path(home) / "model.pt", Path(home) / "frames"
        sam21convert.sample(weights, options.config)
        frames.mkdir()
        for number in range(options.frames):
            pixels = generator.integers(0, 256, (270, 480, 3), np.uint8)
            Image.fromarray(pixels).save(frames / f"{number}.jpg")
        given = ("--checkpoint", weights, "--config", options.config, "--point", "240,130")
        size = ("--image-size", options.image_size, "--quiet")
        for name in options.ways:
            out = Path(home) / name
            used = peak("predict", "video", frames, *given, *size, *WAYS[name], "-o", out)
            print(f"{options.config}, {options.frames} frames, {name}: {used:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
