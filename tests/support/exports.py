"""Exports of small models, and the models that they are exports of."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from packaging.version import Version
from torch.export import ExportedProgram

from sam21convert import export_onnx
from sam21convert.config.registry import shipped_config
from sam21convert.conversion.sample import sample_tensors
from sam21convert.export.options import OLDEST_TORCH
from sam21convert.io.onnx import Variant
from sam21convert.model.config import PIXEL_MEAN, PIXEL_STD, ModelConfig
from sam21convert.model.video_predictor import SAM2VideoPredictor

from . import videos
from .checkpoints import DEBUG, DEBUG_20

# Of any export; the second stands for all its graphs.
FILES = (
    "config.json",
    "onnx/vision_encoder.onnx",
    "onnx/config.json",
    "onnx/model.safetensors",
)
LENGTH = 8  # frames
SIDES = {DEBUG: 128, DEBUG_20: 192}  # of the input, in pixels
VARIANTS: dict[str, tuple[Variant, ...]] = {DEBUG: ("fp32", "fp16", "q8"), DEBUG_20: ("fp32",)}
_MARGIN = 0.01  # of the scores around 0, which rounding must not cross
_SCORES = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"


def shots() -> list[Any]:
    """The first frames of the drawn video."""
    return [videos.frame(number) for number in range(LENGTH)]


def story(predictor: Any, state: Any) -> Iterator[videos.Answer]:
    """Two objects, one by a mask; a third that is absent; corrections; both directions."""
    yield predictor.add_new_points_or_box(state, 0, 1, **videos.clicks(videos.POINT, [1]))
    yield predictor.add_new_mask(state, 0, 2, ~videos.disc_mask())
    yield from predictor.propagate_in_video(state)
    more = videos.clicks([[90.0, 20.0], [60.0, 50.0]], [0, 1])
    yield predictor.add_new_points_or_box(state, 5, 1, **more)
    yield predictor.add_new_points_or_box(state, 5, 2, box=videos.BOX)
    yield predictor.add_new_mask(state, 6, "none", np.zeros((9, 9), bool))
    yield predictor.add_new_points_or_box(state, 5, 1, **more, clear_old_points=False)
    yield from predictor.propagate_in_video(state, start_frame_idx=6, reverse=True)
    yield from predictor.propagate_in_video(state, start_frame_idx=4, max_frame_num_to_track=3)
    yield predictor.clear_all_prompts_in_frame(state, 5, 1)
    ids, updated = predictor.remove_object(state, 2)
    yield from ((number, list(ids), masks) for number, masks in updated)


@dataclass(frozen=True, eq=False)  # so that answers can be kept by it
class Exported:
    """An export with videos, and the ground truth that it is to be equal to."""

    weights: Path
    folder: Path
    model: SAM2VideoPredictor
    report: dict[str, Any]


def exported(name: str, home: Path) -> Exported:
    """Export a model with all graphs, or find the export that another process has made.

    Args:
        name: Name of the config.
        home: A folder that all processes of the tests share.

    Returns:
        The export.
    """
    if Version(torch.__version__) < Version(OLDEST_TORCH):
        pytest.skip(f"torch {torch.__version__} exports no graphs, which {OLDEST_TORCH} does")
    own = home / name.replace("/", "_")
    weights, folder, report = own / "weights.pt", own / "export", own / "report.json"
    own.mkdir(exist_ok=True)
    config = replace(shipped_config(name), image_size=SIDES[name])
    model = SAM2VideoPredictor(config).eval()
    with (own / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not report.exists():
            model.load_state_dict(_weights(config))
            torch.save({"model": model.state_dict()}, weights)
            own_way = ExportedProgram.run_decompositions
            with patch.object(ExportedProgram, "run_decompositions", autospec=True) as spy:
                spy.side_effect = own_way
                done = export_onnx(
                    weights, folder, variants=VARIANTS[name], with_video=True, config=config
                )
            told = {**json.loads(done.to_json()), "taken_apart": spy.call_count}
            report.write_text(json.dumps(told))
    model.load_state_dict(torch.load(weights)["model"])
    return Exported(weights, folder, model, json.loads(report.read_text()))


def describe(folder: Path, side: int) -> Path:
    """Write the two files beside the graphs, and stand-ins for the graphs.

    Args:
        folder: Is made.
        side: Width and height of the model's input in pixels.

    Returns:
        ``folder``.
    """
    (folder / "onnx").mkdir(parents=True)
    config = {"model_type": "sam2", "vision_config": {"num_feature_levels": 3}}
    (folder / "config.json").write_text(json.dumps(config))
    processor = {
        "image_processor_type": "Sam2ImageProcessorFast",
        "processor_class": "Sam2Processor",
        "size": {"height": side, "width": side},
        "image_mean": list(PIXEL_MEAN),
        "image_std": list(PIXEL_STD),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    for name, size in (("vision_encoder", 2000), ("prompt_encoder_mask_decoder", 1000)):
        (folder / "onnx" / f"{name}.onnx").write_bytes(bytes(size))
    return folder


def _weights(config: ModelConfig) -> dict[str, torch.Tensor]:
    """Random values, with object scores so shifted that they change sign within the video."""
    drawn = {name: torch.from_numpy(value) for name, value in sample_tensors(config, 1).items()}
    pilot = SAM2VideoPredictor(config).eval()
    for _ in range(9):  # what is taken for absent changes what follows
        pilot.load_state_dict(drawn)
        state = pilot.init_state(shots())
        list(story(pilot, state))
        seen = [one for found in state.objects.values() for one in found.settled.tracked.values()]
        scores = torch.cat([one.object_score for one in seen]).flatten().sort().values
        middle = scores[len(scores) // 4 : -len(scores) // 4]
        if middle[0] < 0 < middle[-1] and scores.abs().min() > _MARGIN * scores.std():
            return drawn
        widest = int(middle.diff().argmax())
        drawn[_SCORES] = drawn[_SCORES] - middle[widest : widest + 2].mean()
    raise AssertionError("no shift of the object scores makes them change sign")
