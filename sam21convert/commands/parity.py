"""``sam21convert parity``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..report import Report
from .shared import (
    ProgressBar,
    RenamedOption,
    answering,
    config_option,
    json_option,
    overwrite_option,
)


@click.command()
@click.argument("left")
@click.argument("right")
@click.option(
    "--scenarios",
    metavar="quick|full|NAME,...",
    help="What to ask both sides. Default: quick, or full with --sensitivity.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to run both.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Type to compute in; other than float32, under autocast.",
)
@click.option(
    "--image-size", type=int, metavar="N", help="Side of the input in pixels, of both models."
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Pictures of yours in place of the drawn one.",
)
@click.option(
    "--video",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="A video of yours, or a folder of JPEGs, in place of the drawn one.",
)
@config_option
@click.option(
    "--sensitivity",
    "--prove",
    "sensitivity",
    cls=RenamedOption,
    is_flag=True,
    help="Change every tensor in turn: which change goes undetected?",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write an HTML page, to look at and pass on, and its JSON.",
)
@overwrite_option
@json_option
@answering
def parity(left: str, right: str, **options: Any) -> Report:
    """Tell whether LEFT and RIGHT compute the same, and if not, where they part.

    Each is BACKEND:SOURCE. The source is any checkpoint that can be read; the backend is the package
    that runs the model: truth (the model of this package, when none is named), sam2 (the official
    code), transformers, or timm (the trunk only). Both get the same pixels, and everything that
    they compute on the way is compared in the order of the data flow.

    How far they may be apart is measured: by how much the reference differs from itself when it
    computes the same by other means. Truth and the official code, in float32 on a CPU, must be
    equal. In every run a tensor is changed on purpose, to see that it is detected.

    \b
    Examples:
      sam21convert parity my_finetune.pt transformers:my-model
      sam21convert parity sam2:model.pt model.safetensors --report evidence
      sam21convert parity model.pt timm:model.pt --scenarios encoder
    """
    from ..comparison.api import parity as prove_parity

    with ProgressBar() as progress:
        return prove_parity(left, right, **options, progress=progress)
