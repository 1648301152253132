"""What a shell offers when somebody presses Tab: names that this package knows, and files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def sources(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a checkpoint: a published name, or a path.

    Args:
        ctx: As for :class:`click.Parameter`.
        param: As for :class:`click.Parameter`.
        incomplete: What was typed.

    Returns:
        What it may become.
    """
    return _or_files(incomplete, _published()) if incomplete else _or_files("", ())


def published(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a published checkpoint.

    Args:
        ctx: As for :class:`click.Parameter`.
        param: As for :class:`click.Parameter`.
        incomplete: What was typed.

    Returns:
        What it may become.
    """
    return _that_begin(incomplete, _published())


def configs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a config: a shipped name, or a path.

    Args:
        ctx: As for :class:`click.Parameter`.
        param: As for :class:`click.Parameter`.
        incomplete: What was typed.

    Returns:
        What it may become.
    """
    from ..config.registry import SHIPPED

    return _or_files(incomplete, [shipped.name for shipped in SHIPPED])


def sides(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a side of a comparison: a backend, then a colon and a checkpoint.

    Args:
        ctx: As for :class:`click.Parameter`.
        param: As for :class:`click.Parameter`.
        incomplete: What was typed.

    Returns:
        What it may become.
    """
    from ..packages import BACKENDS

    backends = ("truth", *BACKENDS)
    backend, colon, begun = incomplete.partition(":")
    if not colon or backend not in backends:
        return _or_files(incomplete, [*(f"{name}:" for name in backends), *_published()])
    home = "".join(begun.rpartition("/")[:2])
    paths = [f"{home}{one.name}{'/' * one.is_dir()}" for one in sorted(Path(home).glob("*"))]
    return _that_begin(incomplete, [f"{backend}:{one}" for one in (*_published(), *paths)])


def _published() -> list[str]:
    from ..hub.published import PUBLISHED

    return [known.name for known in PUBLISHED]


def _that_begin(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _or_files(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    """Names, and the files that the shell knows; bash offers those only without a name."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file"), *_that_begin(incomplete, names)]
