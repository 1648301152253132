"""The files that a transformers folder holds beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..io.source import CONFIG
from ..model.config import ModelConfig
from .transformers import ModelType, dump, to_json

IMAGES, PAIR, VIDEOS = PROCESSORS = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)


def side_files(
    config: ModelConfig, kind: ModelType, torch_dtype: str, *, generation: bool
) -> dict[str, str]:
    """Write the config and the processor configs of a transformers folder.

    At an image size of 1024 they equal the published files byte for byte.

    Args:
        config: the config of the model.
        kind: ``sam2_video``, or ``sam2`` for an image model, which has no video processor.
        torch_dtype: the type of the weights, as in ``float32``.
        generation: whether the ``config.json`` of an image model states its generation.

    Returns:
        File name to text.
    """
    image = _load(IMAGES)
    processor = _load(PAIR)
    video = _load(VIDEOS)
    side = config.image_size
    image["size"] = video["size"] = {"height": side, "width": side}
    image["mask_size"] = {"height": side // 4, "width": side // 4}
    processor["target_size"] = side
    if kind == "sam2":
        image["processor_class"] = processor["processor_class"] = "Sam2Processor"
    files = {
        CONFIG: to_json(config, kind, torch_dtype, generation=generation),
        IMAGES: dump(image),
        PAIR: dump(processor),
    }
    if kind == "sam2_video":
        files[VIDEOS] = dump(video)
    return files


def _load(name: str) -> dict[str, Any]:
    return dict(json.loads((Path(__file__).parent / name).read_text()))
