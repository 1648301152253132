"""``sam21convert diff``."""

from __future__ import annotations

from pathlib import Path

import click

from ..report import Report
from .shared import ProgressBar, answering, json_option, overwrite_option


@click.command()
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option(
    "--tolerance",
    type=float,
    metavar="T",
    help="Tensors are the same up to T times their largest magnitude.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="OUT.png",
    help="Draw the change of each layer. Needs: pip install 'sam21convert[plot]'",
)
@overwrite_option
@json_option
@answering
def diff(a: str, b: str, tolerance: float | None, plot: Path | None, overwrite: bool) -> Report:
    """Tell what changed between the checkpoints A and B, tensor by tensor.

    Each may be in any form and is what sam21convert pull takes, or a path. Tensors go by their
    official names, so that a fine-tune in a transformers folder compares with the .pt it came from.

    They are the same (exit code 0) when each tensor has the same bits on both sides or, where the
    types differ, is the other one cast; with --tolerance also when it is near enough. A tensor that
    differs, or that only one side has, makes the answer no (exit code 1). Changes are given in
    units of the tensor's largest magnitude on either side.

    \b
    Examples:
      sam21convert diff sam2.1_hiera_tiny my_finetune.pt
      sam21convert diff model.pt my-model --tolerance 1e-6 --plot change.png
    """
    from ..checkpoint.diff.api import diff as compare
    from ..checkpoint.inspect import inspect

    found = inspect(a), inspect(b)
    with ProgressBar() as progress:
        return compare(
            *(one.path for one in found),
            tolerance=tolerance,
            plot=plot,
            overwrite=overwrite,
            progress=progress,
        )
