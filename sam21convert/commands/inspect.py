"""``sam21convert inspect``."""

from __future__ import annotations

import click

from ..report import Report
from .shared import answering, json_option


@click.command()
@click.argument("source", type=click.Path())
@click.option("--tensors", is_flag=True, help="List every tensor: name, type, shape.")
@json_option
@answering
def inspect(source: str, tensors: bool) -> Report:
    """Say what SOURCE is: container, dialect, generation, size.

    SOURCE is a .pt or .safetensors file, a transformers folder, or what sam21convert pull takes.
    Only its header is read, also in a repository of the Hub (hf://), which is not downloaded. What
    cannot be known from the file is said to be unknown.

    \b
    Example:
      sam21convert inspect sam2.1_hiera_tiny.pt
    """
    from .. import inspection

    return inspection.inspect(source, tensors=tensors)
