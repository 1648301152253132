"""``sam21convert validate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from ..progress import ProgressBar
from ..report import SILENT, Progress, Report
from . import completion
from .shared import (
    answering,
    config_option,
    drop_option,
    json_option,
    one_or_all,
    prefix_option,
    refuse_choice,
    weights_option,
)

if TYPE_CHECKING:
    from ..checkpoint.validate import Validation


@click.command(short_help="Check whether a checkpoint loads and its values are sound.")
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    metavar="SOURCE|FOLDER|PATTERN...",
    shell_complete=completion.sources,
)
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
    sources: tuple[str, ...],
    config: str | None,
    right: str | None,
    weights: str | None,
    prefix: str | None,
    drop: tuple[str, ...],
    progress: ProgressBar,
) -> Report:
    """Check whether each SOURCE loads strictly and whether its values are sound.

    SOURCE is a path or any source that sam21convert pull accepts. The answer is no (exit code 1) if
    tensors are missing or unexpected, have a wrong shape or type, or hold values that are not
    finite. Tensors that are zero or constant, or hold denormal numbers, are only mentioned.

    Several sources, a pattern, and a folder or repository of several checkpoints give one line a
    file, or one JSON object a line. Files that are no checkpoints are counted. The exit code is the
    worst.

    \b
    Examples:
      sam21convert validate my_finetune.pt --config sam2.1/sam2.1_hiera_t
      sam21convert validate my_finetune.pt --parity transformers:my-model
      sam21convert validate models/ 'runs/*.pt'
    """
    from ..checkpoint.many import find_all
    from ..checkpoint.validate import validate as validated
    from ..checkpoint.validate_all import validate_listed
    from ..config.load import load_config

    def check(source: str, progress: Progress = SILENT) -> Validation:
        return validated(
            source, config, weights=weights, prefix=prefix, drop=drop, progress=progress
        )

    if right is None:
        if config is not None:
            load_config(config)  # so that a wrong one is told once
        return one_or_all(
            find_all(sources),
            lambda source: check(source, progress),
            lambda listed: validate_listed(listed, check, progress),
        )
    if len(sources) > 1:
        raise UsageError(
            "--parity runs one checkpoint, and here are several", hint="validate one at a time"
        )
    refuse_choice(sources[0], weights, prefix, drop)
    answer = check(sources[0], progress)
    if not answer.ok:
        return answer
    from ..comparison.api import parity
    from ..workflows.convert_and_compare import WithEvidence

    return WithEvidence(answer, parity(sources[0], right, config=config, progress=progress))
