"""``sam21convert diff``."""

from __future__ import annotations

from pathlib import Path

import click

from ..progress import ProgressBar
from ..report import Report
from . import completion
from .shared import answering, json_option, overwrite_option


@click.command(short_help="Show what changed between two checkpoints, tensor by tensor.")
@click.argument("a", type=click.Path(), shell_complete=completion.sources)
@click.argument("b", type=click.Path(), shell_complete=completion.sources)
@click.option(
    "--tolerance",
    type=float,
    metavar="T",
    help="Accept differences of up to T times the largest magnitude of a tensor.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="OUT.png|svg|pdf",
    help="Draw the change of each layer. Needs the extra [plot]; without it nothing is compared.",
)
@overwrite_option
@json_option
@answering
def diff(
    a: str,
    b: str,
    tolerance: float | None,
    plot: Path | None,
    overwrite: bool,
    progress: ProgressBar,
) -> Report:
    """Show what changed between the checkpoints A and B, tensor by tensor.

    A and B are paths or sources that sam21convert pull accepts, each in any format. Tensors are
    matched by their official names, so a fine-tune in a transformers folder can be compared with
    the .pt it was trained from.

    The exit code is 0 if every tensor has the same bits in A and B. If the types differ, one must
    equal the other after a cast; with --tolerance, small differences are accepted. It is 1 if a
    tensor differs or is in one of them only. Changes are given relative to the tensor's largest
    magnitude in A or B.

    \b
    Examples:
      sam21convert diff sam2.1_hiera_tiny my_finetune.pt
      sam21convert diff model.pt my-model --tolerance 1e-6 --plot change.png
    """
    if plot is not None:
        from ..packages import require

        require("plot", "`plot`", "leave `plot` out")
    from ..checkpoint.diff.api import diff as compare
    from ..checkpoint.inspect import inspect

    found = inspect(a), inspect(b)
    return compare(
        *(one.path for one in found),
        tolerance=tolerance,
        plot=plot,
        overwrite=overwrite,
        progress=progress,
    )
