"""From the words of the library to those of the command line.

Messages, hints and reports of the library name Python arguments: ```overwrite=True```; or a call,
where another function may be meant: ```convert(model.pt, OUT, dtype=float32)```. A command prints
the options, if it has them, and else a whole command that has them.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import click

from ..report import one_line

_Given: TypeAlias = tuple[str, str | None]  # a Python argument, and its value if there is one
_VALUE = r"'[^`]*'|[^`\s]*"
_OPTION = rf"`\w+(?:=(?:{_VALUE}))?`"
_CALL = r"`(?P<function>\w+)\((?P<path>'[^`]*?'|[^`\s]*?)(?:, OUT)?(?P<more>(?:, \w+=[^`]*)?)\)`"
_WORDS = re.compile(rf"{_CALL}|{_OPTION}(?: {_OPTION})*")
# What chooses one of several state dicts in a file, for all commands that have these options.
_CHOICE = {"weights", "prefix"}
# What a command was asked for, and another has to be asked for as well.
_KEPT = ("config", "weights", "prefix", "drop", "base", "generation")


def as_options(text: str, *, in_json: bool = False) -> str:
    """Rewrite a text of the library for the command line.

    Turns ```image_size=256``` into ``--image-size 256`` and ```overwrite=True``` into
    ``--overwrite``. What the present command has no option for becomes a whole command,
    ``sam21convert convert SOURCE OUT --dtype float32``, with the source and the choices of the
    present one. Text in backticks that is no option of any command is left as it is.

    Args:
        text: A message, a hint or a report.
        in_json: Whether the text is JSON.

    Returns:
        The text with options.
    """
    if _WORDS.search(text) is None:
        return text  # most answers; for the options of all commands, all have to be imported
    present = _Present(click.get_current_context(), in_json=in_json)
    return _WORDS.sub(present.words, text)


class _Present:
    """The command that runs, and the options of all."""

    def __init__(self, context: click.Context, *, in_json: bool) -> None:
        group = context.find_root().command
        commands = group.commands if isinstance(group, click.Group) else {}
        self.options = {name: dict(_options_of(one)) for name, one in commands.items()}
        self.any = {name: long for own in self.options.values() for name, long in own.items()}
        self.arguments = {name: _arguments_of(one) for name, one in commands.items()}
        # A text that no command prints, as in the documents, has every option.
        alone = context.command is not group
        self.name = context.command.name if alone else None
        self.own = dict(_options_of(context.command)) if alone else self.any
        self.given: Mapping[str, Any] = context.params
        self.in_json = in_json
        # What the command is about; another file that it names is the base, or one of several.
        sources: tuple[str, ...] = self.given.get("sources") or ()
        only = sources[0] if len(sources) == 1 else None
        self.source = self._quoted(self.given.get("checkpoint", self.given.get("source", only)))
        self.base = self._quoted(self.given.get("base"))

    def words(self, found: re.Match[str]) -> str:
        """What is printed in place of options, or of a call of another function."""
        if function := found["function"]:
            if function not in self.options:
                return found[0]
            given = [_split(one) for one in re.split(r", (?=\w+=)", found["more"])[1:]]
            if self.name is None:
                return " ".join([function, *(_written(self.any, one) for one in given)])
            own = self.source is not None and found["path"] != self.base
            own = own and not self._one_of_several(found["path"])
            same = self.name == function or {name for name, _ in given} <= _CHOICE & {*self.own}
            if same and own and given:
                return " ".join(_written(self.own, one) for one in given)
            return self._whole(function, None if own else found["path"], given)
        given = [_split(one.strip("`")) for one in re.findall(_OPTION, found[0])]
        if not all(name in self.any for name, _ in given):
            return found[0]
        foreign = any(name not in self.own for name, _ in given)
        possible = all(name in self.options["convert"] and value for name, value in given)
        if foreign and possible:
            return self._whole("convert", None, given)
        options = {**self.any, **self.own}
        return " ".join(_written(options, one) for one in given)

    def _one_of_several(self, path: str) -> bool:
        """Whether the folder, pattern or list that was given stands for others as well."""
        if self.name == "batch":
            return path != self.source
        folders = [str(one).rstrip("/") for one in self.given.get("sources") or ()]
        plain = path.strip("'")
        return self.name == "safety" and any(plain.startswith(f"{one}/") for one in folders)

    def _whole(self, function: str, path: str | None, given: list[_Given]) -> str:
        """Another command for a path, or for the present source with the choices made for it."""
        options, asked = self.options[function], {name for name, _ in given}
        words = ["sam21convert", function, path or self.source or "FILE"]
        words += ["OUT" for _ in self.arguments[function][1:]]
        for name in _KEPT if path is None or self.name == "batch" else ():
            value = self.given.get(name)
            if value and name in self.own and name in options and name not in asked:
                values = value if isinstance(value, tuple) else (value,)
                words += [f"{options[name]} {self._quoted(one)}" for one in values]
        return " ".join([*words, *(_written(options, one) for one in given)])

    def _quoted(self, given: object) -> str | None:
        """What was typed, as it is printed."""
        if not given:
            return None
        text = shlex.quote(one_line(str(given)))
        return json.dumps(text)[1:-1] if self.in_json else text


def _options_of(command: click.Command) -> Iterator[tuple[str, str]]:
    """Python arguments and their options, also those of nested commands."""
    if isinstance(command, click.Group):
        for nested in command.commands.values():
            yield from _options_of(nested)
    for parameter in command.params:
        long = [name for name in parameter.opts if name.startswith("--")]
        if long and parameter.name is not None:
            yield parameter.name, long[0]


def _arguments_of(command: click.Command) -> list[str]:
    return [one.name or "" for one in command.params if isinstance(one, click.Argument)]


def _split(text: str) -> _Given:
    name, equals, value = text.partition("=")
    return name, value if equals else None


def _written(options: Mapping[str, str], given: _Given) -> str:
    name, value = given
    return options[name] if value in (None, "True") else f"{options[name]} {value or repr('')}"
