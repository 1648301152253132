"""What many small conversions and a single one cost, beside other builds of this package.

    python -m benchmarks.batch [--files N] [--rounds N] [--against CHECKOUT ...]

Each row is a process: ``batch --jobs 2`` of so many files of the debug size, and ``convert`` of one
file of the debug size and of the tiny one. Processor time with all its threads. The builds take
turns; a ratio is the median of those of the rounds, to the build that is named first. Run it from
the root of a checkout, with ``PYTHONDONTWRITEBYTECODE`` unset.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import sam21convert
from sam21convert.conversion.sample import DEFAULT_CONFIG

DEBUG = "debug/sam2.1_debug"
HERE = Path(sam21convert.__file__).parent.parent


def seconds(build: Path, arguments: Sequence[str], folder: Path) -> float:
    """Processor time of one command, whose outputs are removed before."""
    for old in folder.glob("out*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    os.sync()  # what was written before is not part of it
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "sam21convert", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(build)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    builds = [*(one.resolve() for one in options.against), HERE]
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
        print("| conversions | build | seconds | ratio |\n|---|---|---|---|")
        for name, arguments in rows.items():
            found: dict[Path, list[float]] = {build: [] for build in builds}
            for turn in range(options.rounds + 1):
                for build in builds:
                    taken = seconds(build, arguments, folder)
                    if turn:  # the first one compiles
                        found[build].append(taken)
            for build, times in found.items():
                pairs = zip(times, found[builds[0]], strict=True)
                ratio = statistics.median(one / first for one, first in pairs)
                print(f"| {name} | {build.name} | {statistics.median(times):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
