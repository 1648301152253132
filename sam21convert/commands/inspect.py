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
@click.option(
    "--allow",
    metavar="NAME",
    multiple=True,
    help="A name that a pickle may call, such as a class of your own; can be repeated.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["unknown", "dangerous"]),
    default="unknown",
    show_default=True,
    help="Answer no for what is not known to be harmless, or only for what is known to do harm.",
)
@json_option
@answering
def inspect(source: str, **options: Any) -> Report:
    """Show what SOURCE is: format, dialect, generation, size, and whether it is safe to load.

    SOURCE is a .pt or .safetensors file, a folder of transformers or torch.distributed.checkpoint,
    or any source that sam21convert pull accepts. Only headers are read; a file in a repository of
    the Hub (hf://) is not downloaded. Facts that the file does not contain are shown as unknown.

    No code in the file is run. For a pickle, inspect lists every name that
    torch.load(weights_only=False) would import and call, with its position, and exits with 1 if one
    that is called is not known to be harmless. In a folder, it looks through every file that a
    library would load. Files that other commands refuse are looked through too.

    \b
    Examples:
      sam21convert inspect sam2.1_hiera_tiny.pt
      sam21convert inspect training.ckpt --weights ema
      sam21convert inspect mine.pt --allow my_project.config.Options
    """
    import gc

    from ..checkpoint.inspect import inspect as report_on

    gc.set_threshold(100_000)  # a header makes many objects, and no cycles
    return report_on(source, **options)
