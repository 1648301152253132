"""What whole commands cost beside those of other builds of this package: people wait for these.

    python -m benchmarks.commands --against CHECKOUT ... [--rows NAME ...] [--rounds N]

Each command is a process, with all that it imports, on a checkpoint of random weights, a drawn
picture and a drawn video of six frames. The builds take turns; a ratio is the median of those of
the rounds, to the build that is named first. In rows "by an export" this build runs an export of
the checkpoint, and others the checkpoint. Run it from the root of a checkout with the test
dependencies, on Linux, with ``PYTHONDONTWRITEBYTECODE`` unset.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

import sam21convert
from sam21convert.conversion.sample import DEFAULT_CONFIG

HERE = Path(sam21convert.__file__).parent.parent
SHIM = HERE / "tests/support/cuda_torchvision.py"  # not imported: a child begins with our memory
ROWS = {
    "parity": "parity model.pt transformers:folder --scenarios quick",
    "predict image": "predict image frames/0.jpg --checkpoint model.pt --point 600,400 -o out.png",
    "predict video": "predict video frames --checkpoint model.pt --point 600,400 -o out",
    "inspect": "inspect model.pt",
    "validate": "validate model.pt",
}
BY_AN_EXPORT = " by an export"
ROWS |= {name + BY_AN_EXPORT: words for name, words in ROWS.items() if name.startswith("predict ")}
FRAMES = 6
# What a process runs, in which torchvision can be imported beside a CPU build of torch, too.
WITH_TORCHVISION = """
import runpy, sys
kept = runpy.run_path(sys.argv.pop(1))
kept["declare_operators"]()
runpy.run_module("sam21convert", run_name="__main__", alter_sys=True)
"""


def taken(
    build: Path, words: Sequence[str], home: Path, threads: int
) -> tuple[float, float, float]:
    """Seconds, processor time and peak memory in GB of one command, whose outputs are removed."""
    for old in home.glob("out*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    os.sync()  # what was written before is not part of it
    start = ["-m", "sam21convert"]
    if words[0] == "parity":
        start = ["-c", WITH_TORCHVISION, str(SHIM)]
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *start, *words],
        cwd=home,  # where Python looks for modules first
        env={**os.environ, "PYTHONPATH": str(build), "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{build}: {words[0]} failed")
    seconds = time.perf_counter() - began
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6


def compare(
    against: Sequence[Path],
    rows: Mapping[str, Sequence[str]],
    home: Path,
    rounds: int,
    threads: int = 2,
    here: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Run commands in a folder by other builds and by this one, in turns, and print a table.

    For some rows this build may run other words, ``here``.
    """
    builds = [*(one.resolve() for one in against), HERE]
    print("| command | build | seconds | ratio | CPU | ratio | peak GB | ratio |")
    print("|---" * 8 + "|")
    for name, words in rows.items():
        runs: dict[Path, list[tuple[float, float, float]]] = {build: [] for build in builds}
        for turn in range(rounds + 1):
            for build in builds:
                own = here.get(name, words) if build == HERE else words
                found = taken(build, own, home, threads)
                if turn:  # the first one compiles, and fills the page cache
                    runs[build].append(found)
        for build in builds:
            cells = [name, build.name]
            for at in range(3):
                pairs = zip(runs[build], runs[builds[0]], strict=True)
                ratio = statistics.median(one[at] / first[at] for one, first in pairs)
                value = statistics.median(one[at] for one in runs[build])
                cells += [f"{value:.2f}", f"{ratio:.2f}"]
            print("|", " | ".join(cells), "|", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--against", type=Path, nargs="+", required=True)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--config", default=DEFAULT_CONFIG)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    print(f"{options.config}, {options.threads} threads, {platform.machine()}, {packages}\n")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        sam21convert.sample(home / "model.pt", options.config)
        sam21convert.convert(home / "model.pt", home / "folder")
        (home / "frames").mkdir()
        blocks = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
        picture = blocks.repeat(16, 0).repeat(16, 1)
        for at in range(FRAMES):
            Image.fromarray(picture[at : at + 720, at : at + 1280]).save(home / f"frames/{at}.jpg")
        rows = {name: ROWS[name].split() for name in options.rows}
        here = {
            name: ["exported" if word == "model.pt" else word for word in words]
            for name, words in rows.items()
            if name.endswith(BY_AN_EXPORT)
        }
        if here:  # in a process of its own, as a child begins with our memory
            words = ["convert", "model.pt", "exported", "--to", "onnx", "--variants", "fp32"]
            words += ["--with-video", "--config", options.config, "--quiet"]
            start = [sys.executable, "-m", "sam21convert"]
            subprocess.run([*start, *words], cwd=home, check=True, stdout=subprocess.DEVNULL)
        compare(options.against, rows, home, options.rounds, options.threads, here)


if __name__ == "__main__":
    main()
