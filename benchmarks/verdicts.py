"""Whether every published config is in parity with transformers, in float32 and under bfloat16.

    python -m benchmarks.verdicts [--device NAME] [--configs NAME,...] [--scenarios quick|full]

The checkpoints have random weights. Each row is printed as soon as it is known. Run it from the
root of a checkout with the test dependencies.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import sam21convert
import tests.conftest  # noqa: F401  # lets torchvision be imported beside a CPU build of torch
from sam21convert.config.registry import SHIPPED
from sam21convert.io.tensor import DType

PUBLISHED = tuple(shipped.name for shipped in SHIPPED if shipped.size != "debug")
TYPES: tuple[DType, ...] = ("float32", "bfloat16")
assert set(TYPES) <= set(get_args(DType))


def rows(config: str, device: str, scenarios: str) -> Iterator[tuple[str, bool]]:
    """One line for each type, and whether the two are in parity."""
    with tempfile.TemporaryDirectory() as folder:
        official, hf = Path(folder, "official.pt"), Path(folder, "hf")
        sam21convert.sample(official, config)
        sam21convert.convert(official, hf)
        for dtype in TYPES:
            found = sam21convert.parity(
                official, f"transformers:{hf}", scenarios=scenarios, device=device, dtype=dtype
            )
            furthest = [one.furthest for one in found.scenarios if one.furthest is not None]
            share = max(one.relative / one.tolerance for one in furthest)
            verdict = "in parity" if found.ok else f"**not in parity**: {found.problems}"
            ran = sum(one.status != "not run" for one in found.scenarios)
            cells = config, dtype, str(ran), verdict, f"{share:.2f}", f"{found.seconds:.0f}"
            yield f"| {' | '.join(cells)} |", found.ok


def main() -> None:
    """Compare and print a table; exit with 1 if any is not in parity."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--configs", default=",".join(PUBLISHED))
    parser.add_argument("--scenarios", default="quick")
    options = parser.parse_args()
    print("| config | type | scenarios | verdict | nearest to its tolerance | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    right = True
    for config in options.configs.split(","):
        for row, ok in rows(config, options.device, options.scenarios):
            print(row, flush=True)
            right = right and ok
    raise SystemExit(0 if right else 1)


if __name__ == "__main__":
    main()
