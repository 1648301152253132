"""How long a quick comparison takes, in seconds and in encodings of one image.

    python -m benchmarks.parity [--config NAME] [--threads N]

Each comparison is a call of ``sam21convert.parity`` with a checkpoint of random weights at its own
size. Encodings by the ground truth are timed before and after, in the same process. Run it from the
root of a checkout with the test dependencies.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import sam21convert
import tests.conftest  # noqa: F401  # lets torchvision be imported beside a CPU build of torch
from sam21convert.conversion.sample import DEFAULT_CONFIG
from sam21convert.model import SAM2
from sam21convert.model.image_predictor import pixels_of
from sam21convert.prediction.draw import scene

ENCODINGS = 5


def seconds(run: Callable[[], Any]) -> float:
    """Of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def encodings(model: SAM2) -> list[float]:
    """Seconds of each of some encodings, after one to warm up."""
    pixels = pixels_of(scene(model.image_size), model.image_size)
    with torch.inference_mode():
        model.encode_image(pixels)
        return [seconds(lambda: model.encode_image(pixels)) for _ in range(ENCODINGS)]


def compared(left: str, right: str) -> float:
    """Seconds of a quick comparison, which must end in parity."""
    start = time.perf_counter()
    found = sam21convert.parity(left, right, scenarios="quick")
    if not found.ok:
        raise SystemExit(str(found))
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default=DEFAULT_CONFIG)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        official, hf = home / "official.pt", home / "folder"
        sam21convert.sample(official, options.config)
        sam21convert.convert(official, hf)
        sam21convert.convert(hf, home / "official.safetensors")
        model, _ = sam21convert.load_model(official)
        spent = encodings(model)
        rows = {
            "official.pt transformers:folder": compared(str(official), f"transformers:{hf}"),
            "sam2:official.pt official.safetensors": compared(
                f"sam2:{official}", str(home / "official.safetensors")
            ),
        }
        one = statistics.median(spent + encodings(model))
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "sam2", "transformers"))
    print(f"{options.config}, quick, {options.threads} threads, {platform.machine()}, {packages}\n")
    print("| parity | seconds | encodings of an image |\n|---|---|---|")
    for name, took in rows.items():
        print(f"| `{name}` | {took:.0f} | {took / one:.0f} |")


if __name__ == "__main__":
    main()
