"""``sam21convert selftest``."""

from __future__ import annotations

import click

from ..errors import UsageError
from ..progress import ProgressBar
from ..report import Report
from . import completion
from .shared import answering, json_option


@click.command(short_help="Test this installation against what is published.")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.published)
@click.option(
    "--published",
    is_flag=True,
    help="Compare conversions of published checkpoints with what is published in other forms.",
)
@json_option
@answering
def selftest(names: tuple[str, ...], published: bool, progress: ProgressBar) -> Report:
    """Test this installation against what is published.

    Downloads each NAME, a checkpoint that sam21convert list shows, to the cache, converts it in a
    temporary folder, and compares the SHA-256 with that of the file on the Hub which holds the same
    weights. Without a NAME: the four of SAM 2.1, whose model.safetensors is known to the byte. They
    are 1.6 GB; the temporary folder needs up to 0.9 GB.

    \b
    Examples:
      sam21convert selftest --published
      sam21convert selftest --published sam2.1_hiera_tiny
    """
    if not published:
        raise UsageError(
            "give --published to compare with what is published, which needs the network; without "
            "it, sam21convert demo tests this installation"
        )
    from ..workflows.selftest import selftest as compare

    return compare(names, progress=progress)
