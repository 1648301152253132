"""``sam21convert pull``."""

from __future__ import annotations

from pathlib import Path

import click

from ..progress import ProgressBar
from ..report import Report
from . import completion
from .shared import answering, json_option, overwrite_option


@click.command(short_help="Download a checkpoint, check it, and print its path.")
@click.argument("source", shell_complete=completion.published)
@click.argument("destination", required=False, type=click.Path(path_type=Path))
@overwrite_option
@json_option
@answering
def pull(source: str, destination: Path | None, overwrite: bool, progress: ProgressBar) -> Report:
    """Download SOURCE, check it, and print its path.

    SOURCE is a name that sam21convert list shows, hf://org/repo[@revision][/file], or
    https://... . The download goes to the cache. With DESTINATION it is also copied there: to a
    file, or to a folder if SOURCE is a repository for transformers. An interrupted download
    continues where it stopped. A published checkpoint with a wrong SHA-256 is refused. --json adds
    sizes and hashes.

    \b
    Examples:
      sam21convert pull sam2.1_hiera_tiny
      sam21convert pull sam2.1_hiera_tiny tiny.pt
      sam21convert pull hf://some/fine-tuned-sam2@main my-model
    """
    from ..workflows.pull import pull as download

    return download(source, destination, overwrite=overwrite, progress=progress)
