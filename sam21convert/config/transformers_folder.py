"""The files that a transformers folder holds beside the weights."""

from __future__ import annotations

import json
from contextlib import suppress
from math import isclose
from pathlib import Path
from typing import Any

from ..errors import Sam21ConvertError
from ..io.source import CONFIG
from ..io.text import read_json
from ..model.config import ModelConfig, shown
from .transformers import ModelType, dump, to_json

IMAGES, PAIR, VIDEOS = PROCESSORS = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)


_PREPROCESSING = (  # what decides the numbers that the model is given
    *("do_resize", "do_rescale", "do_normalize", "rescale_factor", "image_mean", "image_std"),
    *("resample", "size"),
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


def other_preprocessing(folder: Path, image_size: int) -> tuple[str, ...]:
    """Find what the processors of a transformers folder do otherwise than those of SAM 2.

    Args:
        folder: the folder. Its files may be missing, or not readable.
        image_size: the side of the input in pixels, as the config of the model has it.

    Returns:
        A text for each such setting: the file, the setting and its value.
    """
    usual = {**_load(IMAGES), "size": {"height": image_size, "width": image_size}}
    found: dict[str, None] = {}
    for name in PROCESSORS:
        content: dict[str, Any] = {}
        with suppress(Sam21ConvertError):
            content = read_json(folder / name) if (folder / name).is_file() else {}
        # transformers 5 has one file for all, in sections.
        sections = (content, content.get("image_processor"), content.get("video_processor"))
        for part in [one for one in sections if isinstance(one, dict)]:
            for field in _PREPROCESSING:
                value = part.get(field)
                if value is not None and not _close(value, usual[field]):
                    # A size is named numbers; of nothing else is the text shown.
                    plain = [*value.values()] if isinstance(value, dict) else value
                    found[f"{field} is {shown(plain)} in {name}"] = None
    return tuple(found)


def _close(value: Any, usual: Any) -> bool:
    """Whether two settings are equal, but for the rounding of numbers."""
    if isinstance(usual, dict):
        return (
            isinstance(value, dict)
            and value.keys() >= usual.keys()
            and all(_close(value[name], usual[name]) for name in usual)
        )
    if isinstance(usual, list):
        pairs = zip(value, usual, strict=False) if isinstance(value, list) else ()
        return (
            isinstance(value, list)
            and len(value) == len(usual)
            and all(_close(*pair) for pair in pairs)
        )
    if isinstance(usual, float) and isinstance(value, (int, float)):
        return isclose(value, usual, rel_tol=1e-6)
    return bool(value == usual)


def _load(name: str) -> dict[str, Any]:
    return dict(json.loads((Path(__file__).parent / name).read_text()))
