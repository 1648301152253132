"""What the commands have in common: how they print, end and show progress."""

from __future__ import annotations

import functools
import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click

from ..errors import MismatchError, Sam21ConvertError, UsageError, printable
from ..report import Progress, Report

json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
config_option = click.option(
    "--config",
    metavar="NAME|FILE",
    help="A shipped config (sam2.1/sam2.1_hiera_t), a YAML file, or a config.json.",
)
weights_option = click.option(
    "--weights",
    metavar="ema|model|KEY",
    help="Which of several state dicts in SOURCE: the averaged one, the other, or the one under "
    "KEY (a.b for b in a).",
)
prefix_option = click.option(
    "--prefix", metavar="P", help="The same, by what stands before its names."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an existing output.")


class RenamedOption(click.Option):
    """An option that still answers to its earlier name, given second, which help does not list."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The line of the help text, with the name of today alone."""
        names = self.opts
        self.opts = names[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = names


def as_options(text: str) -> str:
    """A text of the library, which names Python arguments, with the options of the commands.

    Turns ```image_size=256``` into ``--image-size 256`` and ```overwrite=True``` into
    ``--overwrite``; what no command has an option for stays.
    """
    group = click.get_current_context().find_root().command
    commands = group.commands.values() if isinstance(group, click.Group) else (group,)
    names = dict(_options_of(commands))

    def option(found: re.Match[str]) -> str:
        name, value = names.get(found[1]), found[2]
        if name is None:
            return found[0]
        return name if value in (None, "True") else f"{name} {value or repr('')}"

    return re.sub(r"`(\w+)(?:=([^`\s]*))?`", option, text)


def _options_of(commands: Iterable[click.Command]) -> Iterator[tuple[str, str]]:
    """Arguments of Python, and the options that stand for them, of commands within others too."""
    for command in commands:
        if isinstance(command, click.Group):
            yield from _options_of(command.commands.values())
        for parameter in command.params:
            long = [name for name in parameter.opts if name.startswith("--")]
            if long and parameter.name is not None:
                yield parameter.name, long[0]


def refuse_choice(weights: str | None, prefix: str | None) -> None:
    """Raise :class:`UsageError` where a part of a file is meant, and ``--parity`` runs all."""
    if weights is not None or prefix is not None:
        raise UsageError(
            "--parity runs the whole file, and does not choose from it",
            hint="convert without --parity, which takes the bits as they are, and compare then",
        )


def answering(command: Callable[..., Report]) -> Callable[..., None]:
    """Print the report that ``command`` returns, or its error, and exit with the code of either."""

    @functools.wraps(command)
    def run(*args: Any, as_json: bool = False, **kwargs: Any) -> None:
        try:
            with _stopping():
                if "json" in command.__annotations__:
                    kwargs["json"] = as_json
                report = command(*args, **kwargs)
        except (Sam21ConvertError, OSError, _Stopped) as error:
            _fail(error, as_json)
        click.echo(as_options(report.to_json() if as_json else printable(str(report))))
        sys.exit(report.exit_code)

    return run


class _Stopped(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number  # as a shell reports it
        self.message = "interrupted" if number == signal.SIGINT else "terminated"
        self.hint = None


@contextmanager
def _stopping() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end what is under way as an error does, which cleans up."""

    def stop(number: int, _: object) -> None:
        raise _Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fail(error: Sam21ConvertError | OSError | _Stopped, as_json: bool) -> None:
    """Print an error, on standard output as JSON or on standard error as text, and exit."""
    if not isinstance(error, (Sam21ConvertError, _Stopped)):  # a full disk, a folder without permission: the system's words
        message, hint, code = f"{error.filename or 'output'}: {error.strerror}", None, 3
    else:
        message, hint, code = error.message, error.hint, error.exit_code
    if code != MismatchError.exit_code:
        message = message.replace("\n", "\\n")  # of a name: only differences take lines
    if as_json:
        answer = {"error": message, "hint": hint, "exit_code": code}
        click.echo(as_options(json.dumps(answer, indent=2)))
    else:
        click.echo(as_options(f"error: {printable(message)}"), err=True)
        if hint is not None:
            click.echo(as_options(f"hint: {printable(hint)}"), err=True)
    sys.exit(code)


class ProgressBar(Progress):
    """A bar on standard error, one for each stage, where that is a terminal.

    Use it as a context manager, which ends the last bar.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars = ExitStack()
        self._bar: Any = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the bar that is shown; another may be started."""
        with self._lock:
            self._bars.close()
            self._bar = None

    def start(self, label: str, total: int) -> None:
        """Show a bar in place of the one before."""
        self.close()
        with self._lock:
            self._bar = self._bars.enter_context(
                click.progressbar(
                    length=total,
                    label=label,
                    file=sys.stderr,
                    hidden=not sys.stderr.isatty(),
                    update_min_steps=max(1, total // 200),
                    item_show_func=lambda doing: doing,
                )
            )

    def advance(self, count: int, doing: str = "") -> None:
        """Move the bar, and name the step that begins."""
        with self._lock:
            if self._bar is not None:
                self._bar.update(count, doing or self._bar.current_item)
