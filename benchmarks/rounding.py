"""How near a program in float32 can come to the model, and how near an export does.

    python -m benchmarks.rounding [--config NAME] [--image-size N] [--seeds N] [--frames N]

The weights are random. First every graph is run at the sizes that an export is tried with: the
model in float32, the same with attention step by step, and the export are each compared with the
model in double precision, and the last two with the first. Then the same three programs follow two
objects through the drawn video, and the pixels of their masks are counted that are not those of
the first. Run it from the root of a checkout with the test dependencies and the extra [onnx].
"""

from __future__ import annotations

import argparse
import tempfile
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import sam21convert
from sam21convert.comparison.inputs import clip
from sam21convert.export.graphs import Graph, PromptDecoder, VisionEncoder
from sam21convert.export.runtime import OnnxVideoPredictor, load
from sam21convert.export.runtime.sessions import PROVIDERS, Layout
from sam21convert.export.runtime.sessions import Graph as Loaded
from sam21convert.export.video_graphs import FrameDecoder, MemoryAttention, MemoryEncoder
from sam21convert.model.config import TrackingOptions
from sam21convert.model.image_predictor import pixels_of
from sam21convert.model.video_predictor import SAM2VideoPredictor
from sam21convert.prediction.draw import Pixels
from sam21convert.prediction.load import load_onto, with_image_size

GRAPHS = (PromptDecoder, FrameDecoder, MemoryAttention, MemoryEncoder)
COLUMNS = ("model", "steps", "export", "steps-model", "export-model")
TRACKING = TrackingOptions()
PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3))  # 0 is in double precision
OBJECTS = {1: (0.5, 0.5), 2: (0.2, 0.7)}  # a point on each, as shares of the video's sides


def apart(graph: Graph, file: Path) -> dict[str, list[float]]:
    """How far the three programs are from one another, relative to the scale of an output.

    Args:
        graph: The model's part.
        file: The export of it.

    Returns:
        For each output, the largest differences over all sizes, in the order of ``COLUMNS``.
    """
    sides = (tuple(one.name for one in side) for side in (graph.inputs, graph.outputs))
    exported = Loaded(file, Layout(*sides), None, PROVIDERS)
    exact = deepcopy(graph).double()
    found = {one.name: [0.0] * len(COLUMNS) for one in graph.outputs}
    torch.manual_seed(0)
    for inputs in graph.trials():
        model = graph.expected(*inputs)
        with sdpa_kernel(SDPBackend.MATH):
            steps = graph.expected(*inputs)
            truth = exact.expected(
                *(one.double() if one.is_floating_point() else one for one in inputs)
            )
        export = [torch.from_numpy(one) for one in exported(*(one.numpy() for one in inputs))]
        for output, *answers in zip(graph.outputs, truth, model, steps, export, strict=True):
            least = 1.0 if output.name == "object_score_logits" else 0.0  # one number, it may be 0
            scale = max(float(answers[0].abs().max()), least)
            pairs = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3))
            far = [
                float((answers[one] - answers[other]).abs().max()) / scale for one, other in pairs
            ]
            found[output.name] = [*map(max, found[output.name], far)]
    return found


def tracked(predictor: SAM2VideoPredictor | OnnxVideoPredictor, frames: list[Pixels]) -> Tensor:
    """Logits of all objects on all frames, at the size of the video."""
    state: Any = predictor.init_state(frames)
    height, width, _ = frames[0].shape
    for number, (x, y) in OBJECTS.items():
        predictor.add_new_points(state, 0, number, [[x * width, y * height]], [1])
    return torch.stack([torch.as_tensor(one) for *_, one in predictor.propagate_in_video(state)])


def flipped(one: Tensor, other: Tensor) -> str:
    """What is to be said of the pixels whose logits have another sign."""
    differing = (one > 0) != (other > 0)
    union = ((one > 0) | (other > 0)).sum((-1, -2))
    ious = 1 - differing.sum((-1, -2)) / union.clamp(min=1)
    largest = float(one.abs().max())
    nearest = float(one[differing].abs().max()) if differing.any() else 0.0
    return (
        f"{int(differing.sum())} of {one.numel()} pixels, least IoU {float(ious.min()):.5f}, their "
        f"logits within {nearest / largest:.0e} of the largest; logits are "
        f"{float((one - other).abs().max()) / largest:.0e} apart"
    )


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="sam2.1/sam2.1_hiera_t")
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=8)
    options = parser.parse_args()
    frames = [*clip(None, options.image_size, options.frames).frames]
    print(f"{options.config}, {options.image_size} pixels; of the scale of the output, at most")
    print(f"{'':<56}" + "".join(f"{name:>14}" for name in COLUMNS))
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as home:
            weights, folder = Path(home) / "model.pt", Path(home) / "onnx"
            sam21convert.sample(weights, options.config, seed=seed)
            size = options.image_size
            sam21convert.export_onnx(
                weights,
                folder,
                variants=("fp32",),
                with_video=True,
                config=options.config,
                image_size=size,
            )
            model, _ = load_onto(
                lambda config: SAM2VideoPredictor(config, TRACKING),
                weights,
                options.config,
                change=with_image_size(size),
                device="cpu",
                dtype=torch.float32,
            )
            compare(seed, model, folder, frames)


@torch.inference_mode()
def compare(seed: int, model: SAM2VideoPredictor, folder: Path, frames: list[Pixels]) -> None:
    """Print how far an export and the model's other ways are from the model."""
    picture = pixels_of(frames[0], model.image_size)
    for graph in (VisionEncoder(model, picture, frames=True), *(kind(model) for kind in GRAPHS)):
        for name, far in apart(graph, folder / "onnx" / f"{graph.file}.onnx").items():
            cells = "".join(f"{one:>14.1e}" for one in far)
            print(f"seed {seed}  {f'{graph.file}: {name}':<48}{cells}", flush=True)
    usual = tracked(model, frames)
    with sdpa_kernel(SDPBackend.MATH):
        steps = tracked(model, frames)
    export = tracked(OnnxVideoPredictor(load(folder), **asdict(TRACKING)), frames)
    print(f"seed {seed}  masks step by step: {flipped(usual, steps)}")
    print(f"seed {seed}  masks of the export: {flipped(usual, export)}", flush=True)


if __name__ == "__main__":
    main()
