"""``sam21convert batch``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..dialects import BY_NAME
from ..progress import ProgressBar
from ..report import Report
from . import completion
from .names import Choice, dialect_choice, dtype_choice
from .shared import answering, config_option, device_option, json_option


@click.command(short_help="Convert many checkpoints into one folder.")
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    metavar="SOURCE|PATTERN|FOLDER|MANIFEST...",
    shell_complete=completion.sources,
)
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The output folder; it is made if it does not exist.",
)
@click.option(
    "--to",
    type=dialect_choice(BY_NAME),
    help="Dialect to write. Default: hf-video, or official with --suffix.",
)
@click.option(
    "--suffix",
    type=Choice([".pt", ".pth", ".safetensors"]),
    help="Extension of the outputs, which chooses the format. Default: that of the dialect.",
)
@config_option
@click.option(
    "--base",
    metavar="CHECKPOINT",
    type=click.Path(),
    shell_complete=completion.sources,
    help="Take missing tensors from this checkpoint, as in convert.",
)
@click.option("--generation", type=Choice(["2.1", "2.0"]), help="Generation to write.")
@click.option("--image-size", type=int, metavar="N", help="Side of the input in pixels.")
@click.option(
    "--dtype",
    type=dtype_choice(),
    help="Cast the tensors. Default: keep their type.",
)
@click.option(
    "--no-verify", is_flag=True, help="Do not read the outputs back to compare checksums."
)
@click.option(
    "--parity",
    is_flag=True,
    help="Keep only outputs that compute what their sources do.",
)
@device_option("to compare on, if that is asked for")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of conversions at a time. Default: the number of cores, at most 4.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be done and write nothing.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace existing outputs, except those that are up to date.",
)
@json_option
@answering
def batch(
    sources: tuple[str, ...],
    out: Path,
    no_verify: bool,
    jobs: int | None,
    progress: ProgressBar,
    **options: Any,
) -> Report:
    """Convert many checkpoints into the folder DIR, each named after its source.

    A folder that is not one checkpoint stands for all those in it and below. A single .yaml, .json
    or .txt file is a manifest. A .txt lists one source per line; a YAML or JSON list holds sources,
    or entries with a source and optionally name, to, config, base, generation, image_size and
    dtype. Paths in it are relative to its folder.

    A failed conversion does not stop the others; the exit code is then 1. DIR/batch.json records
    what each output was made from. Run the command again to convert sources that are new, failed or
    were interrupted. An output whose source or options have changed fails without --overwrite.

    \b
    Examples:
      sam21convert batch 'runs/*/checkpoint_*.pt' --to hf-video --out converted
      sam21convert batch runs/ --to official --out converted
      sam21convert batch sweep.yaml --suffix .safetensors --dtype float16 --out fp16
    """
    if options["parity"]:
        from ..packages import require

        require("torch", "`parity`")
    from ..workflows.batch.api import JOBS
    from ..workflows.batch.api import batch as convert_all

    return convert_all(
        sources, out, verify=not no_verify, jobs=jobs or JOBS, **options, progress=progress
    )
