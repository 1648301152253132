"""What converting costs in time, memory and bytes, beside `cp`, and beside torch with safetensors.

    python benchmarks/convert.py [--rounds N] [--config NAME ...] [--folder DIR] [--quick]

Each row is a whole process, started anew in every round, on files of random weights; rows take
turns, so that a slow moment of the machine hits all alike, and the fastest round of each counts.
A row is compared with `cp` of the same bytes, by itself and followed by `sync`, which is what a
conversion does. In the rounds called cold, the source is dropped from the page cache before.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

LARGE, TINY = "sam2.1/sam2.1_hiera_l", "sam2.1/sam2.1_hiera_t"
TORCH = """
import sys, torch
from safetensors.torch import save_file
tensors = torch.load(sys.argv[1], weights_only=True, map_location="cpu", mmap=True)["model"]
save_file(tensors, sys.argv[2], metadata={"format": "pt"})
"""
TRAINING = """
import sys, torch
weights = torch.load(sys.argv[1], weights_only=True, mmap=True)["model"]
moments = ("exp_avg", "exp_avg_sq")
state = {n: {m: t.clone() for m in moments} for n, t in enumerate(weights.values())}
torch.save({"model": weights, "optimizer": {"state": state}, "epoch": 1}, sys.argv[2])
"""
PYTHON = (sys.executable,)
OURS = (*PYTHON, "-m", "sam21convert")
CONVERT = (*OURS, "convert")
UNCHECKED = (*CONVERT, "--no-verify")
CP = ("cp",)
CP_SYNC = ("sh", "-c", 'cp "$0" "$1" && sync "$1"')
# Installed packages come with compiled bytecode; let a checkout have it as well.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@dataclass
class Way:
    """A row: a command, what it is given, what it makes, and what it took in each round."""

    name: str
    command: tuple[str, ...]
    source: str
    target: str | None
    seconds: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    cpu: list[float] = field(default_factory=list)
    peak: float = 0
    read: float = 0
    written: float = 0

    def run(self, home: Path, cold: bool) -> None:
        """Start a process, wait for it, note its time, its peak memory and the bytes it moved."""
        target = home / self.target if self.target else None
        if target is not None:
            _remove(target)
        os.sync()
        if cold:
            _drop(home / self.source)
        command = [*self.command, str(home / self.source), *([str(target)] if target else [])]
        start = time.perf_counter()
        with Path(os.devnull).open("w") as silence:
            actions = [(os.POSIX_SPAWN_DUP2, silence.fileno(), 1)]
            pid = os.posix_spawnp(command[0], command, ENVIRONMENT, file_actions=actions)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            self.seconds[cold].append(time.perf_counter() - start)
            moved = Path(f"/proc/{pid}/io").read_text().split()
            _, status, usage = os.wait4(pid, 0)
        if status != 0:
            raise SystemExit(f"{self.name} failed: {' '.join(command)}")
        self.cpu.append(usage.ru_utime + usage.ru_stime)
        self.peak = max(self.peak, usage.ru_maxrss * 1024 / 1e6)
        self.read, self.written = float(moved[1]) / 1e6, float(moved[3]) / 1e6

    def best(self, cold: bool) -> float:
        """Seconds of the fastest round."""
        return min(self.seconds[cold])


def ways() -> list[Way]:
    """All rows. The first two are what the others are compared with."""
    found = [
        Way("`cp`", CP, "m.pt", "copy"),
        Way("`cp`, then `sync`", CP_SYNC, "m.pt", "copy"),
        Way("`torch.load(mmap)` + `save_file`", (*PYTHON, "-c", TORCH), "m.pt", "t.safetensors"),
    ]
    for source, target, title in (
        ("m.pt", "out.safetensors", "`.pt` to `.safetensors`"),
        ("m.pt", "out", "`.pt` to folder"),
        ("hf", "out.pt", "folder to `.pt`"),
        ("m.safetensors", "out", "`.safetensors` to folder"),
        ("training.pt", "out", "training checkpoint to folder"),
    ):
        found.append(Way(title, CONVERT, source, target))
        found.append(Way(f"{title}, `--no-verify`", UNCHECKED, source, target))
    for dtype in ("float16", "bfloat16"):
        cast = ("--dtype", dtype)
        found.append(Way(f"to {dtype}", (*CONVERT, *cast), "m.pt", "out.safetensors"))
        title = f"to {dtype}, `--no-verify`"
        found.append(Way(title, (*UNCHECKED, *cast), "m.pt", "out.safetensors"))
    for source in ("m.pt", "hf", "training.pt"):
        found.append(Way(f"`inspect {source}`", (*OURS, "inspect"), source, None))
    return found


def main() -> None:
    """Measure and print a table for each config."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--config", action="append", help="default: tiny and large")
    parser.add_argument("--folder", type=Path, default=None, help="where to work")
    parser.add_argument("--quick", action="store_true", help="tiny, one round")
    options = parser.parse_args()
    configs = options.config or ([TINY] if options.quick else [TINY, LARGE])
    rounds = 1 if options.quick else options.rounds
    for config in configs:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            report(config, rounds, measure(Path(folder), config, rounds), Path(folder))


def measure(home: Path, config: str, rounds: int) -> list[Way]:
    """Make the files, then let all rows take turns, the source warm and cold."""
    source = str(home / "m.pt")
    for command in (
        (*OURS, "sample", source, "--config", config),
        (*UNCHECKED, source, str(home / "m.safetensors")),
        (*UNCHECKED, source, str(home / "hf")),
        (*PYTHON, "-c", TRAINING, source, str(home / "training.pt")),
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    found = ways()
    for _ in range(rounds):
        for cold in (False, True):
            for way in found:
                way.run(home, cold)
    if not filecmp.cmp(home / "t.safetensors", home / "m.safetensors", shallow=False):
        raise SystemExit("torch and sam21convert write different bytes")
    return found


def report(config: str, rounds: int, found: list[Way], home: Path) -> None:
    """A row for each way, with its time as ratios to both kinds of `cp` and to torch."""
    size = (home / "m.pt").stat().st_size / 1e6
    print(f"\n{config}, {size:.0f} MB, best of {rounds} rounds, {os.cpu_count()} cores", end=", ")
    print(f"{platform.system()}, {_file_system(home)}, torch {version('torch')}\n")
    print("| way | seconds | cold | CPU | times `cp` | times `cp` + `sync` | times torch ", end="")
    print("| peak MB | read MB | written MB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    copy, synced, torch = found[:3]
    for way in found:
        warm = way.best(False)
        ratios = " | ".join(f"{warm / base.best(False):.2f}" for base in (copy, synced, torch))
        times = f"{warm:.2f} | {way.best(True):.2f} | {min(way.cpu):.2f}"
        moved = f"{way.peak:.0f} | {way.read:.0f} | {way.written:.0f}"
        print(f"| {way.name} | {times} | {ratios} | {moved} |")


def _file_system(home: Path) -> str:
    command = ["stat", "-f", "-c", "%T", str(home)]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [*path.iterdir()]


def _drop(source: Path) -> None:
    """Out of the page cache. It is written by now, or it would stay."""
    for file in _files(source):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)


if __name__ == "__main__":
    if sys.platform != "linux" or shutil.which("cp") is None:
        raise SystemExit("needs cp, and the /proc of Linux")
    main()
