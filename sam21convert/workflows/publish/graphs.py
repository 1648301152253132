"""The graphs of a repository: an export beside the weights, in the layout of transformers.js.

``config.json`` and ``preprocessor_config.json`` of a folder for transformers are what that library
reads as well, so that only the folders ``onnx`` and ``golden`` come to it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ...checkpoint.open import Checkpoint
from ...errors import UsageError
from ...export.page.folders import read_export
from ...io.onnx import FOLDER, Variant
from ...report import Progress

if TYPE_CHECKING:
    from ...comparison.sides import Config
    from ...export.golden import Apart
    from ...model.sam2 import SAM2

_CONTAINER = "onnx folder"
_WALL = (0.35, 0.62)  # of the house in the drawn scene, as shares of its side


@dataclass(frozen=True)
class Graphs:
    """An export that is published.

    Attributes:
        export: The folder that it was copied from.
        videos: Whether it can follow objects.
        bytes: Sizes of its variants, the graphs for videos not counted, in bytes.
        apart: How far each variant is from the published weights, on the example.
    """

    export: Path
    videos: bool
    bytes: dict[str, int]
    apart: tuple[Apart, ...]


def refuse_without_folder(to: str | None, *, with_onnx: bool) -> None:
    """Check that there is a folder which graphs can be added to.

    Args:
        to: The dialect of the repository.
        with_onnx: Whether there are to be graphs.

    Raises:
        UsageError: If it is that of the official code.
    """
    if with_onnx and to == "official":
        raise UsageError(
            "`with_onnx`: graphs go beside the config.json of a folder for transformers, which "
            "`to=official` does not write",
            hint="leave `to=official` out and add `with_official=True`",
        )


def add_graphs(
    checkpoint: Checkpoint, config: Config, folder: Path, scratch: Path, progress: Progress
) -> Graphs:
    """Export a checkpoint into a repository, unless it is an export itself, which is copied.

    The graphs are measured against the weights in the repository.

    Args:
        checkpoint: The checkpoint.
        config: Its config, as for :func:`~sam21convert.convert`.
        folder: The repository, with the weights for transformers.
        scratch: A folder for the export.
        progress: Told of each graph.

    Returns:
        What a card says of it.

    Raises:
        Sam21ConvertError: As :func:`~sam21convert.export_onnx` does, and if an export cannot be
            read or run.
    """
    import torch

    from ...export.golden import HOME
    from ...export.runtime import load
    from ...model.sam2 import SAM2
    from ...prediction.load import load_onto

    model, loading = load_onto(
        SAM2,
        folder,
        None,
        change=lambda config: config,
        device="cpu",
        dtype=torch.float32,
        images_only=True,
    )
    export = _export(checkpoint, config, scratch, progress, videos=loading.dialect == "hf-video")
    for name in (FOLDER, HOME):
        if (export / name).is_dir():
            shutil.copytree(export / name, folder / name, copy_function=shutil.copyfile)
    progress.start("measuring the graphs", 0)
    sizes = {variant.name: variant.bytes for variant in read_export(export).variants}
    variants: list[Variant] = [one for one in get_args(Variant) if one in sizes]
    videos = load(folder, variant=variants[0]).has_video
    return Graphs(export, videos, sizes, tuple(_measured(model, folder, variants)))


def _measured(model: SAM2, folder: Path, variants: Sequence[Variant]) -> Iterator[Apart]:
    """How far each variant is from the model, on the example."""
    import torch

    from ...export.golden import Golden, encoded, measure
    from ...model.image_predictor import pixels_of
    from ...prediction.draw import scene

    picture = scene(model.image_size)
    pixels = pixels_of(picture, model.image_size)
    with torch.inference_mode():
        golden = Golden.of(model, picture, _WALL, model.encode_image(pixels))
    for one in variants:
        yield measure(golden, folder, one, encoded(pixels.numpy(), folder, one))


def _export(
    checkpoint: Checkpoint, config: Config, scratch: Path, progress: Progress, *, videos: bool
) -> Path:
    source = checkpoint.source.path
    if checkpoint.source.container == _CONTAINER:
        return source
    from ..export_onnx import export_onnx

    export = scratch / "export"
    export_onnx(source, export, config=config, with_video=videos, progress=progress)
    return export
