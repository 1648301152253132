"""``sam21convert safety``."""

from __future__ import annotations

from typing import Any

import click

from ..progress import ProgressBar
from ..report import Report
from . import completion
from .shared import allow_option, answering, fail_on_option, json_option


@click.command(short_help="Check what loading files would run, without running it.")
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    metavar="FILE|FOLDER|PATTERN...",
    shell_complete=completion.sources,
)
@allow_option
@fail_on_option
@json_option
@answering
def safety(sources: tuple[str, ...], progress: ProgressBar, **options: Any) -> Report:
    """Check what loading FILE with torch or pickle would run, without running it.

    FILE is of any kind: it need not be a checkpoint, nor SAM 2. In a folder, everything is looked
    through that a library would load. The exit code is 1 if something that is called is not known
    to be harmless, or not all could be looked through; with --fail-on dangerous, only if something
    is known to do harm; 3 if it cannot be read to its end. Several files give a line each, or one
    JSON object a line; the exit code is that of a folder with them: 1 if any is a no, else 3 if any
    cannot be read.

    \b
    Examples:
      sam21convert safety downloaded.pt
      sam21convert safety --fail-on dangerous 'models/**/*.p*'
    """
    from ..checkpoint.safety.verdict import verdicts_on

    return verdicts_on(sources, **options, progress=progress)
