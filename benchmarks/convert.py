"""How fast `.pt` becomes `.safetensors`, beside `cp` and beside torch with the safetensors library.

    python benchmarks/convert.py [--rounds N] [--config NAME] [--folder DIR]

Each way is a whole process, started anew in every round, on the same file of random weights, with
the file in the page cache. Ways take turns, so that a slow moment of the machine hits all alike.
What counts are the ratios within one run.
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
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from sam21convert.containers.checking import sha256

TORCH = """
import sys, torch
from safetensors.torch import save_file
tensors = torch.load(sys.argv[1], weights_only=True, map_location="cpu"{mmap})["model"]
save_file(tensors, sys.argv[2], metadata={{"format": "pt"}})
"""
OURS = (sys.executable, "-m", "sam21convert", "convert")
# Installed packages come with compiled bytecode; let a checkout have it as well.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@dataclass
class Way:
    """One way of doing it, and what it took in each round."""

    name: str
    command: tuple[str, ...]
    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def run(self, *files: Path) -> None:
        """Start a process, wait for it, note its time and peak memory."""
        command = [*self.command, *map(str, files)]
        start = time.perf_counter()
        with Path(os.devnull).open("w") as silence:
            actions = [(os.POSIX_SPAWN_DUP2, silence.fileno(), 1)]
            pid = os.posix_spawnp(command[0], command, ENVIRONMENT, file_actions=actions)
            _, status, usage = os.wait4(pid, 0)
        self.seconds.append(time.perf_counter() - start)
        self.megabytes.append(usage.ru_maxrss / 1000)
        if status != 0:
            raise SystemExit(f"{self.name} failed: {' '.join(command)}")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--config", default="sam2.1/sam2.1_hiera_l")
    parser.add_argument("--folder", type=Path, default=None, help="where to work")
    options = parser.parse_args()
    torch_ways = [
        Way(f"torch.load{mode} + save_file", (sys.executable, "-c", TORCH.format(mmap=mmap)))
        for mode, mmap in (("", ""), ("(mmap)", ", mmap=True"))
    ]
    copy = Way("cp", ("cp",))
    ways = [
        copy,
        Way("cp, then sync", ("sh", "-c", 'cp "$0" "$1" && sync "$1"')),
        *torch_ways,
        Way("sam21convert convert", OURS),
        Way("sam21convert convert --no-verify", (*OURS, "--no-verify")),
    ]
    inspect = Way("sam21convert inspect", (*OURS[:-1], "inspect"))
    with tempfile.TemporaryDirectory(dir=options.folder) as home:
        source = Path(home) / "source.pt"
        made = [sys.executable, "-m", "sam21convert", "sample", str(source)]
        subprocess.run([*made, "--config", options.config], check=True, stdout=subprocess.DEVNULL)
        measure(ways, source, Path(home) / "target.safetensors", options.rounds)
        size = source.stat().st_size
        for _ in range(options.rounds):
            inspect.run(source)
    print(f"{options.config}, {size / 1e6:.0f} MB, median of {options.rounds} rounds, ", end="")
    print(f"{os.cpu_count()} cores, {platform.system()}, torch {version('torch')}\n")
    report([*ways, inspect], copy, torch_ways)


def measure(ways: list[Way], source: Path, target: Path, rounds: int) -> None:
    """One round to warm up, in which the outputs are compared as well; then the ones that count."""
    digests = {}
    for number in range(rounds + 1):
        for way in ways:
            target.unlink(missing_ok=True)
            os.sync()
            way.run(source, target)
            if number == 0:
                digests[way.name] = sha256(target)
                way.seconds.clear()
                way.megabytes.clear()
    converted = {digest for name, digest in digests.items() if not name.startswith("cp")}
    if len(converted) != 1:
        raise SystemExit(f"the outputs differ: {digests}")


def report(ways: list[Way], copy: Way, torch_ways: list[Way]) -> None:
    """A row for each way, with its time as a ratio to `cp` and to the faster way of torch."""
    base = statistics.median(copy.seconds)
    fastest = min(statistics.median(way.seconds) for way in torch_ways)
    print("| way | seconds | times `cp` | speed-up over torch | peak memory |")
    print("|---|---|---|---|---|")
    for way in ways:
        took = statistics.median(way.seconds)
        print(
            f"| {way.name} | {took:.2f} | {took / base:.2f} | {fastest / took:.1f} "
            f"| {max(way.megabytes):.0f} MB |"
        )


if __name__ == "__main__":
    if shutil.which("cp") is None:
        raise SystemExit("needs cp")
    main()
