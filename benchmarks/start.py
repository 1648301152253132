"""What it costs to start, in times of what an empty Python costs: imports, commands, refusals.

    python -m benchmarks.start [--rounds N]

Each row is a process in an installation that has what ``pyproject.toml`` declares and no more, made
of links to the packages of this Python; ``import torch`` is run in one with the extra. Processor
time of the process, the best of some rounds that take turns. Run it from the root of a checkout
with the test dependencies.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import sam21convert
from tests.support import installs

_COMMAND = ("-m", "sam21convert")
PLAIN: Mapping[str, Sequence[str]] = {
    "`python -c pass`": ("-c", "pass"),
    "`import sam21convert`": ("-c", "import sam21convert"),
    "`sam21convert --version`": (*_COMMAND, "--version"),
    "`sam21convert inspect tiny.pt`": (*_COMMAND, "inspect", "tiny.pt"),
    "`sam21convert parity`, refused": (*_COMMAND, "parity", "tiny.pt", "tiny.pt"),
    "`sam21convert push`, refused": (*_COMMAND, "push", "tiny.pt", "me/tiny"),
}
WITH_TORCH: Mapping[str, Sequence[str]] = {"`import torch`": ("-c", "import torch")}


def seconds(python: Path, words: Sequence[str], folder: Path) -> float:
    """Processor time of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [python, *words], cwd=folder, env=installs.environment(), capture_output=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        sam21convert.sample(folder / "tiny.pt")
        plain = installs.install(folder / "plain")
        torch = installs.install(folder / "torch", "torch")
        rows = {
            **{name: (plain, words) for name, words in PLAIN.items()},
            **{name: (torch, words) for name, words in WITH_TORCH.items()},
        }
        best = dict.fromkeys(rows, float("inf"))
        for _ in range(rounds + 1):  # the first one compiles
            for name, (python, words) in rows.items():
                best[name] = min(best[name], seconds(python, words, folder))
    sizes = {
        name: installs.size(installs.closure([*installs.declared(), *more]).values())
        for name, more in (("plain", []), ("torch", installs.declared("torch")))
    }
    print(f"Python {platform.python_version()}, {platform.system()} on {platform.machine()}\n")
    print("| process | times an empty Python | seconds |\n|---|---|---|")
    unit = best["`python -c pass`"]
    for name, found in best.items():
        print(f"| {name} | {found / unit:.1f} | {found:.3f} |")
    for name, size in sizes.items():
        print(f"\n{name}: {size / 1e6:.0f} MB of packages")


if __name__ == "__main__":
    main()
