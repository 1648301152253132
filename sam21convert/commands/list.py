"""``sam21convert list``."""

from __future__ import annotations

import click

from ..report import Report
from .shared import answering, json_option


@click.command("list", short_help="Show the published checkpoints, which stand in for a path.")
@json_option
@answering
def list_published() -> Report:
    """Show the published checkpoints: generation, size, hash, and which are in the cache.

    Every command accepts these names in place of a path. A checkpoint in the cache of the Hub is
    read from there. --json adds the path of each and its repository.

    \b
    Example:
      sam21convert list
    """
    from ..hub.listing import published_checkpoints

    return published_checkpoints()
