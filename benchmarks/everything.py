"""How fast all masks of a picture are found, beside the official generator.

    python -m benchmarks.everything [--config NAME] [--image-size N] [--rounds N] [--threads N]
                                    [--picture N] [--points N] [--crops N] [--device cpu|cuda]

Both have the same weights and settings, and take turns in one process. What counts are the ratios
within one run. The weights are random, so the thresholds are set to let half of the masks through.
Duplicates are dropped by the function of this package on both sides where torchvision's compiled
one does not load. Run it from the root of a checkout with the test dependencies.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import tests.conftest  # noqa: F401  # lets torchvision be imported beside a CPU build of torch
from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2, SAM2AutomaticMaskGenerator
from sam21convert.model.boxes import suppress_duplicates
from sam21convert.packages import module
from sam21convert.prediction.draw import scene
from tests.support.official import build_official, official_predictor, randomise


def without_classes(boxes: Tensor, scores: Tensor, _: Tensor, iou_threshold: float) -> Tensor:
    """The duplicates of one class, as the official generator asks for them."""
    return suppress_duplicates(boxes, scores, iou_threshold)


def main() -> None:
    """Measure and print the seconds of both and their ratio."""
    options = parse()
    torch.set_num_threads(options.threads)
    official = module("sam2.automatic_mask_generator")
    if not module("torchvision.extension")._has_ops():
        official.batched_nms = without_classes
    config = replace(shipped_config(options.config), image_size=options.image_size)
    ours = SAM2(config).eval()
    theirs = build_official(config)
    theirs.load_state_dict(randomise(ours, seed=6))
    settings: dict[str, Any] = {
        "points_per_side": options.points,
        "crop_n_layers": options.crops,
        "pred_iou_thresh": 0.4,
        "stability_score_thresh": 0.3,
        "stability_score_offset": 0.1,
    }
    generator = official.SAM2AutomaticMaskGenerator(theirs.to(options.device), **settings)
    generator.predictor = official_predictor(theirs)
    sides = {
        "sam21convert": SAM2AutomaticMaskGenerator(ours.to(options.device), **settings),
        "sam2": generator,
    }
    picture = scene(options.picture)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds + 1):
        for name in sorted(sides, reverse=bool(number % 2)):
            start = time.perf_counter()
            found = sides[name].generate(picture)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    ratios = [one / other for one, other in zip(*seconds.values(), strict=True)]
    medians = ", ".join(f"{name} {statistics.median(took):.2f} s" for name, took in seconds.items())
    print(f"{options.config} at {options.image_size}, {options.picture} pixels, {len(found)} masks")
    print(f"{medians}: {statistics.median(ratios):.2f} times sam2 (median of {options.rounds})")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", default="sam2.1/sam2.1_hiera_t")
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--picture", type=int, default=1024, help="its sides in pixels")
    parser.add_argument("--points", type=int, default=16, help="per side")
    parser.add_argument("--crops", type=int, default=0, help="layers of crops")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
