"""``sam21convert parity``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..progress import ProgressBar
from ..report import Report
from . import completion
from .names import dtype_choice
from .shared import (
    RenamedOption,
    answering,
    config_option,
    device_option,
    json_option,
    overwrite_option,
)


@click.command(short_help="Check whether two checkpoints compute the same.")
@click.argument("left", shell_complete=completion.sides)
@click.argument("right", shell_complete=completion.sides)
@click.option(
    "--scenarios",
    metavar="quick|full|NAME,...",
    help="The tasks to run on both sides. Default: quick, or full with --sensitivity.",
)
@device_option("to run both on; auto means CUDA if it is there, and else the CPU")
@click.option(
    "--dtype",
    type=dtype_choice(),
    default="float32",
    show_default=True,
    help="The type to compute in; bfloat16 and float16 use autocast.",
)
@click.option(
    "--image-size", type=int, metavar="N", help="Side of the input in pixels, for both models."
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Use your own pictures instead of the built-in one.",
)
@click.option(
    "--video",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Use your own video, or a folder of JPEGs, instead of the built-in one.",
)
@config_option
@click.option(
    "--sensitivity",
    "--prove",
    "sensitivity",
    cls=RenamedOption,
    is_flag=True,
    help="Change every tensor in turn and list the changes that are not detected.",
)
@click.option(
    "--gradients",
    is_flag=True,
    help="Compare a step of training instead: the losses, and the gradient of every parameter.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write to this folder: an HTML page, its data as JSON, and tables (.tex, .md, .csv).",
)
@overwrite_option
@json_option
@answering
def parity(left: str, right: str, progress: ProgressBar, **options: Any) -> Report:
    """Check whether LEFT and RIGHT compute the same, and show where they first differ.

    Each is BACKEND:SOURCE. SOURCE is any readable checkpoint. BACKEND is the package that runs the
    model: truth (the model of this package, the default), sam2 (the official code), transformers,
    or timm (the trunk only). Both get the same pixels, and their activations are compared in the
    order of the data flow.

    The tolerance is measured: it is how much the reference differs from itself when it computes the
    same in another way. truth and sam2, in float32 on a CPU, must be exactly equal. Every run also
    changes a tensor on purpose and checks that this is detected.

    \b
    Examples:
      sam21convert parity my_finetune.pt transformers:my-model
      sam21convert parity sam2:model.pt model.safetensors --report evidence
      sam21convert parity model.pt timm:model.pt --scenarios encoder
      sam21convert parity sam2:model.pt model.safetensors --gradients
    """
    from ..packages import require
    from ..prediction.allocation import keep_freed_memory

    require("torch", "parity")
    keep_freed_memory()
    progress.start("importing torch", 0)
    from ..comparison.api import parity as prove_parity

    return prove_parity(left, right, **options, progress=progress)
