"""``sam21convert inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..progress import ProgressBar
from ..report import Report
from . import completion
from .shared import (
    allow_option,
    answering,
    fail_on_option,
    json_option,
    one_or_all,
    prefix_option,
    weights_option,
)

if TYPE_CHECKING:
    from ..io.several import Listed


@click.command(short_help="Show what a file is, and whether it is safe to load.")
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    metavar="SOURCE|FOLDER|PATTERN...",
    shell_complete=completion.sources,
)
@click.option("--tensors", is_flag=True, help="List every tensor: name, type, shape.")
@click.option(
    "--tree", is_flag=True, help="Show the tensors by module; blocks that are alike stand once."
)
@click.option(
    "--stats",
    is_flag=True,
    help="Read all tensors: mean, standard deviation, range, NaN, infinities, zeros, and which "
    "tensors are unusual.",
)
@weights_option
@prefix_option
@allow_option
@fail_on_option
@json_option
@answering
def inspect(sources: tuple[str, ...], json: bool, progress: ProgressBar, **options: Any) -> Report:
    """Show what SOURCE is: format, dialect, generation, size, and whether it is safe to load.

    SOURCE is a .pt or .safetensors file, a folder of transformers or torch.distributed.checkpoint,
    or any source that sam21convert pull accepts. Without --stats only headers are read, and a file
    in a repository of the Hub (hf://) is not downloaded. Facts that the file does not contain are
    shown as unknown.

    Several sources, a pattern, and a folder or repository of several checkpoints give one line a
    file, or one JSON object a line. Files that are no checkpoints are counted. The exit code is the
    worst.

    No code in the file is run. For a pickle, inspect lists every name that
    torch.load(weights_only=False) would import and call, with its position, and exits with 1 if one
    that is called is not known to be harmless. In a folder, it looks through every file that a
    library would load. Files that other commands refuse are looked through too.

    \b
    Examples:
      sam21convert inspect sam2.1_hiera_tiny.pt
      sam21convert inspect sam2.1_hiera_tiny.pt --tree --stats
      sam21convert inspect training.ckpt --weights ema
      sam21convert inspect mine.pt --allow my_project.config.Options
      sam21convert inspect models/ 'runs/*.pt'
    """
    from ..checkpoint.inspect import inspect as report_on
    from ..checkpoint.inspect_all import inspect_listed
    from ..checkpoint.many import find_all

    def inspect_several(listed: Listed) -> Report:
        for name in ("tensors", "tree", "stats"):
            if options[name] and not json:
                raise UsageError(
                    f"`{name}` lists the tensors of one source, and here are several",
                    hint="--json has those of each",
                )
        return inspect_listed(listed, **options, progress=progress)

    return one_or_all(
        find_all(sources),
        lambda source: report_on(source, **options, progress=progress),
        inspect_several,
    )
