"""How long an export takes, and how fast it runs beside the model that it was made of.

    python -m benchmarks.export [--config NAME] [--image-size N] [--objects N] [--rounds N]
                                [--threads N] [--sides NAME...]

Sides: ``eager``, the model of this package; ``compiled``, the same with its parts compiled by
``torch.compile``; ``sam2``, the official code; ``onnxruntime`` and ``q8``, an export; ``openvino``,
its image graphs run by OpenVINO, which must be installed then. Times are shares of those of the
first side.

All have the same weights, see the same pictures and take turns in one process, so that a slow
moment of the machine hits all alike. What counts are the ratios within one run. Run it from the
root of a checkout with the test dependencies and the extra [onnx].
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import sam21convert
import tests.conftest  # noqa: F401  # lets torchvision be imported beside a CPU build of torch
from sam21convert.config.registry import shipped_config
from sam21convert.export.runtime import Frames, OnnxVideoPredictor, load
from sam21convert.io.onnx import Variant
from sam21convert.model.config import TrackingOptions
from sam21convert.model.inference_state import Session
from sam21convert.model.video_frames import Frames as Pictures
from sam21convert.model.video_predictor import SAM2VideoPredictor
from sam21convert.prediction.load import load_onto, with_image_size
from tests.support.official import build_official_predictor, official_predictor

WARM_UP = 8  # frames, after which all seven spatial memories are in use
PAUSE = 0.1  # seconds
STEPS = ("image encoder", "one prompt", "one tracked frame")
SIDES = ("eager", "compiled", "sam2", "onnxruntime", "q8", "openvino")
Times = dict[str, list[float]]
_PARTS = ("image_encoder", "memory_attention", "memory_encoder", "sam_mask_decoder")


class Case(NamedTuple):
    """What all sides are given.

    Attributes:
        weights: A checkpoint.
        export: The folder of an export of it.
        frames: Pixels of a video, ``N x 3 x S x S``.
        config: The name of the config.
        objects: How many objects are followed.
        threads: Number of threads.
    """

    weights: Path
    export: Path
    frames: NDArray[np.float32]
    config: str
    objects: int
    threads: int

    @property
    def side(self) -> int:
        """``S``."""
        return int(self.frames.shape[-1])

    def track(self, predictor: Any, state: Any) -> Iterator[Any]:
        """Follow a point for each object through the video."""
        for number in range(self.objects):
            place = self.side * (number + 1) / (self.objects + 1)
            predictor.add_new_points_or_box(
                state, 0, number, points=np.array([[place, self.side / 2]]), labels=np.array([1])
            )
        yield from predictor.propagate_in_video(state)


class Eager:
    """The model of this package."""

    def __init__(self, case: Case, *, compiled: bool = False) -> None:
        side = case.side
        self.model, _ = load_onto(
            lambda found: SAM2VideoPredictor(found, TrackingOptions()),
            case.weights,
            case.config,
            change=with_image_size(side),
            device="cpu",
            dtype=torch.float32,
        )
        for part in _PARTS if compiled else ():
            getattr(self.model, part).compile()
        self.pixels = torch.from_numpy(case.frames)
        state = Session(Pictures(self.pixels, side, side), self.model.device, self.model.device)
        self.point = torch.tensor([[[side / 3, side / 2]]]), torch.ones(1, 1)
        self.video = case.track(self.model, state)

    @torch.inference_mode()
    def encode(self) -> None:
        """Encode one picture."""
        self.features = self.model.encode_image(self.pixels[:1])

    @torch.inference_mode()
    def prompt(self) -> None:
        """Answer a point."""
        self.model.predict_masks(self.features, *self.point)

    def frame(self) -> None:
        """Follow the objects to the next frame."""
        next(self.video)


class Official:
    """The official code."""

    def __init__(self, case: Case) -> None:
        config = replace(shipped_config(case.config), image_size=case.side)
        self.model = build_official_predictor(config)
        ours, _ = sam21convert.load_model(case.weights, config=case.config, device="cpu")
        self.model.load_state_dict(ours.state_dict())
        self.pixels = torch.from_numpy(case.frames)
        self.predictor = official_predictor(self.model)
        self.point = torch.tensor([[[case.side / 3, case.side / 2]]]), torch.ones(1, 1)
        with tempfile.TemporaryDirectory() as folder:
            Image.new("RGB", (case.side, case.side)).save(Path(folder) / "0.jpg")
            state = self.model.init_state(folder)
        state["images"], state["num_frames"] = self.pixels, len(self.pixels)
        state["cached_features"].clear()
        self.video = case.track(self.model, state)

    @torch.inference_mode()
    def encode(self) -> None:
        """Encode one picture."""
        self.predictor.set_image(np.zeros((self.model.image_size,) * 2 + (3,), np.uint8))

    @torch.inference_mode()
    def prompt(self) -> None:
        """Answer a point."""
        self.predictor._predict(*self.point)

    def frame(self) -> None:
        """Follow the objects to the next frame."""
        next(self.video)


class Exported:
    """An export, run by onnxruntime."""

    def __init__(self, case: Case, *, small: bool = False) -> None:
        side, self.pixels = case.side, case.frames
        variant: Variant = "q8" if small else "fp32"
        self.model = load(case.export, variant=variant, threads=case.threads)
        self.point = np.array([[[side / 3, side / 2]]], np.float32), np.ones((1, 1), np.int64)
        predictor = OnnxVideoPredictor(self.model, fill_hole_area=0)
        self.video = case.track(predictor, predictor.init_state(Frames(self.pixels, side, side)))

    def encode(self) -> None:
        """Encode one picture."""
        self.features = self.model.encode(self.pixels[:1])

    def prompt(self) -> None:
        """Answer a point."""
        self.model.candidates(self.features, *self.point, np.zeros((1, 0, 4), np.float32)[0])

    def frame(self) -> None:
        """Follow the objects to the next frame."""
        next(self.video)


class OpenVino:
    """The image graphs of an export, run by OpenVINO."""

    def __init__(self, case: Case) -> None:
        import openvino

        core, side = openvino.Core(), case.side
        self.encoder, self.decoder = (
            core.compile_model(
                case.export / "onnx" / f"{name}.onnx",
                "CPU",
                {"INFERENCE_NUM_THREADS": case.threads},
            )
            for name in ("vision_encoder", "prompt_encoder_mask_decoder")
        )
        self.pixels = case.frames
        self.point = {
            "input_points": np.array([[[[side / 3, side / 2]]]], np.float32),
            "input_labels": np.ones((1, 1, 1), np.int64),
            "input_boxes": np.zeros((1, 0, 4), np.float32),
        }

    def encode(self) -> None:
        """Encode one picture."""
        found = self.encoder(self.pixels[:1])
        names = [f"image_embeddings.{level}" for level in range(3)]
        self.features = {name: found[name].copy() for name in names}

    def prompt(self) -> None:
        """Answer a point."""
        self.decoder(self.point | self.features)

    def frame(self) -> None:
        """Nothing: the driver for videos runs onnxruntime."""


Side = Eager | Official | Exported | OpenVino


def made(name: str, case: Case) -> Side:
    """A side by its name."""
    if name == "sam2":
        return Official(case)
    if name == "openvino":
        return OpenVino(case)
    if name in ("onnxruntime", "q8"):
        return Exported(case, small=name == "q8")
    return Eager(case, compiled=name == "compiled")


def seconds(step: Callable[[], None]) -> float:
    """Time one step, when no thread of another side waits for more work any longer."""
    time.sleep(PAUSE)
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def export(weights: Path, folder: Path, config: str, side: int) -> tuple[float, float]:
    """Export in a process of its own: seconds and peak memory in GB."""
    line = ["convert", weights, folder, "--to", "onnx", "--config", config, "--image-size", side]
    start = time.perf_counter()
    command = [sys.executable, "-m", "sam21convert", *map(str, line), "--quiet"]
    subprocess.run(command, check=True, capture_output=True)
    took = time.perf_counter() - start
    return took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6


_ORT = """
import onnxruntime, pathlib, sys
for name in ("vision_encoder", "prompt_encoder_mask_decoder"):
    path = pathlib.Path(sys.argv[1]) / "onnx" / f"{name}.onnx"
    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
"""
_OURS = """
import sys
from sam21convert.export.runtime import load
from sam21convert.export.runtime.layouts import IMAGES
model = load(sys.argv[1])
for name in IMAGES:
    model._graph(name)
"""


def start(folder: Path, rounds: int) -> tuple[float, float]:
    """Processor time until both graphs for images are loaded: onnxruntime alone, and ours."""

    def once(program: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        settings = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}
        subprocess.run([sys.executable, "-c", program, str(folder)], check=True, env=settings)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    pairs = [(once(_ORT), once(_OURS)) for _ in range(rounds)]
    alone, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    return alone, ours


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="sam2.1/sam2.1_hiera_t")
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["eager", "onnxruntime", "q8"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    side = options.image_size
    with tempfile.TemporaryDirectory() as home:
        weights, folder = Path(home) / "model.pt", Path(home) / "all"
        sam21convert.sample(weights, options.config)
        took, memory = export(weights, Path(home) / "images", options.config, side)
        sam21convert.export_onnx(
            weights, folder, with_video=True, config=options.config, image_size=side
        )
        alone, ours = start(folder, options.rounds)
        count = WARM_UP + options.rounds + 1
        frames = np.random.default_rng(0).standard_normal((count, 3, side, side), np.float32)
        case = Case(weights, folder, frames, options.config, options.objects, options.threads)
        sides = {name: made(name, case) for name in options.sides}
        times = measure(sides, options.rounds)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "sam2"))
    print(f"{options.config}, {side} pixels, {options.threads} threads; {versions}")
    print(f"{options.objects} objects; medians of {options.rounds} rounds")
    print(f"export for images, fp32 and q8: {took:.0f} s, {memory:.1f} GB")
    print(f"start with both graphs: {ours:.2f} s, {ours / alone:.2f} times that of onnxruntime")
    print(f"{'':<20}" + "".join(f"{name:>20}" for name in sides))
    for step in STEPS:
        first = times[options.sides[0]][step]
        cells = [
            statistics.median(
                one / base for one, base in zip(times[name][step], first, strict=True)
            )
            for name in sides
        ]
        seconds = f"{statistics.median(first):.3f} s"
        print(f"{step:<20}" + "".join(f"{cell:>20.2f}" for cell in cells) + f"  {seconds}")


def measure(sides: Mapping[str, Side], rounds: int) -> dict[str, Times]:
    """Let the sides take turns; the first rounds warm them up and do not count."""
    found: dict[str, Times] = {name: {step: [] for step in STEPS} for name in sides}
    for number in range(WARM_UP + rounds):
        for name, one in sides.items():
            counts = number >= WARM_UP
            if counts or number == 0:
                taken = [seconds(one.encode), seconds(one.prompt)]
                for step, value in zip(STEPS, taken, strict=False):
                    found[name][step] += [value] if counts else []
            taken = [seconds(one.frame)]
            found[name][STEPS[2]] += taken if counts else []
    return found


if __name__ == "__main__":
    main()
