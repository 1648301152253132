"""``sam21convert sample``."""

from __future__ import annotations

from pathlib import Path

import click

from ..progress import ProgressBar
from ..report import Report
from . import completion
from .shared import answering, json_option, overwrite_option


@click.command(short_help="Write a checkpoint with random weights, to try the others.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--config",
    default="sam2.1/sam2.1_hiera_t",
    show_default=True,
    metavar="NAME|FILE",
    shell_complete=completion.configs,
    help="The model to make weights for; debug/sam2.1_debug is the smallest.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same bytes.")
@overwrite_option
@json_option
@answering
def sample(out: Path, config: str, seed: int, overwrite: bool, progress: ProgressBar) -> Report:
    """Write a checkpoint with random weights, to try the other commands.

    It has all tensors of the real model. The extension of OUT chooses the format, as in convert.

    \b
    Example:
      sam21convert sample tiny.pt
    """
    from ..conversion.sample import sample as draw

    progress.start("drawing", 0)
    return draw(out, config, seed, overwrite=overwrite)
