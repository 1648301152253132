"""How long an export takes, and how fast it runs beside the model that it was made of.

    python -m benchmarks.export [--config NAME] [--image-size N] [--rounds N] [--threads N]
                                [--compile] [--openvino]

``--compile`` adds the model with its parts compiled by ``torch.compile``, ``--openvino`` the image
graphs run by OpenVINO, which must be installed then.

Model and exports have the same weights, see the same pictures and take turns in one process, so
that a slow moment of the machine hits all alike. What counts are the ratios within one run. Run it
from the root of a checkout with the test dependencies and the extra [onnx].
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
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import sam21convert
from sam21convert.export.runtime import Frames, OnnxModel, OnnxVideoPredictor, load
from sam21convert.model.config import TrackingOptions
from sam21convert.model.inference_state import Session
from sam21convert.model.video_frames import Frames as Pictures
from sam21convert.model.video_predictor import SAM2VideoPredictor
from sam21convert.prediction.load import load_onto, with_image_size

WARM_UP = 8  # frames, after which all seven spatial memories are in use
PAUSE = 0.1  # seconds
STEPS = ("image encoder", "one prompt", "one tracked frame")
Times = dict[str, list[float]]
_PARTS = ("image_encoder", "memory_attention", "memory_encoder", "sam_mask_decoder")


class Eager:
    """The model of this package."""

    def __init__(
        self,
        weights: Path,
        frames: NDArray[np.float32],
        config: str,
        side: int,
        *,
        compiled: bool = False,
    ) -> None:
        self.model, _ = load_onto(
            lambda found: SAM2VideoPredictor(found, TrackingOptions()),
            weights,
            config,
            change=with_image_size(side),
            device="cpu",
            dtype=torch.float32,
        )
        for part in _PARTS if compiled else ():
            getattr(self.model, part).compile()
        self.pixels = torch.from_numpy(frames)
        self.state = Session(
            Pictures(self.pixels, side, side), self.model.device, self.model.device
        )
        self.point = torch.tensor([[[side / 3, side / 2]]]), torch.ones(1, 1)
        self.video = self._video(side)

    def _video(self, side: int) -> object:
        self.model.add_new_points(self.state, 0, 1, [[side / 3, side / 2]], [1])
        return self.model.propagate_in_video(self.state)

    @torch.inference_mode()
    def encode(self) -> None:
        """Encode one picture."""
        self.features = self.model.encode_image(self.pixels[:1])

    @torch.inference_mode()
    def prompt(self) -> None:
        """Answer a point."""
        self.model.predict_masks(self.features, *self.point)

    def frame(self) -> None:
        """Follow the object to the next frame."""
        next(self.video)  # type: ignore[call-overload]


class Exported:
    """An export, run by onnxruntime."""

    def __init__(self, model: OnnxModel, frames: NDArray[np.float32], side: int) -> None:
        self.model, self.pixels = model, frames
        self.point = np.array([[[side / 3, side / 2]]], np.float32), np.ones((1, 1), np.int64)
        self.video = None
        if model.has_video:
            predictor = OnnxVideoPredictor(model, fill_hole_area=0)
            state = predictor.init_state(Frames(frames, side, side))
            predictor.add_new_points(state, 0, 1, [[side / 3, side / 2]], [1])
            self.video = predictor.propagate_in_video(state)

    def encode(self) -> None:
        """Encode one picture."""
        self.features = self.model.encode(self.pixels[:1])

    def prompt(self) -> None:
        """Answer a point."""
        self.model.candidates(self.features, *self.point, np.zeros((1, 0, 4), np.float32)[0])

    def frame(self) -> None:
        """Follow the object to the next frame."""
        assert self.video is not None
        next(self.video)


class OpenVino:
    """The image graphs of an export, run by OpenVINO."""

    def __init__(self, folder: Path, frames: NDArray[np.float32], side: int, threads: int) -> None:
        import openvino

        core = openvino.Core()
        self.encoder, self.decoder = (
            core.compile_model(
                folder / "onnx" / f"{name}.onnx", "CPU", {"INFERENCE_NUM_THREADS": threads}
            )
            for name in ("vision_encoder", "prompt_encoder_mask_decoder")
        )
        self.pixels = frames
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


Side = Eager | Exported | OpenVino


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
    parser.add_argument("--compile", action="store_true", help="torch.compile as well")
    parser.add_argument("--openvino", action="store_true", help="OpenVINO as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    side = options.image_size
    with tempfile.TemporaryDirectory() as home:
        weights = Path(home) / "model.pt"
        sam21convert.sample(weights, options.config)
        took, memory = export(weights, Path(home) / "images", options.config, side)
        sam21convert.export_onnx(
            weights, Path(home) / "all", with_video=True, config=options.config, image_size=side
        )
        alone, ours = start(Path(home) / "all", options.rounds)
        count = WARM_UP + options.rounds + 1
        frames = np.random.default_rng(0).standard_normal((count, 3, side, side), np.float32)
        sides: dict[str, Side] = {
            "eager": Eager(weights, frames, options.config, side),
            "onnxruntime": Exported(
                load(Path(home) / "all", threads=options.threads), frames, side
            ),
        }
        small = load(Path(home) / "all", variant="q8", threads=options.threads)
        sides["onnxruntime, q8"] = Exported(small, frames, side)
        if options.compile:
            sides["compiled"] = Eager(weights, frames, options.config, side, compiled=True)
        if options.openvino:
            sides["OpenVINO"] = OpenVino(Path(home) / "all", frames, side, options.threads)
        times = measure(sides, options.rounds)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime"))
    print(f"{options.config}, {side} pixels, {options.threads} threads; {versions}")
    print(f"export for images, fp32 and q8: {took:.0f} s, {memory:.1f} GB")
    print(f"start with both graphs: {ours:.2f} s, {ours / alone:.2f} times that of onnxruntime")
    print(f"{'':<20}" + "".join(f"{name:>20}" for name in sides))
    for step in STEPS:
        eager = statistics.median(times["eager"][step])
        cells = [statistics.median(times[name][step]) / eager for name in sides]
        print(f"{step:<20}" + "".join(f"{cell:>20.2f}" for cell in cells) + f"  {eager:.3f} s")


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
