"""What the two large graphs of exports cost: loading them, running them, memory.

    python -m benchmarks.graphs FOLDER ... [--variant fp32|fp16|q8] [--rounds N] [--threads N]

FOLDER is an export of ``convert --to onnx --with-video``, by this build or another one. Each graph
is loaded in a process of its own, by the driver that users run; the folders take turns. Memory
attention gets seven memories and sixteen pointers. Run it from the root of a checkout with the
extra [onnx], on Linux.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from sam21convert.export.runtime import load
from sam21convert.export.runtime.layouts import MEMORY_ATTENTION, VISION_ENCODER
from sam21convert.io.onnx import VARIANTS

RUNS = 4  # of each process: the first one, and three more
MEMORIES, POINTERS = 7, 16


def measured(folder: Path, variant: Any, name: str, threads: int) -> dict[str, float]:
    """Seconds to load a graph, of its first and its later runs, and peak memory in GB."""
    draw = np.random.default_rng(0)

    def floats(*shape: int) -> Any:
        return draw.standard_normal(shape, np.float32)

    model = load(folder, variant=variant, threads=threads)
    side = model.config.image_size
    c, width = model.config.hidden_dim, model.config.memory_encoder.out_dim
    grid = side // 16, side // 16
    inputs: tuple[Any, ...] = (floats(1, 3, side, side),)
    if name == MEMORY_ATTENTION:
        inputs = (
            floats(1, c, *grid),
            floats(1, MEMORIES, width, *grid),
            np.arange(MEMORIES),
            floats(1, POINTERS, c),
            np.linspace(0, 1, POINTERS, dtype=np.float32),
        )
    laps = [time.perf_counter()]
    graph = model._graph(name)
    laps.append(time.perf_counter())
    for _ in range(RUNS):
        graph(*inputs)
        laps.append(time.perf_counter())
    seconds = np.diff(laps).tolist()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "load": seconds[0],
        "first run": seconds[1],
        "later runs": statistics.median(seconds[2:]),
        "peak GB": peak,
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--variant", choices=VARIANTS, default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    for name in (VISION_ENCODER, MEMORY_ATTENTION):
        runs: dict[Path, list[dict[str, float]]] = {folder: [] for folder in options.folders}
        for _ in range(options.rounds):
            for folder, found in runs.items():
                found.append(in_a_process(folder, options.variant, name, options.threads))
        for folder, found in runs.items():
            cells = (
                f"{key} {statistics.median(one[key] for one in found):.2f}" for key in found[0]
            )
            print(f"{name}, {options.variant}, {folder}: {', '.join(cells)}", flush=True)


def in_a_process(*case: Any) -> dict[str, float]:
    """What :func:`measured` finds in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measured, *case).result()


if __name__ == "__main__":
    main()
