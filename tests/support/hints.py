"""Hints, read as a user reads them: which commands they name, and where the package writes them."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import click

from sam21convert.commands.main import main
from sam21convert.commands.translate import _options_of

COMMAND = re.compile(rf"sam21convert ({'|'.join(map(re.escape, main.commands))})\b")
_IN_PYTHON = re.compile(
    r"python -[cm] |merge_and_unload|pip install|torch\.(jit|export)\.load|PackageImporter|"
    r"_state_dict\("
)
_WORD = re.compile(r"""'[^']*'(?:"'"'[^']*')*|\S+""")
_OPTIONS = frozenset(name for name, _ in _options_of(main))
_ANY = "(?:.*?)"
_PLACEHOLDER = re.compile(r"[A-Z][A-Z,]*(\.\w+)?")


# Arguments in place of the source.
_LISTED = re.compile(
    r"(?:give one of them: |the newest is |give one of them, as in |did you mean )(.+?)\??$"
)


class Word(NamedTuple):
    """A word of a hint as a shell reads it, and whether a clause ends with it."""

    text: str
    ends: bool


def _words(hint: str) -> list[Word]:
    words = []
    for found in _WORD.finditer(hint):
        text = found[0]
        if text.startswith("'"):
            words.append(Word(shlex.split(text)[0], hint[found.end() : found.end() + 1] > " "))
        else:
            bare = text.lstrip("(").rstrip(").,;:")
            words.append(Word(bare or text, bare != text.lstrip("(")))
    return words


def _command_of(arguments: Sequence[str]) -> tuple[click.Command, int]:
    """The command of a command line, and the number of words that name it."""
    command: click.Command = main
    count = 0
    while isinstance(command, click.Group):
        command = command.commands[arguments[count]]
        count += 1
    return command, count


def _flags_of(command: click.Command) -> dict[str, bool]:
    """Each spelling of each option, and whether it takes no value."""
    return {
        spelling: one.is_flag
        for one in command.params
        if isinstance(one, click.Option)
        for spelling in (*one.opts, *one.secondary_opts)
    }


def _without(arguments: Sequence[str], option: str) -> list[str]:
    """A command line without an option that is given once."""
    command, _ = _command_of(arguments)
    own = next(one for one in command.params if option in (*one.opts, *one.secondary_opts))
    assert isinstance(own, click.Option)
    left = list(arguments)
    while (
        not own.multiple and (at := next((left.index(o) for o in own.opts if o in left), -1)) >= 0
    ):
        del left[at : at + (1 if own.is_flag else 2)]
    return left


def commands_in(hint: str, failed: Sequence[str]) -> Iterator[list[str]]:
    """Read the commands that a hint names; an option alone is given to the command that failed.

    Args:
        hint: The hint as it is printed.
        failed: The arguments of the command that printed it.

    Yields:
        The arguments of each command, with placeholders.

    Raises:
        AssertionError: If the hint names an option that its command does not have.
    """
    words = _words(hint)
    at = 0
    listed = _LISTED.search(hint)
    for one in re.split(" or ", listed[1]) if listed else ():
        yield [failed[0], shlex.split(one)[0], *failed[2:]]
    while at < len(words):
        if words[at].text == "sam21convert" and COMMAND.match(hint[hint.find("sam21convert") :]):
            arguments, at = _whole(words, at + 1)
            yield arguments
        elif re.fullmatch(r"--?[a-z][a-z-]*", words[at].text):
            flags = _flags_of(_command_of(failed)[0])
            before, first = words[at - 1].text if at else "", words[at].text
            assert first in flags, f"{first} is no option of {failed[0]}: {hint}"
            options, at = _options(words, at, flags)
            left = list(failed)
            for option in options:
                left = _without(left, option) if option in flags else left
            yield left if before in ("without", "leave") else [*left, *options]
        else:
            at += 1


def _options(words: Sequence[Word], at: int, flags: Mapping[str, bool]) -> tuple[list[str], int]:
    """Options that stand side by side, and the place after them."""
    found: list[str] = []
    while at < len(words) and words[at].text in flags:
        taken = words[at : at + (1 if flags[words[at].text] else 2)]
        found += [word.text for word in taken]
        at += len(taken)
        if taken[-1].ends:
            break
    return found, at


def _whole(words: Sequence[Word], at: int) -> tuple[list[str], int]:
    """A command with as many arguments as it takes, and the place after it."""
    command, count = _command_of([word.text for word in words[at:]])
    flags = _flags_of(command)
    arguments = [word.text for word in words[at : at + count]]
    left = sum(isinstance(one, click.Argument) for one in command.params)
    at += count
    ended = words[at - 1].ends
    while at < len(words) and not ended and (left or words[at].text in flags):
        if words[at].text in flags:
            options, at = _options(words, at, flags)
            arguments += options
        else:
            arguments.append(words[at].text)
            left, at = left - 1, at + 1
        ended = words[at - 1].ends
    return arguments, at


def filled(arguments: Sequence[str], values: Mapping[str, str], number: int) -> list[str]:
    """Replace the placeholders of a command line.

    Args:
        arguments: The arguments.
        values: What is meant by each placeholder. ``OUT`` and ``OUT.x`` are new paths.
        number: Tells the outputs of several commands apart.

    Returns:
        Arguments to run.

    Raises:
        AssertionError: If the meaning of a placeholder is not given.
    """
    fresh = {f"OUT{end}": f"out-{number}{end}" for end in ("", ".pt", ".png")}
    known = {**fresh, **values}
    result = [known.get(one, one) for one in arguments]
    strange = [one for one in result if _PLACEHOLDER.fullmatch(one)]
    assert not strange, f"what is {strange[0]}?"
    return result


@dataclass(frozen=True)
class Case:
    """A situation whose hint is followed.

    Attributes:
        make: Makes the files in the working directory; returns the arguments of the command.
        values: What is meant by placeholders of the hint.
        exits: The exit codes of the commands that the hint names.
        line: Regular expression of the line that is the hint.
    """

    make: Callable[[], Sequence[str]]
    values: Mapping[str, str] = field(default_factory=dict)
    exits: tuple[int, ...] = (0,)
    line: str = r"hint:? +(.*)"


class Site(NamedTuple):
    """A place in the package that names a command or an option for the user to give."""

    where: str
    text: str
    pattern: re.Pattern[str]


def sites(package: Path) -> Iterator[Site]:
    """Find all texts of the package that name a command or an option, apart from help and errors.

    Args:
        package: The folder of the package.

    Yields:
        Each text in a string literal, and each call of ``call_of``.
    """
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text())
        skipped = set(_skipped(tree))
        for node in ast.walk(tree):
            found = None if node in skipped else _text(node)
            if found is not None:
                yield Site(path.relative_to(package).as_posix(), *found)


def _skipped(tree: ast.AST) -> Iterator[ast.AST]:
    """Documentation, help texts, the messages of errors, and parts of other strings."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            yield body[0].value
        if isinstance(node, ast.JoinedStr):
            yield from node.values
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            for part in node.args[:1] if name.endswith("Error") else ():
                yield from ast.walk(part)
            if name.startswith("click."):
                yield from ast.walk(node)


def _text(node: ast.AST) -> tuple[str, re.Pattern[str]] | None:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "call_of":
        more = [_plain(part) for part in node.args[2:]]
        out = ", OUT" if _plain(node.args[0])[0] == "convert" else ""
        pattern = rf"`{_plain(node.args[0])[1]}\(.+?{out}"
        pattern += "".join(f", {one[1]}" for one in more) + r"\)`"
        return ast.unparse(node), re.compile(pattern)
    if isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        text, pattern = _plain(node)
        named = re.findall(r"`(\w+)(?:=[^`]*)?`", text)
        if (
            COMMAND.search(text)
            or re.search(" --[a-z]", text)
            or not _OPTIONS.isdisjoint(named)
            or _IN_PYTHON.search(text)
        ):
            return text, re.compile(pattern.removeprefix(_ANY).removesuffix(_ANY))
    return None


def _plain(node: ast.AST) -> tuple[str, str]:
    """The text of an expression, and a pattern for what it gives."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = pattern = ""
    for part in parts:
        if isinstance(part, ast.Constant):
            text, pattern = text + str(part.value), pattern + re.escape(str(part.value))
        else:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            text, pattern = text + f"{{{ast.unparse(inner)}}}", pattern + _ANY
    return text, pattern
