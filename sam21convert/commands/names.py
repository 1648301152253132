"""Values and commands as people type them: other spellings, and what may be meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

import click

from ..dialects import EITHER
from ..errors import nearest

_DTYPES = {"fp32": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}
_VIDEOS = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif"}


class Choice(click.Choice[str]):
    """One of several values, whose error names the nearest.

    Args:
        choices: The values.
        also: Other spellings that are accepted, and what is passed on for each.
    """

    def __init__(self, choices: Iterable[str], also: Mapping[str, str] | None = None) -> None:
        super().__init__(choices)
        self._also = dict(also or {})

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Find the value.

        Args:
            value: What was typed.
            param: As for :class:`click.Choice`.
            ctx: As for :class:`click.Choice`.

        Returns:
            One of the values, or of those that other spellings stand for.
        """
        return self._also.get(value) or super().convert(value, param, ctx)

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Make the message for a value that is none of them.

        Args:
            value: What was typed.
            ctx: As for :class:`click.Choice`.

        Returns:
            The message, with those that are spelt alike.
        """
        near = " or ".join(nearest(str(value), [*self.choices, *self._also]))
        message = super().get_invalid_choice_message(value, ctx)
        return f"{message} Did you mean {near}?" if near else message


def dialect_choice(names: Iterable[str]) -> Choice:
    """Make the type of an option that takes a dialect.

    Args:
        names: The names of dialects to choose from.

    Returns:
        The type, which also takes the words for either dialect of transformers.
    """
    return Choice(names, {word: word for word in EITHER})


def dtype_choice() -> Choice:
    """Make the type of an option that takes an element type.

    Returns:
        The type, which also takes the short names.
    """
    return Choice(("float32", "float16", "bfloat16"), _DTYPES)


class Commands(click.Group):
    """A group whose error about a misspelt command names the nearest."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command.

        Args:
            ctx: The context of the group.
            args: The name of the command, and its arguments.

        Returns:
            As for :class:`click.Group`.

        Raises:
            click.UsageError: If there is no such command.
        """
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = " or ".join(nearest(name, self.commands))
            meant = f"Did you mean {near}?" if near else ""
            raise click.UsageError(f"no such command {name!r}. {meant}", ctx)
        return super().resolve_command(ctx, args)


class Predict(Commands):
    """The group of ``predict``: a file in place of a command is told from a misspelt command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command.

        Args:
            ctx: The context of the group.
            args: The name of the command, and its arguments.

        Returns:
            As for :class:`click.Group`.

        Raises:
            click.UsageError: If it is the name of a file.
        """
        path = PurePath(args[0])
        if self.get_command(ctx, args[0]) is None and path.suffix:
            import shlex

            kind = "video" if path.suffix.lower() in _VIDEOS else "image"
            meant = shlex.join(["sam21convert", "predict", kind, *args])
            raise click.UsageError(f"no such command {args[0]!r}. Did you mean: {meant}", ctx)
        return super().resolve_command(ctx, args)
