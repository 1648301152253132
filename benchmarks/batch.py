"""What many small conversions and a single one cost, beside other builds of this package.

    python -m benchmarks.batch [--files N] [--rounds N] [--against CHECKOUT ...]

Each row is a process: ``batch --jobs 2`` of so many files of the debug size, and ``convert`` of one
file of the debug size and of the tiny one. They are measured as ``benchmarks.commands`` measures.
Run it from the root of a checkout, with ``PYTHONDONTWRITEBYTECODE`` unset.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import sam21convert
from sam21convert.conversion.sample import DEFAULT_CONFIG

from .commands import compare

DEBUG = "debug/sam2.1_debug"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        files = [f"m{number:03}.pt" for number in range(options.files)]
        for number, file in enumerate(files):
            sam21convert.sample(folder / file, DEBUG, seed=number)
        sam21convert.sample(folder / "tiny.pt", DEFAULT_CONFIG)
        rows = {
            f"{options.files} of the debug size": ["batch", *files, "--out", "out", "--jobs", "2"],
            "one of the debug size": ["convert", files[0], "out.safetensors"],
            "one of tiny": ["convert", "tiny.pt", "out.safetensors"],
        }
        compare(options.against, rows, folder, options.rounds)


if __name__ == "__main__":
    main()
