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

    Their names are taken wherever a checkpoint is. With --json also where each lies.

    \b
    Example:
      sam21convert list
    """
    from .. import pulling

    return pulling.published_checkpoints()
