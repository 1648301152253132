"""``sam21convert validate``."""

from __future__ import annotations

from pathlib import Path

import click

from ..report import Report
from .shared import answering, config_option, json_option, progress_bar


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@config_option
@json_option
@answering
def validate(source: Path, config: str | None) -> Report:
    """Tell whether SOURCE loads strictly, and whether its values are sound.

    Missing, unexpected, misshapen and wrongly typed tensors and values that are not finite make the
    answer no (exit code 1). Tensors that are zero or constant throughout are mentioned.

    \b
    Example:
      sam21convert validate my_finetune.pt --config sam2.1/sam2.1_hiera_t
    """
    from .. import validation
    from ..inspection import inspect

    with progress_bar("reading", inspect(source).bytes) as progress:
        return validation.validate(source, config, progress=progress)
