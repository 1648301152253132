"""How fast the model runs, and in how much memory, beside the official code and transformers.

    python -m benchmarks.forward [--config NAME] [--image-size N] [--rounds N] [--threads N]
                                 [--device cpu|cuda|cuda:1] [--autocast] [--compile]

The three have the same weights, see the same video and take turns in one process, so that a slow
moment of the machine, or the state of its memory, hits all alike. What counts are the ratios within
one run. Run it from the root of a checkout with the test dependencies.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import tests.conftest  # noqa: F401  # lets torchvision be imported beside a CPU build of torch
from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2ImagePredictor, SAM2VideoPredictor
from tests.support import videos
from tests.support.official import build_official_predictor, official_predictor, randomise
from tests.support.transformers import TransformersPredictor

SIDES = ("sam21convert", "sam2", "transformers")
STEPS = ("image encoder", "one prompt", "one tracked frame")
WARM_UP = 7  # frames, after which all seven spatial memories are in use
PARTS = ("image_encoder", "vision_encoder", "memory_attention", "memory_encoder")
DECODERS = ("sam_mask_decoder", "mask_decoder")


@dataclass(frozen=True)
class Options:
    """What is measured."""

    config: str
    image_size: int
    rounds: int
    threads: int
    device: str
    autocast: bool
    compile: bool


class Worker:
    """One of the three, ready to take any of the steps, all memories in use."""

    def __init__(self, side: str, options: Options) -> None:
        self.options = options
        self.on_cuda = options.device.startswith("cuda")
        config = replace(shipped_config(options.config), image_size=options.image_size)
        ours: Any = SAM2VideoPredictor(config).eval()
        weights = randomise(ours, seed=0)
        ours.to(options.device)
        frames = [videos.frame(n % videos.LENGTH) for n in range(WARM_UP + options.rounds + 3)]
        self.predictor, self.model, self.state = ours, ours, ours.init_state(frames)
        self.pixels = self.state.images[:1].clone()
        if side == "transformers":
            self.predictor = TransformersPredictor(weights, image_size=options.image_size)
            self.model = self.predictor.model.to(options.device)
            self.state = self.predictor.init_state(self.state)
        elif side == "sam2":
            self.predictor = self.model = build_official_predictor(config).to(options.device)
            self.model.load_state_dict(weights)
            with tempfile.TemporaryDirectory() as folder:
                for number, frame in enumerate(frames):
                    Image.fromarray(frame).save(Path(folder) / f"{number:05}.jpg")
                self.state = self.predictor.init_state(folder)
        if options.compile:
            for part in (*PARTS, *DECODERS):
                if hasattr(self.model, part):
                    getattr(self.model, part).compile()
        self.tracking = self._track()
        self.prompt = self._prompt(side)
        for _ in range(WARM_UP):
            self.take("one tracked frame")

    def _track(self) -> Iterator[Any]:
        self.predictor.add_new_points_or_box(self.state, 0, 1, **videos.clicks(videos.POINT, [1]))
        yield from self.predictor.propagate_in_video(self.state, start_frame_idx=0)

    def _prompt(self, side: str) -> Callable[[], Any]:
        """Three candidate masks for one click on an image that was encoded before."""
        if side == "transformers":
            embeddings = list(self._encode())
            point, label = torch.tensor([[videos.POINT]]), torch.ones(1, 1, 1, dtype=torch.int32)
            point, label = point.to(self.options.device), label.to(self.options.device)
            return lambda: self.model._single_frame_forward(
                image_embeddings=embeddings, input_points=point, input_labels=label
            )
        predictor: Any
        if side == "sam2":
            predictor = official_predictor(self.model)
        else:
            predictor = SAM2ImagePredictor(self.model)
        predictor.set_image(np.zeros((self.options.image_size,) * 2 + (3,), np.uint8))
        points = torch.tensor([videos.POINT], device=self.options.device)
        labels = torch.ones(1, 1, dtype=torch.int32, device=self.options.device)
        if side == "sam2":
            return lambda: predictor._predict(points, labels)
        features = self.model.encode_image(self.pixels)
        return lambda: self.model.predict_masks(features, points, labels)

    def _encode(self) -> Any:
        if hasattr(self.model, "encode_frame"):
            return self.model.encode_frame(self.pixels)
        if hasattr(self.model, "forward_image"):
            return self.model.forward_image(self.pixels)
        return self.model.get_image_embeddings(self.pixels)

    def take(self, step: str) -> float:
        """Seconds that a step takes."""
        actions: dict[str, Callable[[], Any]] = {
            "image encoder": self._encode,
            "one prompt": self.prompt,
            "one tracked frame": lambda: next(self.tracking),
        }
        half = torch.autocast(torch.device(self.options.device).type, dtype=torch.bfloat16)
        start = time.perf_counter()
        with torch.inference_mode(), half if self.options.autocast else nullcontext():
            actions[step]()
        if self.on_cuda:
            torch.cuda.synchronize(self.options.device)
        return time.perf_counter() - start

    def peak(self, step: str) -> float:
        """Megabytes of tensors at the peak, beyond those there were before."""
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats(self.options.device)
            before = torch.cuda.memory_allocated(self.options.device)
            self.take(step)
            return (torch.cuda.max_memory_allocated(self.options.device) - before) / 1e6
        with torch.profiler.profile(profile_memory=True) as profile:
            self.take(step)
        assert profile.profiler is not None
        assert profile.profiler.kineto_results is not None
        events = profile.profiler.kineto_results.events()
        changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
        largest: int = max(accumulate(size for _, size in sorted(changes)))
        return largest / 1e6


def main() -> None:
    """Measure and print a table."""
    options = parse()
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    workers = {side: Worker(side, options) for side in SIDES}
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(options.rounds + 1):
        for step in STEPS:
            for side in SIDES[number % 3 :] + SIDES[: number % 3]:
                taken = workers[side].take(step)
                if number:  # the first round warms up
                    seconds.setdefault((step, side), []).append(taken)
    report(
        options,
        seconds,
        {(step, side): worker.peak(step) for side, worker in workers.items() for step in STEPS},
    )


def report(
    options: Options,
    seconds: dict[tuple[str, str], list[float]],
    megabytes: dict[tuple[str, str], float],
) -> None:
    """Medians of seconds, and of each round's ratio to the official code; peaks of memory."""
    cuda = options.device.startswith("cuda")
    device = torch.cuda.get_device_name(options.device) if cuda else platform.machine()
    how = "compiled" if options.compile else "eager"
    kind = "bfloat16 autocast" if options.autocast else "float32"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "sam2", "transformers"))
    print(f"{options.config} at {options.image_size}, {kind}, {how}, {device}, {versions}")
    print(f"median of {options.rounds} rounds, {options.threads} threads\n")
    print("| step | implementation | seconds | times sam2 | peak memory | times sam2 |")
    print("|---|---|---|---|---|---|")
    for step in STEPS:
        for side in SIDES:
            mine, theirs = seconds[step, side], seconds[step, "sam2"]
            ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
            times = f"{statistics.median(mine):.3f} | {statistics.median(ratios):.2f}"
            memory, base = megabytes[step, side], megabytes[step, "sam2"]
            print(f"| {step} | {side} | {times} | {memory:.0f} MB | {memory / base:.2f} |")


def parse() -> Options:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", default="sam2.1/sam2.1_hiera_t")
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=6, help="a multiple of 3 is fair")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--autocast", action="store_true", help="bfloat16")
    parser.add_argument("--compile", action="store_true", help="by inductor, part by part")
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
