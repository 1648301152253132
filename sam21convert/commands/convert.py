"""``sam21convert convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..dialects import BY_NAME
from ..report import Report
from .shared import (
    ProgressBar,
    answering,
    config_option,
    json_option,
    overwrite_option,
    prefix_option,
    refuse_choice,
    weights_option,
)


@click.command()
@click.argument("source", type=click.Path())
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(list(BY_NAME)),
    help="Dialect to write. Default: official for a file, hf-video for a folder.",
)
@config_option
@click.option(
    "--base",
    metavar="CHECKPOINT",
    type=click.Path(),
    help="Take from here the tensors that SOURCE lacks: it has no place for them (hf-image has no "
    "memory), or a training did not save them. A LoRA adapter is merged into it.",
)
@weights_option
@prefix_option
@click.option(
    "--generation",
    type=click.Choice(["2.1", "2.0"]),
    help="Generation to write. 2.1 from 2.0 adds zeros, which change nothing that is computed; "
    "2.0 from 2.1 is refused unless the same tensors are zero.",
)
@click.option(
    "--allow-lossy",
    is_flag=True,
    help="With --generation 2.0, drop the tensors of SAM 2.1 whatever they hold.",
)
@click.option(
    "--image-size", type=int, metavar="N", help="Side of the input in pixels, for a folder."
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Cast the tensors. Default: leave them as they are.",
)
@click.option(
    "--drop-hq",
    is_flag=True,
    help="Take the SAM 2 out of an HQ-SAM 2: leave out the tensors that HQ adds.",
)
@click.option(
    "--shard-size",
    metavar="SIZE",
    help="Divide the weights of a transformers folder into files of at most this size, as 500MB.",
)
@click.option("--no-verify", is_flag=True, help="Skip the checksums and the reading back.")
@click.option(
    "--parity",
    is_flag=True,
    help="Run source and output on the same inputs before the output gets its name, and leave "
    "none if they do not compute the same: see sam21convert parity.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@overwrite_option
@json_option
@answering
def convert(
    source: str,
    destination: Path,
    overwrite: bool,
    dry_run: bool,
    no_verify: bool,
    parity: bool,
    json: bool,
    **options: Any,
) -> Report:
    """Write SOURCE anew as DESTINATION, bit for bit.

    SOURCE is a path, or elsewhere what sam21convert pull takes.
    The form of DESTINATION picks the container: a name in .pt, .pth or .safetensors is a file, any
    other a folder with its configs, for transformers or with --to timm for timm. With --to
    ultralytics or comfyui, which know a file by its name, a folder that exists gets a file of the
    right name. With --json the report lists where every tensor came from, and the SHA-256 of every
    file.

    \b
    Examples:
      sam21convert convert sam2.1_hiera_tiny.pt my-model/
      sam21convert convert my-model/ back.pt
      sam21convert convert sam2.1_hiera_tiny.pt tiny-fp16.safetensors --dtype float16
      sam21convert convert sam2_hiera_tiny.pt lifted.pt --generation 2.1
      sam21convert convert my_finetune.pt my-model/ --parity
      sam21convert convert sam2.1_hiera_tiny.pt trunk/ --to timm
      sam21convert convert sam2.1_hiera_tiny.pt . --to ultralytics
      sam21convert convert training.ckpt ema.pt --weights ema
      sam21convert convert decoder_only.pt whole.pt --base sam2.1_hiera_tiny.pt
      sam21convert convert my-lora/ merged.pt --base sam2.1_hiera_tiny
    """
    from ..conversion.plan import make_plan
    from ..conversion.report import report
    from ..conversion.write import carry_out

    if parity:
        refuse_choice(options["weights"], options["prefix"])
    plan = make_plan(source, destination, overwrite=overwrite, **options)
    verify = not no_verify
    if dry_run:
        return report(plan, dry_run=True, verified=False, hashes=json)
    with ProgressBar() as progress:
        if not parity:
            carry_out(plan, overwrite=overwrite, verify=verify, progress=progress)
            return report(plan, dry_run=False, verified=verify, hashes=json)
        from ..workflows.convert_and_compare import convert_in_parity

        return convert_in_parity(
            plan, overwrite=overwrite, verify=verify, hashes=json, progress=progress
        )
