"""``sam21convert inspect``."""

from __future__ import annotations

from typing import Any

import click

from ..report import Report
from .shared import answering, json_option, prefix_option, weights_option


@click.command()
@click.argument("source", type=click.Path())
@click.option("--tensors", is_flag=True, help="List every tensor: name, type, shape.")
@weights_option
@prefix_option
@json_option
@answering
def inspect(source: str, **options: Any) -> Report:
    """Say what SOURCE is: container, dialect, generation, size, and whether it is safe to load.

    SOURCE is a .pt or .safetensors file, a folder of transformers or torch.distributed.checkpoint,
    or what sam21convert pull takes.
    Only its header is read, also in a repository of the Hub (hf://), which is not downloaded. What
    cannot be known from the file is said to be unknown.

    Nothing of it is run. Of a pickle it lists what torch.load(weights_only=False) would import and
    call, each name with its place, and exits with 1 if one of them can do harm. A file that is
    refused is looked through as well.

    \b
    Examples:
      sam21convert inspect sam2.1_hiera_tiny.pt
      sam21convert inspect training.ckpt --weights ema
    """
    import gc

    from ..checkpoint.inspect import inspect as report_on

    gc.set_threshold(100_000)  # a header makes many objects, and no cycles
    return report_on(source, **options)
