"""Fuzz a reader for as long as wanted: ``python -m tests.fuzzing TARGET --seconds N``.

With atheris installed, inputs are kept for the code that they reach; without it they are mutations
of the seeds alone. What makes a target fail is written to the current folder, and shown again by
``python -m tests.fuzzing TARGET FILE``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import traceback
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

atheris: Any = import_module("atheris") if find_spec("atheris") else None
_READERS = [
    "sam21convert.io",
    "sam21convert.checkpoint.safety",
    "sam21convert.workflows.batch.manifest",
    "zipfile",
]

with atheris.instrument_imports(include=_READERS) if atheris else nullcontext():
    from . import mutation
    from .targets import TARGETS, Target, clean_up, folder


def main() -> int:
    """Run what the command line asks for; the exit status is 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("files", nargs="*", type=Path, help="run these inputs, once each")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="folder of inputs that is read and added to")
    args = parser.parse_args()
    target = TARGETS[args.target]
    try:
        for file in args.files:
            target.run(file.read_bytes())
        if args.files:
            return 0
        with TemporaryDirectory() as empty:
            corpus = args.corpus or Path(empty)
            corpus.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "tests.fuzzing.seeds", target.name, str(corpus)]
            subprocess.run(command, check=True)
            return (_guided if atheris else _blind)(target, args.seconds, corpus)
    finally:
        clean_up()


def _guided(target: Target, seconds: int, corpus: Path) -> int:
    """In a process of its own: libFuzzer ends the one that it runs in."""
    folder()
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    rng, slowest = Random(0), 0.0

    def run(data: bytes) -> None:
        nonlocal slowest
        start = time.process_time()
        target.run(data)
        taken = time.process_time() - start
        if taken > max(0.01, 2 * slowest):
            slowest = taken
            print(f"slowest input so far: {taken:.3f} s, {len(data)} bytes", flush=True)

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        rng.seed(seed)
        if rng.random() < 0.3:
            return bytes(atheris.Mutate(data, size))
        return mutation.mutate(target, data, rng)[:size]

    options = {
        "max_total_time": seconds,
        "timeout": int(mutation.LONGEST),
        "rss_limit_mb": mutation.MEMORY >> 20,
        "max_len": 1 << 14,
        "artifact_prefix": f"{target.name}-",
        "print_final_stats": 1,
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], run, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


def _blind(target: Target, seconds: int, corpus: Path) -> int:
    seeds = [file.read_bytes() for file in sorted(corpus.iterdir())]
    end = time.monotonic() + seconds
    found = mutation.run(target, seeds, lambda _: time.monotonic() > end, Random().getrandbits(32))
    print(f"{found.inputs} inputs, {found.valid} of them valid, the slowest {found.slowest:.3f} s")
    if found.crash is None:
        return 0
    traceback.print_exception(found.error)
    path = Path(f"{target.name}-crash")
    path.write_bytes(found.crash)
    print(f"the input is in {path}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
