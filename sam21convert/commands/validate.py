"""``sam21convert validate``."""

from __future__ import annotations

import click

from ..progress import ProgressBar
from ..report import Report
from . import completion
from .shared import (
    answering,
    config_option,
    drop_option,
    json_option,
    prefix_option,
    refuse_choice,
    weights_option,
)


@click.command(short_help="Check whether a checkpoint loads and its values are sound.")
@click.argument("source", type=click.Path(), shell_complete=completion.sources)
@config_option
@weights_option
@prefix_option
@drop_option
@click.option(
    "--parity",
    "right",
    metavar="RIGHT",
    shell_complete=completion.sides,
    help="Also run both models on the same inputs and compare: see sam21convert parity.",
)
@json_option
@answering
def validate(
    source: str,
    config: str | None,
    right: str | None,
    weights: str | None,
    prefix: str | None,
    drop: tuple[str, ...],
    progress: ProgressBar,
) -> Report:
    """Check whether SOURCE loads strictly and whether its values are sound.

    SOURCE is a path or any source that sam21convert pull accepts. The answer is no (exit code 1) if
    tensors are missing or unexpected, have a wrong shape or type, or hold values that are not
    finite. Tensors that are zero or constant, or hold denormal numbers, are only mentioned.

    \b
    Examples:
      sam21convert validate my_finetune.pt --config sam2.1/sam2.1_hiera_t
      sam21convert validate my_finetune.pt --parity transformers:my-model
    """
    from ..checkpoint.open import open_checkpoint
    from ..checkpoint.validate import examine

    if right is not None:
        refuse_choice(source, weights, prefix, drop)
    opened = open_checkpoint(
        source, config, weights=weights, prefix=prefix, drop=drop, with_lora=True
    )
    answer = examine(opened, progress)
    if right is None or not answer.ok:
        return answer
    from ..comparison.api import parity
    from ..workflows.convert_and_compare import WithParity

    return WithParity(answer, parity(source, right, config=config, progress=progress))
