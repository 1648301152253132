"""``sam21convert batch``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..dialects import BY_NAME
from ..report import Report
from .shared import ProgressBar, answering, config_option, json_option


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE|PATTERN|MANIFEST...")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder to write to, made if it is not there.",
)
@click.option(
    "--to",
    type=click.Choice(list(BY_NAME)),
    help="Dialect to write. Default: hf-video, or official with --suffix.",
)
@click.option(
    "--suffix",
    type=click.Choice([".pt", ".pth", ".safetensors"]),
    help="Write files of this kind. Default: what is usual for the dialect.",
)
@config_option
@click.option(
    "--base",
    metavar="CHECKPOINT",
    type=click.Path(),
    help="Take from here the tensors that a source has no place for.",
)
@click.option("--generation", type=click.Choice(["2.1", "2.0"]), help="Generation to write.")
@click.option("--image-size", type=int, metavar="N", help="Side of the input in pixels.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Cast the tensors. Default: leave them as they are.",
)
@click.option("--no-verify", is_flag=True, help="Skip the checksums and the reading back.")
@click.option(
    "--parity",
    is_flag=True,
    help="Leave no output that does not compute what its source does.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many to convert at a time. Default: as many as there are cores, 4 at most.",
)
@click.option("--dry-run", is_flag=True, help="Print names and what each is, and write nothing.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace what is there, but for outputs that would come out the same.",
)
@json_option
@answering
def batch(
    sources: tuple[str, ...], out: Path, no_verify: bool, jobs: int | None, **options: Any
) -> Report:
    """Convert many checkpoints into the folder DIR, each named after its source.

    A single file in .yaml, .json or .txt is a manifest: a list of sources, or of entries with a
    source and, for themselves, name, to, config, base, generation, image_size and dtype; or one
    source per line. Its paths are relative to its folder.

    One that fails does not stop the others; the exit code is then 1. DIR/batch.json records what
    was made of what: run it again to convert what is new, failed or was cut off. An output whose
    source or options have changed is a failure without --overwrite.

    \b
    Examples:
      sam21convert batch 'runs/*/checkpoint_*.pt' --to hf-video --out converted
      sam21convert batch sweep.yaml --suffix .safetensors --dtype float16 --out fp16
    """
    from ..workflows.batch.api import JOBS
    from ..workflows.batch.api import batch as convert_all

    with ProgressBar() as progress:
        return convert_all(
            sources, out, verify=not no_verify, jobs=jobs or JOBS, **options, progress=progress
        )
