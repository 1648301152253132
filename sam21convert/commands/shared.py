"""What the commands share: options, and printing reports and errors, with exit codes."""

from __future__ import annotations

import functools
import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..errors import (
    MismatchError,
    Sam21ConvertError,
    SeveralCheckpointsError,
    UsageError,
    shortage,
)
from ..progress import ProgressBar
from ..report import Report, head, labelled, without_remarks
from . import completion
from .ending import end_with_fault, say
from .names import Choice
from .screen import failure, show, text_of
from .signals import Stopped, Stopping
from .translate import as_options

if TYPE_CHECKING:
    from ..io.several import Listed

json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
config_option = click.option(
    "--config",
    metavar="NAME|FILE",
    shell_complete=completion.configs,
    help="A shipped config (sam2.1/sam2.1_hiera_t), a YAML file, or a config.json.",
)
weights_option = click.option(
    "--weights",
    metavar="ema|model|KEY",
    help="Which of several state dicts in SOURCE to use: the averaged one (ema), the one that is "
    "not averaged (model), or the one under KEY (a.b means b in a).",
)
prefix_option = click.option(
    "--prefix", metavar="P", help="The same, chosen by the prefix of its tensor names."
)
drop_option = click.option(
    "--drop",
    metavar="PATTERN",
    multiple=True,
    help="Leave out tensors that are not part of SAM 2, by name, as in 'cls_head.*'; can be "
    "repeated. What stands within a module of SAM 2 is not left out.",
)
allow_option = click.option(
    "--allow",
    metavar="NAME",
    multiple=True,
    help="A name that a pickle may call, such as a class of your own; can be repeated.",
)
fail_on_option = click.option(
    "--fail-on",
    type=Choice(["unknown", "dangerous"]),
    default="unknown",
    show_default=True,
    help="Answer no for what is not known to be harmless, or only for what is known to do harm.",
)
_quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Print the answer and errors; no progress, notes or warnings.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an existing output.")


def device_option(use: str) -> Callable[[Any], Any]:
    """Make the option ``--device``.

    Args:
        use: What the device is for, as a phrase of its help text.

    Returns:
        The option, for a command.
    """
    return click.option(
        "--device",
        metavar="auto|cpu|cuda|mps",
        default="auto",
        show_default=True,
        help=f"The device {use}; cuda:1 is the second GPU.",
    )


class RenamedOption(click.Option):
    """An option with an earlier name, given second, which works but is not in the help text."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Describe the option in the help text, without its earlier name.

        Args:
            ctx: The context of the command.

        Returns:
            The option's names and its description; None for a hidden option.
        """
        names = self.opts
        self.opts = names[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = names


def refuse_choice(
    source: str, weights: str | None, prefix: str | None, drop: tuple[str, ...]
) -> None:
    """Check that ``--parity`` is not combined with a choice of tensors from a file.

    Args:
        source: The file.
        weights: The value of ``--weights``.
        prefix: The value of ``--prefix``.
        drop: The values of ``--drop``.

    Raises:
        UsageError: If any is given.
    """
    given = (("weights", weights), ("prefix", prefix), *(("drop", one) for one in drop))
    options = [word for name, one in given if one is not None for word in (f"--{name}", one)]
    if options:
        words = ["sam21convert", "convert", source, "OUT.pt", *options]
        raise UsageError(
            "--parity cannot be combined with --weights, --prefix or --drop: it runs the whole "
            "file",
            hint=f"{shlex.join(words)} writes those alone; then use OUT.pt",
        )


def one_or_all(
    listed: Listed, one: Callable[[str], Report], several: Callable[[Listed], Report]
) -> Report:
    """Answer at length about one checkpoint, or in a line about each of several.

    Args:
        listed: What the arguments of the command stand for.
        one: Answers about one. It raises ``SeveralCheckpointsError`` for a repository of several.
        several: Answers about several.

    Returns:
        The answer.
    """
    if len(listed.sources) == 1 and not listed.others:
        try:
            return one(listed.sources[0])
        except SeveralCheckpointsError as error:
            if len(error.sources) < 2:
                raise
            listed = listed._replace(inside={listed.sources[0]: error.sources})
    return several(listed)


def answering(command: Callable[..., Report]) -> Callable[..., None]:
    """Print the report that a command returns, or its error, and exit with its code.

    Args:
        command: A function that returns a report. If it has a parameter ``json``, it is told
            whether the answer is printed as JSON; if it has a parameter ``progress``, that is a
            bar for its phases. Downloads are shown in any case.

    Returns:
        The function for click, with ``as_json`` and ``quiet`` as additional parameters, and the
        option ``--quiet``.
    """

    @functools.wraps(command)
    def run(*args: Any, as_json: bool = False, quiet: bool = False, **kwargs: Any) -> None:
        try:
            os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # before it is imported
            if "json" in command.__annotations__:
                kwargs["json"] = as_json
            with Stopping(), _hushed(quiet), ProgressBar(hidden=quiet) as progress:
                if "progress" in command.__annotations__:
                    kwargs["progress"] = progress
                report = command(*args, **kwargs)
                if as_json:
                    text = as_options(report.to_json(), in_json=True)
                else:
                    shown = report.shown()
                    text = text_of(without_remarks(shown) if quiet else shown, as_options)
        except (Sam21ConvertError, OSError, Stopped) as error:
            failure: BaseException = error
        except (Exception, SystemExit) as error:
            failure = shortage(error) or _absence(error) or error
        else:
            for alert in () if quiet else report.alerts():
                show([labelled("warning", alert)], as_options, err=True)
            say(text)
            sys.exit(report.exit_code)
        _fail(failure, as_json)

    return _quiet_option(run)


@contextmanager
def _hushed(quiet: bool) -> Iterator[None]:
    """Keep the warnings of libraries from standard error as well."""
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        yield


def is_quiet() -> bool:
    """Whether the present command was asked to print its answer and nothing else.

    Returns:
        True with ``--quiet``.
    """
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.params.get("quiet"))


def _absence(error: BaseException) -> UsageError | None:
    """The error for a package that a plain install does not have."""
    from ..packages import explained

    context = click.get_current_context()
    program = context.find_root().command_path
    return explained(error, context.command_path.removeprefix(program).strip())


def _fail(error: BaseException, as_json: bool) -> NoReturn:
    """Print an error as JSON on standard output, or as text on standard error, and exit."""
    if isinstance(error, (Sam21ConvertError, Stopped)):
        message, hint, code = error.message, error.hint, error.exit_code
    elif isinstance(error, OSError):  # a full disk, no permission: the system explains it
        message, hint, code = f"{error.filename or 'output'}: {error.strerror or error}", None, 3
    else:
        end_with_fault(error, as_json=as_json)
    if code != MismatchError.exit_code:  # only reports of differences span lines
        message = message.replace("\n", "\\n")  # a name may contain line breaks
    if as_json:
        answer = {**head("error/1", code), "error": message, "hint": hint}
        say(as_options(json.dumps(answer, indent=2), in_json=True))
    else:
        show(failure(message, hint), as_options, err=True)
    sys.exit(code)
