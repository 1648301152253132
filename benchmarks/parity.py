"""What a quick comparison costs, in seconds and in encodings of one image.

    python -m benchmarks.parity [--config NAME] [--image-size N] [--threads N]

Each comparison is a call of ``sam21convert.parity`` with a checkpoint of random weights. Encodings
by the ground truth are timed before and after, in the same process. Run it from the root of a
checkout with the test dependencies, on Linux.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import sam21convert
import tests.conftest  # noqa: F401  # lets torchvision be imported beside a CPU build of torch
from sam21convert.comparison.backends.encodings import Encodings
from sam21convert.conversion.sample import DEFAULT_CONFIG
from sam21convert.model.image_predictor import pixels_of
from sam21convert.prediction.draw import scene
from sam21convert.report import Progress

ENCODINGS = 5
COLUMNS = ("seconds", "to import", "CPU", "encodings of an image", "pictures encoded", "peak MB")


@dataclass(frozen=True)
class Spent:
    """Seconds on the clock and of the processor, by all threads."""

    clock: float
    processor: float

    @classmethod
    def by(cls, run: Callable[[], Any]) -> Spent:
        """Of one call."""
        clock, processor = time.perf_counter(), time.process_time()
        run()
        return cls(time.perf_counter() - clock, time.process_time() - processor)


class Imports(Progress):
    """Adds up the seconds of the phases that import a package."""

    def __init__(self) -> None:
        self.seconds, self._since, self._importing = 0.0, 0.0, False

    def start(self, label: str, total: int) -> None:
        """Begin a phase."""
        now = time.perf_counter()
        self.seconds += (now - self._since) * self._importing
        self._since, self._importing = now, label.startswith("importing")


def encodings(source: Path, image_size: int | None) -> list[Spent]:
    """What each of some encodings takes, after one to warm up."""
    model, _ = sam21convert.load_model(source, image_size=image_size)
    pixels = pixels_of(scene(model.image_size), model.image_size)
    with torch.inference_mode():
        model.encode_image(pixels)
        return [Spent.by(lambda: model.encode_image(pixels)) for _ in range(ENCODINGS)]


def compared(left: str, right: str, image_size: int | None) -> tuple[Spent, float, int, int]:
    """What a comparison takes, of it to import, the pictures encoded, and the peak memory."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    imports, counted = Imports(), Counted()

    def run() -> None:
        found = sam21convert.parity(
            left, right, scenarios="quick", image_size=image_size, progress=imports
        )
        if not found.ok:
            raise SystemExit(str(found))

    with counted:
        spent = Spent.by(run)
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return spent, imports.seconds, counted.pictures, int(status["VmHWM"].split()[0]) // 1000


class Counted:
    """Counts the pictures that go through trunks, on both sides and in all variants."""

    def __init__(self) -> None:
        self.pictures = 0

    def __enter__(self) -> None:
        self._of = Encodings.of

        def of(encodings: Encodings, *arguments: Any, **given: Any) -> Any:
            before = encodings.computed
            found = self._of(encodings, *arguments, **given)
            self.pictures += encodings.computed - before
            return found

        Encodings.of = of  # type: ignore[method-assign, assignment]

    def __exit__(self, *_: object) -> None:
        Encodings.of = self._of  # type: ignore[method-assign]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default=DEFAULT_CONFIG)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        official, hf = home / "official.pt", home / "folder"
        sam21convert.sample(official, options.config)
        sam21convert.convert(official, hf)
        sam21convert.convert(hf, home / "official.safetensors")
        spent = encodings(official, options.image_size)
        pairs = {
            "official.pt transformers:folder": (str(official), f"transformers:{hf}"),
            "sam2:official.pt official.safetensors": (
                f"sam2:{official}",
                str(home / "official.safetensors"),
            ),
        }
        rows = {name: compared(*pair, options.image_size) for name, pair in pairs.items()}
        spent += encodings(official, options.image_size)
        one = statistics.median(once.processor for once in spent)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "sam2", "transformers"))
    size = f" at {options.image_size or 'its own'} pixels, quick, {options.threads} threads"
    print(f"{options.config}{size}, {platform.machine()}, {packages}\n")
    print("| parity |", *(f"{name} |" for name in COLUMNS))
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, (took, importing, pictures, peak) in rows.items():
        ratio = f"{took.processor / one:.1f}"
        numbers = (f"{took.clock:.0f}", f"{importing:.1f}", f"{took.processor:.0f}", ratio)
        print(f"| `{name}` |", *(f"{cell} |" for cell in (*numbers, pictures, peak)))


if __name__ == "__main__":
    main()
