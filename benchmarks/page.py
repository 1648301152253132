"""What the page of ``serve`` costs, against the same calls in Python.

    python -m benchmarks.page [CHECKPOINT [IMAGE_SIZE]]

Prints the processor time, in seconds, from opening a picture to its first mask, of both in turns;
and the memory after one page that was opened and closed, and after ten more.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import sam21convert
from sam21convert.model.image_predictor import SAM2ImagePredictor
from sam21convert.prediction.draw import scene
from sam21convert.web.sides import open_sides
from tests.support.web import Page, serving

ROUNDS, SESSIONS = 7, 10
POINT = (400, 600)


def seconds(work: Callable[[], object]) -> float:
    """The processor time of a call, of all threads."""
    before = time.process_time()
    work()
    return time.process_time() - before


def megabytes() -> float:
    """The memory of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    """Measure, and print."""
    torch.set_num_threads(1)
    home = Path(tempfile.mkdtemp())
    given, size = sys.argv[1:2], int(sys.argv[2]) if sys.argv[2:] else 512
    checkpoint = given[0] if given else str(home / "tiny.pt")
    if not given:
        sam21convert.sample(checkpoint)
    Image.fromarray(scene(1024)).save(home / "house.jpg", quality=92)
    sides = open_sides([checkpoint], image_size=size, device="cpu")
    model = sides[0].images.predictor.model

    def in_python() -> object:
        predictor = SAM2ImagePredictor(model)
        predictor.set_image(np.asarray(Image.open(home / "house.jpg").convert("RGB")))
        return predictor.predict([POINT], [1])

    with serving(sides) as server:

        def on_the_page() -> object:
            page = Page(server)
            page.open(home / "house.jpg")
            page.ask("prompt", points=[[*POINT, 1]])
            return page.ask("close")

        in_python(), on_the_page()
        pairs = [(seconds(in_python), seconds(on_the_page)) for _ in range(ROUNDS)]
        one, other = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(there / here for here, there in pairs)
        print(f"python {one:.2f} s, page {other:.2f} s, ratio {ratio:.3f}")
        first = megabytes()
        for _ in range(SESSIONS):
            on_the_page()
        print(f"after one page {first:.0f} MB, after {SESSIONS} more {megabytes():.0f} MB")


if __name__ == "__main__":
    main()
