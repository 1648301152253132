"""Segment everything in a picture: masks drawn over it, and a file that COCO's tools read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ..io.nearby import expanded
from ..io.output.atomic import new_file
from ..packages import require
from ..report import SILENT, Progress
from .draw import Mask, drawing_of
from .image import FoundMask, ImagePrediction, refuse_outputs
from .media import read_picture
from .predictors import Request, load_for_use, size_of

if TYPE_CHECKING:
    from ..model.config import ModelConfig
    from ..model.run_lengths import RunLengths


class Unpacked(Sequence[Mask]):
    """Masks that are kept as run lengths: those of a large picture would fill the memory.

    Args:
        runs: The masks, as :func:`~sam21convert.model.run_lengths.encode` gives them.
    """

    def __init__(self, runs: Sequence[RunLengths]) -> None:
        self._runs = runs

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, at: int) -> Mask: ...

    @overload
    def __getitem__(self, at: slice) -> Unpacked: ...

    def __getitem__(self, at: int | slice) -> Mask | Unpacked:
        from ..model.run_lengths import decode

        return Unpacked(self._runs[at]) if isinstance(at, slice) else decode(self._runs[at])


def predict_everything(
    image: str | Path,
    checkpoint: str | Path,
    out: str | Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | ModelConfig | None = None,
    image_size: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> ImagePrediction:
    """Find the masks of everything in a picture.

    They are those of :class:`~sam21convert.model.SAM2AutomaticMaskGenerator`, the largest first.

    Args:
        image: As for :func:`~sam21convert.predict_image`.
        checkpoint: As for :func:`~sam21convert.predict_image`.
        out: A PNG for the picture with all masks drawn. ``out.coco.json`` beside it holds them as
            annotations of COCO, with area, box, expected IoU and stability. None writes nothing.
        settings: Arguments of :class:`~sam21convert.model.SAM2AutomaticMaskGenerator`.
        config: As for :func:`~sam21convert.load_model`.
        image_size: As for :func:`~sam21convert.load_model`.
        device: As for :func:`~sam21convert.predict_image`.
        overwrite: Whether existing outputs may be replaced.
        progress: Receives the number of points that were asked, and then of masks that were drawn.

    Returns:
        The masks and what is known about them.

    Raises:
        Sam21ConvertError: As :func:`~sam21convert.predict_image` does.

    Example:
        >>> grid = {"points_per_side": 2, "pred_iou_thresh": 0, "stability_score_thresh": 0}
        >>> found = sam21convert.predict_everything("picture.jpg", "model.pt", settings=grid)
        >>> len(found.details) == len(found.arrays)
        True
    """
    require("torch", "predict_everything")
    from ..model.automatic_mask_generator import SAM2AutomaticMaskGenerator
    from ..model.sam2 import SAM2

    request = Request(checkpoint, "torch", config, image_size, device, None).refuse_impossible()
    image, drawn = expanded(Path(image)), None if out is None else expanded(Path(out))
    coco = None if drawn is None else drawn.with_suffix(".coco.json")
    if drawn is not None and coco is not None:
        refuse_outputs([drawn, coco], [image, checkpoint], overwrite=overwrite)
    pixels = read_picture(image)
    height, width = pixels.shape[:2]
    progress.start("loading", 0)
    model, loading = load_for_use(SAM2, request, images_only=True)
    options = {**(settings or {}), "output_mode": "uncompressed_rle"}
    generator = SAM2AutomaticMaskGenerator(model, **options)
    progress.start("segmenting", generator.count_points(pixels))
    found = generator.generate(pixels, advance=progress.advance)
    for one in found:
        if math.isnan(one["stability_score"]):  # of a mask without a pixel
            one["stability_score"] = None  # JSON has no such number
    found.sort(key=lambda one: -one["area"])  # so that small ones are drawn over large ones
    masks = Unpacked([one["segmentation"] for one in found])
    if drawn is not None and coco is not None:
        progress.start("drawing", len(masks))
        picture = drawing_of(pixels, _watched(masks, progress))
        content = json.dumps(_as_coco(image.name, width, height, found)).encode()
        with (
            new_file(drawn, overwrite=overwrite) as png,
            new_file(coco, overwrite=overwrite) as file,
        ):
            picture.save(png, format="PNG")
            file.write_bytes(content)
    return ImagePrediction(
        source=image,
        width=width,
        height=height,
        size=size_of(loading),
        model=loading,
        drawing=drawn,
        details=tuple(
            _mask(number, one, coco, width * height) for number, one in enumerate(found, 1)
        ),
        arrays=masks,
        draw=partial(drawing_of, pixels, masks),
    )


def _watched(masks: Sequence[Mask], progress: Progress) -> Iterator[Mask]:
    for mask in masks:
        yield mask
        progress.advance(1)


def _mask(number: int, found: Mapping[str, Any], coco: Path | None, pixels: int) -> FoundMask:
    return FoundMask(
        obj_id=str(number),
        path=coco,
        iou=found["predicted_iou"],
        area=found["area"],
        share=found["area"] / pixels,
        bbox=tuple(found["bbox"]),
        stability=found["stability_score"],
    )


def _as_coco(
    name: str, width: int, height: int, found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    from ..model.run_lengths import as_text

    return {
        "images": [{"id": 1, "file_name": name, "width": width, "height": height}],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, **one}
            | {"segmentation": as_text(one["segmentation"])}
            for number, one in enumerate(found, 1)
        ],
    }
