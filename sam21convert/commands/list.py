"""``sam21convert list``."""

from __future__ import annotations

import click

from ..report import Report
from .shared import answering, json_option


@click.command("list")
@json_option
@answering
def list_published() -> Report:
    """Show the published checkpoints: generation, size, hash, and which are in the cache.

    Their names are taken wherever a checkpoint is. One in the cache of the Hub is taken from there
    as hf://org/repo/file. With --json also where each lies, and its repository.

    \b
    Example:
      sam21convert list
    """
    from ..hub.pull import published_checkpoints

    return published_checkpoints()
