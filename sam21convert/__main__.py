"""The command line: ``sam21convert`` or ``python -m sam21convert``."""

from __future__ import annotations

import click

from ._version import __version__
from .commands.batch import batch
from .commands.convert import convert
from .commands.demo import demo
from .commands.diff import diff
from .commands.inspect import inspect
from .commands.list import list_published
from .commands.parity import parity
from .commands.predict import predict
from .commands.pull import pull
from .commands.push import push
from .commands.sample import sample
from .commands.validate import validate

_EPILOG = """\b
Exit codes, the same for every command:
  0  success: the work is done, or the answer is yes
  1  the answer is no: the checkpoint does not load, or the two differ
  2  wrong usage, or the output exists
  3  the input cannot be read, or is refused
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Convert SAM 2 and SAM 2.1 checkpoints between all their formats.

    No code in a checkpoint is ever run: pickles are parsed, not executed.
    """


for command in (
    inspect,
    validate,
    convert,
    diff,
    batch,
    parity,
    predict,
    pull,
    push,
    list_published,
    sample,
    demo,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
