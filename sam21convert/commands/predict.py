"""``sam21convert predict``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..io.onnx import VARIANTS
from ..prediction.runtimes import RUNTIMES, Runtime, pick_runtime, require_runtime
from ..progress import ProgressBar
from ..report import Report
from . import completion
from .names import Choice, Predict
from .shared import (
    answering,
    config_option,
    device_option,
    json_option,
    overwrite_option,
)

# Options of --everything, and what the generator calls them.
_GRID = {
    "points_per_side": "points_per_side",
    "iou_threshold": "pred_iou_thresh",
    "stability_threshold": "stability_score_thresh",
    "min_region": "min_mask_region_area",
    "crops": "crop_n_layers",
}
_Command = Callable[..., Any]


def _common(command: _Command) -> _Command:
    """The options of both commands."""
    for option in (
        click.option(
            "--checkpoint",
            required=True,
            metavar="SOURCE",
            type=click.Path(),
            shell_complete=completion.sources,
            help="A checkpoint, as for convert; or a folder that convert --to onnx wrote.",
        ),
        click.option(
            "--runtime",
            type=Choice(RUNTIMES),
            help="What computes. Default: onnx for a folder that convert --to onnx wrote, which "
            "then needs no torch; torch for anything else.",
        ),
        click.option(
            "--variant",
            type=Choice(VARIANTS),
            help="Which graphs of such a folder run. Default: fp32.",
        ),
        config_option,
        click.option(
            "--image-size", type=int, metavar="N", help="Side of the model's input in pixels."
        ),
        device_option("of the model; auto means a GPU if torch finds one"),
        overwrite_option,
        json_option,
    )[::-1]:
        command = option(command)
    return command


@click.group(cls=Predict, short_help="Segment a picture, or follow objects through a video.")
def predict() -> None:
    """Segment a picture, or follow objects through a video.

    \b
    Examples:
      sam21convert predict image truck.jpg --checkpoint tiny.pt --point 500,375 -o truck.png
      sam21convert predict video bedroom.mp4 --checkpoint tiny.pt --point 210,350 -o bedroom
    """


@predict.command(short_help="Segment a picture, from points and boxes or everything in it.")
@click.argument("picture", type=click.Path(path_type=Path))
@click.option(
    "--point",
    "points",
    multiple=True,
    metavar="[OBJECT:]X,Y[,LABEL]",
    help="A point on the object, or outside it with LABEL 0.",
)
@click.option(
    "--box", "boxes", multiple=True, metavar="[OBJECT:]X0,Y0,X1,Y1", help="A box around the object."
)
@click.option(
    "--mask",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A mask to start from: a picture of the same size that is black except on the object.",
)
@click.option(
    "--multimask/--single",
    default=None,
    help="Three candidate masks, or one. Default: three for a single point, which may mean a part "
    "of an object or all of it.",
)
@click.option("--everything", is_flag=True, help="Find all masks, without points or boxes.")
@click.option("--points-per-side", type=click.IntRange(1), metavar="N", help="Default: 32.")
@click.option("--iou-threshold", type=float, metavar="X", help="Least expected IoU. Default: 0.8.")
@click.option("--stability-threshold", type=float, metavar="X", help="Default: 0.95.")
@click.option(
    "--min-region",
    type=click.IntRange(0),
    metavar="N",
    help="Holes and specks up to N are removed.",
)
@click.option(
    "--crops", type=click.IntRange(0), metavar="N", help="Layers of crops to look at. Default: 0."
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PNG",
    help="The drawing to write; masks are written beside it.",
)
@_common
@answering
def image(
    picture: Path,
    points: tuple[str, ...],
    boxes: tuple[str, ...],
    checkpoint: str,
    output: Path,
    everything: bool,
    progress: ProgressBar,
    **options: Any,
) -> Report:
    """Segment objects of PICTURE by points and boxes.

    Coordinates are pixels from the upper left corner of the picture. All points and at most one box
    describe one object; give several objects names, as in --box dog:10,20,90,80. The masks are
    written in black and white beside the drawing OUT.png: as OUT.mask.png, as OUT.mask0.png to
    OUT.mask2.png for three candidates, or as OUT.mask-dog.png and so on for several objects.

    \b
    Examples:
      sam21convert predict image truck.jpg --checkpoint tiny.pt --point 500,375 -o truck.png
      sam21convert predict image truck.jpg --checkpoint tiny.pt --box 425,600,700,875 \\
        --point 575,750,0 -o wheel.png
      sam21convert predict image pets.jpg --checkpoint tiny.pt --point dog:90,300 \\
        --box cat:210,40,380,220 -o pets.png
      sam21convert predict image truck.jpg --checkpoint tiny.pt --everything -o truck.png
      sam21convert predict image truck.jpg --checkpoint my-onnx --point 500,375 -o truck.png
    """
    from ..errors import UsageError

    runtime = _runtime(progress, "predict image", checkpoint, options, everything=everything)
    from ..prediction.image import predict_image
    from ..prediction.prompts import parse_prompts

    given = {_GRID[name]: options.pop(name) for name in _GRID}
    given = {name: value for name, value in given.items() if value is not None}
    if everything:
        if points or boxes or options.pop("mask") or options.pop("multimask") is not None:
            raise UsageError("--everything: takes no point, box, mask or number of masks")
        from ..prediction.everything import predict_everything

        return predict_everything(
            picture, checkpoint, output, settings=given, progress=progress, **options
        )
    if given:
        raise UsageError("--points-per-side and the like need --everything")

    progress.start("segmenting", 0)
    prompts = parse_prompts(points, boxes)
    return predict_image(picture, checkpoint, output, prompts, runtime=runtime, **options)


@predict.command(short_help="Follow objects through a video, from points and boxes.")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--point",
    "points",
    multiple=True,
    metavar="[OBJECT:]X,Y[,LABEL][@FRAME[/ROUND]]",
    help="A point on the object, or outside it with LABEL 0.",
)
@click.option(
    "--box",
    "boxes",
    multiple=True,
    metavar="[OBJECT:]X0,Y0,X1,Y1[@FRAME[/ROUND]]",
    help="A box around the object.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The folder for drawings and masks.",
)
@click.option(
    "--offload",
    is_flag=True,
    help="For long videos: keep frames in a file beside the output, and results in main memory. "
    "The masks are the same.",
)
@_common
@answering
def video(
    source: Path,
    points: tuple[str, ...],
    boxes: tuple[str, ...],
    checkpoint: str,
    output: Path,
    progress: ProgressBar,
    **options: Any,
) -> Report:
    """Follow objects through the video SOURCE, from points and boxes.

    SOURCE is a video file or a folder of <number>.jpg or .png. Coordinates are pixels of the video.
    A prompt applies to frame 0 unless it names another (@12). Give several objects names, as in
    --point dog:90,300. Objects are followed from the first frame with a prompt to the end, then
    from there back to the beginning. A prompt of round 2 (@12/2) corrects what was found then, and
    they are followed again. All frames are kept in memory, 12 MB each for a model of 1024 pixels
    and 3 MB where graphs are run, unless --offload is given.

    The output FOLDER holds frames/00000.jpg ... with everything drawn, masks/OBJECT/00000.png ...
    in black and white, overview.png and, if SOURCE is a file, video.mp4.

    \b
    Examples:
      sam21convert predict video bedroom.mp4 --checkpoint tiny.pt --point 210,350 -o bedroom
      sam21convert predict video frames/ --checkpoint tiny.pt --point boy:210,350 \\
        --point boy:210,200,0@40/2 --box girl:300,0,500,400 -o children
    """
    runtime = _runtime(progress, "predict video", checkpoint, options, videos=True)
    from ..prediction.prompts import parse_prompts
    from ..prediction.video import predict_video

    prompts = parse_prompts(points, boxes)
    return predict_video(
        source, checkpoint, output, prompts, runtime=runtime, progress=progress, **options
    )


def _runtime(
    progress: ProgressBar,
    who: str,
    checkpoint: str,
    options: dict[str, Any],
    *,
    videos: bool = False,
    everything: bool = False,
) -> Runtime:
    """Choose what computes, and miss its packages before anything is imported."""
    from ..prediction.allocation import keep_freed_memory

    asked = options.pop("runtime")
    if everything:
        from ..errors import UsageError

        if asked == "onnx" or options.pop("variant"):
            raise UsageError(
                "--everything: is computed by torch alone, from any checkpoint",
                hint="leave --runtime and --variant out, or give a point or a box",
            )
        asked = "torch"
    chosen = pick_runtime(checkpoint, asked)
    require_runtime(chosen, who, videos=videos)
    if not options.get("offload"):
        keep_freed_memory()
    progress.start(f"importing {'torch' if chosen == 'torch' else 'onnxruntime'}", 0)
    return chosen
