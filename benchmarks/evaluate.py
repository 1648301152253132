"""Scores: how fast J and F are computed beside the functions of DAVIS, and how rules part.

    python -m benchmarks.evaluate [--davis FOLDER] [--rules]

FOLDER is a clone of https://github.com/davisvideochallenge/davis2017-evaluation, which no package
index has; it needs opencv and scikit-image, which vos-benchmark brings. Times are those of one
thread, the two side by side in one run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import sam21convert
from sam21convert.errors import RefusedError
from sam21convert.evaluation.measure import Mask, Pair
from sam21convert.evaluation.names import PROTOCOLS
from tests.support import tracked_masks as drawn

_SIZES = {"480p": (480, 854), "1080p": (1080, 1920)}
_SHARES = (0.01, 0.1, 0.3)
_REPEATS = 7
_FRAMES = 10


def masks(height: int, width: int, share: float) -> tuple[Mask, Mask]:
    """A true mask with a wavy boundary, and a prediction that is some pixels off."""
    y, x = np.mgrid[:height, :width]
    angle = np.arctan2(y - height / 2, x - width / 2)
    radius = np.sqrt(share * height * width / np.pi)

    def shape(phase: float) -> Mask:
        reach = radius * (1 + 0.1 * np.sin(9 * angle + phase))
        inside: Mask = np.hypot(y - height / 2, x - width / 2) <= reach
        return inside

    return shape(0.2), shape(0)


def seconds(run: Callable[[], Any]) -> float:
    """Processor time of a frame, of some that follow each other as in a video."""
    start = time.process_time()
    for _ in range(_FRAMES):
        run()
    return (time.process_time() - start) / _FRAMES


def speed(davis: Path) -> None:
    """Print object-frames per second of both."""
    import cv2

    sys.path.insert(0, str(davis))
    metrics = import_module("davis2017.metrics")
    cv2.setNumThreads(1)
    print("| size | object | DAVIS | ours | times as fast |\n|---|---|---|---|---|")
    for name, size in _SIZES.items():
        for share in _SHARES:
            predicted, true = masks(*size, share)

            def theirs(p: Mask = predicted, t: Mask = true) -> Sequence[float]:
                return float(metrics.db_eval_iou(t, p)), metrics.f_measure(p, t)

            def mine(p: Mask = predicted, t: Mask = true) -> Sequence[float]:
                found = Pair(p, t).counts()
                return found.j, found.f

            assert theirs() == mine()
            pairs = [(seconds(theirs), seconds(mine)) for _ in range(_REPEATS)]
            other, own = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"| {name} | {share:.0%} | {1 / other:.0f}/s | {1 / own:.0f}/s | {ratio:.1f} |")


def rules() -> None:
    """Print J&F of drawn videos by the rules of each benchmark."""
    shown = ("moved", "gone", "gone-one-pixel", "hidden", "later", "later-one-pixel", "gaps")
    print(f"| masks | {' | '.join(PROTOCOLS)} |\n|{'---|' * (len(PROTOCOLS) + 1)}")
    with tempfile.TemporaryDirectory() as folder:
        homes = {"lvos": drawn.lvos, "": drawn.mose}
        written = {name: write(Path(folder) / f"as{name}") for name, write in homes.items()}
        for video in shown:
            cells = []
            for protocol in PROTOCOLS:
                data, predicted = written.get(protocol, written[""])
                named = drawn.named(video) if protocol == "lvos" else video
                try:
                    found = sam21convert.score(predicted, data, protocol=protocol, videos=[named])
                    cells.append(f"{found.jf:.1f}")
                except RefusedError:
                    cells.append("refused")
            print(f"| {video} | {' | '.join(cells)} |")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--davis", type=Path, metavar="FOLDER", help="DAVIS' evaluator")
    parser.add_argument("--rules", action="store_true", help="the table of rules")
    options = parser.parse_args()
    if options.davis:
        speed(options.davis)
    if options.rules:
        rules()


if __name__ == "__main__":
    main()
