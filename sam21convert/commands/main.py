"""The group of all commands."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from .._version import __version__
from ..errors import printable
from ..report import head
from .ending import end_with_fault, end_without_output, say
from .lazily import Lazily
from .names import Commands
from .screen import failure, show
from .signals import Stopped

_EPILOG = """\b
Exit codes, the same for every command:
  0    success: the work is done, or the answer is yes
  1    the answer is no: the checkpoint does not load, or the two differ
  2    wrong usage, or the output exists, or the folder for it does not
  3    the input cannot be read or is refused, or the output cannot be written
  70   a fault of sam21convert; SAM21CONVERT_TRACEBACK=1 shows where it is
  130  interrupted by Ctrl-C
  141  nobody reads the standard output
  143  terminated by SIGTERM
"""


class Program(Commands):
    """A group that never ends with a traceback, nor with exit code 1 for anything but a no."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments.

        Args:
            ctx: The context of the group.
            args: The arguments; no command line can hold a zero byte.

        Returns:
            What is left for a command.

        Raises:
            click.UsageError: If the arguments are wrong.
        """
        if any("\0" in each for each in args):
            raise click.UsageError("an argument cannot hold a zero byte", ctx)
        if "" in args:  # which would be the current folder
            raise click.UsageError("an argument is empty: is a variable of the shell not set?", ctx)
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the arguments of the group, and print its help text if they ask for it.

        Args:
            info_name: As for :class:`click.Group`.
            args: As for :class:`click.Group`.
            parent: As for :class:`click.Group`.
            **extra: As for :class:`click.Group`.

        Returns:
            The context.
        """
        with _printing():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, or print its help text.

        Args:
            ctx: The context of the group.

        Returns:
            Nothing: a command exits.
        """
        with _printing():
            return super().invoke(ctx)

    def main(self, args: Sequence[str] | None = None, *more: Any, **settings: Any) -> NoReturn:
        """Run a command line and exit.

        Args:
            args: The arguments; None for those of the process.
            *more: As for :class:`click.Group`.
            **settings: As for :class:`click.Group`.

        Raises:
            SystemExit: Always.
        """
        settings["standalone_mode"] = False
        given = sys.argv[1:] if args is None else args
        code: Any = 0
        try:
            code = super().main(args, *more, **settings)
        except click.ClickException as error:
            code = error.exit_code
            _show(error, as_json="--json" in given)
        except click.Abort:
            code = Stopped(signal.SIGINT).exit_code
        except Exception as error:
            end_with_fault(error, as_json="--json" in given)
        sys.exit(code)


def _show(error: click.ClickException, *, as_json: bool) -> None:
    """Print what is wrong with a command line, as other errors are printed."""
    if isinstance(error, NoArgsIsHelpError) and not as_json:
        error.show()
        return
    context = getattr(error, "ctx", None)
    hint = None if context is None else f"{context.command_path} --help shows the usage"
    text = printable(error.format_message()).replace("\n", " ").strip().removesuffix(".")
    message = text[:1].lower() + text[1:]
    if not as_json:
        show(failure(message, hint), err=True)
        return
    answer = {**head("error/1", error.exit_code), "error": message, "hint": hint}
    say(json.dumps(answer, indent=2))


@contextmanager
def _printing() -> Iterator[None]:
    """Answer the errors of printing, which click would take for a no; commands answer theirs."""
    try:
        yield
    except OSError as error:
        end_without_output(error)


# Where each command is. Only what is asked for is imported, which for many is most of their time.
_COMMANDS = {
    "inspect": "inspect.inspect",
    "safety": "safety.safety",
    "validate": "validate.validate",
    "convert": "convert.convert",
    "diff": "diff.diff",
    "batch": "batch.batch",
    "evaluate": "evaluate.evaluate",
    "finetune": "finetune.finetune",
    "parity": "parity.parity",
    "predict": "predict.predict",
    "pull": "pull.pull",
    "push": "push.push",
    "page": "page.page",
    "serve": "serve.serve",
    "list": "list.list_published",
    "sample": "sample.sample",
    "demo": "demo.demo",
    "selftest": "selftest.selftest",
}


@click.group(
    cls=Program,
    commands=Lazily(_COMMANDS),
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "-V", "--version")
def main() -> None:
    """Convert SAM 2 and SAM 2.1 checkpoints between all their formats.

    No code in a checkpoint is ever run: pickles are parsed, not executed.
    """
