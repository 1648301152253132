"""Segment everything in a picture: masks drawn over it, and a file that COCO's tools read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.output.atomic import new_file
from ..packages import require
from .devices import pick_device
from .draw import drawing_of
from .image import FoundMask, ImagePrediction, load_for_use, refuse_outputs, size_of
from .media import read_picture

if TYPE_CHECKING:
    from ..model.config import ModelConfig


def predict_everything(
    image: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | ModelConfig | None = None,
    image_size: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> ImagePrediction:
    """Find the masks of everything in a picture.

    Args:
        image: As for :func:`~sam21convert.predict_image`.
        checkpoint: As for :func:`~sam21convert.predict_image`.
        out: A PNG for the picture with all masks drawn. ``out.coco.json`` beside it holds them as
            annotations of COCO, with area, box, expected IoU and stability.
        settings: Arguments of :class:`~sam21convert.model.SAM2AutomaticMaskGenerator`.
        config: As for :func:`~sam21convert.load_model`.
        image_size: As for :func:`~sam21convert.load_model`.
        device: As for :func:`~sam21convert.predict_image`.
        overwrite: Whether existing outputs may be replaced.

    Returns:
        The masks and what is known about them; ``arrays`` is empty.

    Raises:
        Sam21ConvertError: As :func:`~sam21convert.predict_image` does.
    """
    require("torch", "predict_everything")
    from ..model import run_lengths
    from ..model.automatic_mask_generator import SAM2AutomaticMaskGenerator
    from ..model.sam2 import SAM2

    device = pick_device(device)
    image, drawn = Path(image), Path(out)
    coco = drawn.with_suffix(".coco.json")
    refuse_outputs([drawn, coco], [image, checkpoint], overwrite=overwrite)
    pixels = read_picture(image)
    height, width = pixels.shape[:2]
    model, loading = load_for_use(SAM2, checkpoint, config, image_size, device, images_only=True)
    options = {**(settings or {}), "output_mode": "uncompressed_rle"}
    found = SAM2AutomaticMaskGenerator(model, **options).generate(pixels)
    found.sort(key=lambda one: -one["area"])  # so that small ones are drawn over large ones
    picture = drawing_of(pixels, (run_lengths.decode(one["segmentation"]) for one in found))
    texts = [{**one, "segmentation": run_lengths.as_text(one["segmentation"])} for one in found]
    content = json.dumps(_as_coco(image.name, width, height, texts)).encode()
    with new_file(drawn, overwrite=overwrite) as png, new_file(coco, overwrite=overwrite) as file:
        picture.save(png, format="PNG")
        file.write_bytes(content)
    return ImagePrediction(
        source=image,
        width=width,
        height=height,
        size=size_of(loading),
        model=loading,
        drawing=drawn,
        masks=tuple(
            FoundMask(
                str(n), coco, one["predicted_iou"], one["area"], one["area"] / (width * height)
            )
            for n, one in enumerate(found, 1)
        ),
    )


def _as_coco(
    name: str, width: int, height: int, found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": name, "width": width, "height": height}],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, **one}
            for number, one in enumerate(found, 1)
        ],
    }
