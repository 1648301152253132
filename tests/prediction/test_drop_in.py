"""Code written for the official package runs here with no more than its imports changed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import sam21convert
from sam21convert.prediction.draw import scene

from ..support.videos import BOX, POINT, jpeg_folder

OFFICIAL = {
    "build_sam2": "sam2.build_sam",
    "build_sam2_video_predictor": "sam2.build_sam",
    "SAM2ImagePredictor": "sam2.sam2_image_predictor",
    "SAM2VideoPredictor": "sam2.sam2_video_predictor",
}
CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"


class Names(NamedTuple):
    """What a program imports."""

    build_sam2: Any
    build_sam2_video_predictor: Any
    SAM2ImagePredictor: Any
    SAM2VideoPredictor: Any


def imported(*, officially: bool) -> Names:
    where = {name: OFFICIAL[name] if officially else "sam21convert.model" for name in OFFICIAL}
    return Names(*(getattr(importlib.import_module(where[n]), n) for n in Names._fields))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("drop_in") / "sam2.1_hiera_tiny.pt"
    sam21convert.sample(path)
    return str(path)


def segment(names: Names, checkpoint: str) -> list[Any]:
    """An image as its users segment one: a click, a correction, a box."""
    predictor = names.SAM2ImagePredictor(names.build_sam2(CONFIG, checkpoint, device="cpu"))
    with torch.inference_mode():
        predictor.set_image(Image.fromarray(scene(200)[20:180]))
        masks, scores, logits = predictor.predict(
            point_coords=np.array([[70, 100]]),
            point_labels=np.array([1]),
            multimask_output=True,
        )
        again = predictor.predict(
            point_coords=np.array([[70, 100], [150, 30]]),
            point_labels=np.array([1, 0]),
            mask_input=logits[np.argmax(scores), :, :][None, :, :],
            multimask_output=False,
        )
        boxed = predictor.predict(
            point_coords=None,
            point_labels=None,
            box=np.array([40, 60, 100, 130])[None, :],
            multimask_output=False,
        )
    return [masks, scores, logits, *again, *boxed]


def follow(names: Names, checkpoint: str, folder: str) -> list[Any]:
    """A video as its users follow objects in one."""
    predictor = names.build_sam2_video_predictor(
        CONFIG,
        checkpoint,
        device="cpu",
        hydra_overrides_extra=["++model.image_size=256"],
        apply_postprocessing=False,
    )
    assert isinstance(predictor, names.SAM2VideoPredictor)
    inference_state = predictor.init_state(video_path=folder)
    predictor.reset_state(inference_state)
    _, out_obj_ids, out_mask_logits = predictor.add_new_points_or_box(
        inference_state=inference_state,
        frame_idx=0,
        obj_id=1,
        points=np.array(POINT, dtype=np.float32),
        labels=np.array([1], np.int32),
    )
    found = [list(out_obj_ids), out_mask_logits]
    predictor.add_new_points_or_box(
        inference_state=inference_state, frame_idx=0, obj_id=4, box=np.array(BOX, np.float32)
    )
    segments = {}
    for out_frame_idx, out_obj_ids, out_mask_logits in predictor.propagate_in_video(
        inference_state, max_frame_num_to_track=3
    ):
        segments[out_frame_idx] = {
            out_obj_id: (out_mask_logits[i] > 0.0).cpu().numpy()
            for i, out_obj_id in enumerate(out_obj_ids)
        }
        found.append(out_mask_logits)
    assert list(segments) == [0, 1, 2, 3]
    return found


def same(ours: list[Any], theirs: list[Any]) -> bool:
    return len(ours) == len(theirs) and all(
        type(mine) is type(other) and np.array_equal(mine, other)
        for mine, other in zip(ours, theirs, strict=True)
    )


def test_images(checkpoint: str) -> None:
    ours, theirs = (segment(imported(officially=o), checkpoint) for o in (False, True))
    assert same(ours, theirs)


def test_videos(checkpoint: str, tmp_path: Path) -> None:
    folder = jpeg_folder(tmp_path)
    ours, theirs = (follow(imported(officially=o), checkpoint, folder) for o in (False, True))
    assert same(ours, theirs)
