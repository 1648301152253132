"""``sam21convert validate``."""

from __future__ import annotations

import click

from ..report import Report
from .shared import (
    ProgressBar,
    answering,
    config_option,
    json_option,
    prefix_option,
    refuse_choice,
    weights_option,
)


@click.command()
@click.argument("source", type=click.Path())
@config_option
@weights_option
@prefix_option
@click.option(
    "--parity",
    "right",
    metavar="RIGHT",
    help="Compare it with this one as well, by what both compute: see sam21convert parity.",
)
@json_option
@answering
def validate(
    source: str, config: str | None, right: str | None, weights: str | None, prefix: str | None
) -> Report:
    """Tell whether SOURCE loads strictly, and whether its values are sound.

    SOURCE is a path, or what sam21convert pull takes.
    Missing, unexpected, misshapen and wrongly typed tensors and values that are not finite make the
    answer no (exit code 1). Tensors that are zero or constant throughout, or hold denormal numbers,
    are mentioned.

    \b
    Examples:
      sam21convert validate my_finetune.pt --config sam2.1/sam2.1_hiera_t
      sam21convert validate my_finetune.pt --parity transformers:my-model
    """
    from ..checkpoint.open import open_checkpoint
    from ..checkpoint.validate import examine

    if right is not None:
        refuse_choice(weights, prefix)
    opened = open_checkpoint(source, config, weights=weights, prefix=prefix)
    with ProgressBar() as progress:
        answer = examine(opened, progress)
        if right is None or not answer.ok:
            return answer
        from ..comparison.api import parity
        from ..workflows.convert_and_compare import WithParity

        return WithParity(answer, parity(source, right, config=config, progress=progress))
