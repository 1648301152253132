"""Example programs for a model card. Each is complete and runs with a picture beside it."""

from __future__ import annotations

from ...io.markdown import literal

PICTURE = "picture.jpg"
FRAMES = "frames"  # a folder of JPEGs
_PUBLISHED_SIZE = 1024


def transformers_image(repo_id: str) -> str:
    """A program that gets three candidate masks for a point from ``Sam2Model``.

    Args:
        repo_id: The repository, ``namespace/name``.

    Returns:
        Python source.
    """
    return f"""\
import torch
from PIL import Image
from transformers import Sam2Model, Sam2Processor

model = Sam2Model.from_pretrained({literal(repo_id)})
processor = Sam2Processor.from_pretrained({literal(repo_id)})
inputs = processor(
    images=Image.open("{PICTURE}").convert("RGB"),
    input_points=[[[[210, 350]]]],  # of each picture, of each object
    input_labels=[[[1]]],  # 1 on the object, 0 off it
    return_tensors="pt",
)
with torch.inference_mode():
    outputs = model(**inputs)
sizes = inputs["original_sizes"]
masks = processor.post_process_masks(outputs.pred_masks, sizes)[0]  # objects x 3 x H x W
scores = outputs.iou_scores[0]  # objects x 3
"""


def transformers_video(repo_id: str) -> str:
    """A program that follows an object through a video with ``Sam2VideoModel``.

    Args:
        repo_id: The repository, ``namespace/name``.

    Returns:
        Python source.
    """
    return f"""\
from pathlib import Path

import torch
from PIL import Image
from transformers import Sam2VideoModel, Sam2VideoProcessor

model = Sam2VideoModel.from_pretrained({literal(repo_id)})
processor = Sam2VideoProcessor.from_pretrained({literal(repo_id)})
paths = sorted(Path("{FRAMES}").glob("*.jpg"))
session = processor.init_video_session(video=[Image.open(path) for path in paths])
processor.add_inputs_to_inference_session(
    session, frame_idx=0, obj_ids=1, input_points=[[[[210, 350]]]], input_labels=[[[1]]]
)
size = [session.video_height, session.video_width]
video = {{}}  # frame -> objects x 1 x H x W
with torch.inference_mode():
    model(session, frame_idx=0)
    for found in model.propagate_in_video_iterator(session):
        video[found.frame_idx] = processor.post_process_masks([found.pred_masks], [size])[0]
"""


def official_image(repo_id: str, checkpoint: str, config: str, image_size: int) -> str:
    """A program that uses the official ``SAM2ImagePredictor`` with the YAML of the repository.

    Args:
        repo_id: The repository, ``namespace/name``.
        checkpoint: The name of the ``.pt`` in it.
        config: The name of the YAML in it.
        image_size: Side of the model's input in pixels. The official predictor assumes 1024, so for
            another size the program sets the sizes of the feature maps.

    Returns:
        Python source.
    """
    grid = image_size // 16
    sizes = ", ".join(f"({side}, {side})" for side in (4 * grid, 2 * grid, grid))
    resized = f"predictor._bb_feat_sizes = [{sizes}]  # of {image_size} pixels, not of 1024\n"
    return f"""\
import numpy as np
import torch
from huggingface_hub import snapshot_download
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

folder = snapshot_download({literal(repo_id)}, allow_patterns=["*.pt", "*.yaml"])
GlobalHydra.instance().clear()
initialize_config_dir(folder, version_base="1.2")
model = build_sam2({literal(config)}, folder + {literal("/" + checkpoint)}, device="cpu")
predictor = SAM2ImagePredictor(model)
{"" if image_size == _PUBLISHED_SIZE else resized}\
with torch.inference_mode():
    predictor.set_image(Image.open("{PICTURE}").convert("RGB"))
    masks, scores, _ = predictor.predict(np.array([[210, 350]]), np.array([1]))  # 3 x H x W
"""


def own_image(repo_id: str) -> str:
    """A program that uses the predictor of this package, which has the official methods.

    Args:
        repo_id: The repository, ``namespace/name``.

    Returns:
        Python source.
    """
    return f"""\
from PIL import Image
from sam21convert.model import SAM2ImagePredictor

predictor = SAM2ImagePredictor.from_pretrained({literal(repo_id)}, device="cpu")
predictor.set_image(Image.open("{PICTURE}").convert("RGB"))
masks, scores, _ = predictor.predict([[210, 350]], [1])  # 3 x H x W
"""
