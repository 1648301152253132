"""Write any text into Markdown so that it is shown as it is, as part of what surrounds it.

Names of files and tensors come from untrusted input. Whatever they hold, the README gets no markup,
no HTML, no further cell or line from them, and none of the markers by which a section is found. The
rules are those of CommonMark with the tables of GitHub. Ordinary names stay as readable as before.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from ..report import one_line

# In place of these no renderer sees a tag or the end of a cell. A backslash before "|" would be
# read in two ways: GitHub ends the cell after two backslashes, others do not.
_ENTITIES = {"<": "&lt;", ">": "&gt;", "|": "&#124;", ":": "&#58;", ".": "&#46;"}
_MARKUP = re.compile(
    r"""
      [\\`*\[\]~$<>|]
    | &(?=\#?\w+;)                        # an entity
    | (?<![^\W_])_ | _(?![^\W_])          # within a word it is no markup
    | (?<=\b[Ww]{3})\. | :(?=//)          # addresses become links by themselves
    | \A(?:[-+=#](?=[-+=#\s]|\Z) | \d{1,9}[.)](?=\s|\Z))  # a list or a heading
    | \#(?=\#*\Z)                         # the end of a heading
    """,
    re.VERBOSE,
)
_MARKER = "<!--"  # the begin of our own markers, and of what HTML does not show


def prose(text: str) -> str:
    """Write a text as ordinary words.

    Args:
        text: Any text.

    Returns:
        Markdown in one line, for a paragraph, a list, a heading or a cell of a table; without
        spaces at its ends.
    """

    def escaped(found: re.Match[str]) -> str:
        return _ENTITIES.get(found[0]) or f"{found[0][:-1]}\\{found[0][-1]}"

    return _MARKUP.sub(escaped, one_line(text).strip(" "))


def code(text: str) -> str:
    """Write a text as code, in backticks.

    Args:
        text: Any text.

    Returns:
        Markdown in one line, for a paragraph, a list or a cell of a table. As nothing can be
        escaped in code, ``|`` and ``<`` stand between two pieces of it.
    """
    shown = one_line(text)
    fence = _longer_than_any(shown)
    pieces = re.split(r"([|<])", shown)
    return "".join(_ENTITIES.get(piece) or _span(piece, fence) for piece in pieces if piece)


def _span(text: str, fence: str) -> str:
    # One space on each side belongs to the fence, unless there is nothing but spaces.
    pad = " " if text.strip(" ") and ({text[0], text[-1]} & {"`", " "}) else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _longer_than_any(text: str, shortest: int = 1) -> str:
    """A run of backticks that is longer than any in a text."""
    return "`" * max([shortest, *(len(run) + 1 for run in re.findall("`+", text))])


def link(name: str) -> str:
    """Write the name of a file of the repository as a link to it.

    Args:
        name: Its path in the repository.

    Returns:
        Markdown in one line.
    """
    parts = name.split("/")
    inside = not {"", ".", ".."} & {*parts}  # else a browser would go elsewhere
    target = quote(name, safe="+/" if inside else "+", errors="replace")
    return f"[{code(name)}]({target})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table.

    Args:
        head: The head of each column, in Markdown.
        rows: The cells of each row, in Markdown that the functions above wrote.

    Returns:
        Markdown of one line for each row.
    """
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def block(text: str, language: str = "") -> str:
    """Write a block of code.

    Args:
        text: Its lines. Names in it are written by :func:`shell` or :func:`literal`.
        language: Its name, for colours.

    Returns:
        Markdown of several lines.
    """
    fence = _longer_than_any(text, 3)
    return f"{fence}{language}\n{text.removesuffix(chr(10))}\n{fence}"


def shell(words: Iterable[str]) -> str:
    """Write a command line.

    Args:
        words: The program and its arguments.

    Returns:
        A line for bash, zsh and other shells that know ``$'...'``, which only words with
        unprintable characters need.
    """
    return " ".join(map(_word, words))


def _word(text: str) -> str:
    if text.isprintable() and _MARKER not in text:
        return shlex.quote(text)

    def escaped(char: str) -> str:
        if char in "\\'":
            return f"\\{char}"
        if char.isprintable() and char != _MARKER[0]:
            return char
        undecodable = "\udc80" <= char <= "\udcff"  # stands for a byte of a file name
        raw = char.encode("utf-8", "surrogateescape" if undecodable else "surrogatepass")
        return "".join(f"\\{byte:03o}" for byte in raw)

    return f"$'{''.join(map(escaped, text))}'"


def literal(text: str) -> str:
    """Write a string literal of Python.

    Args:
        text: Any text.

    Returns:
        The literal, in one line.
    """
    if text.isprintable() and not {*text} & {'"', "\\"} and _MARKER not in text:
        return f'"{text}"'
    return repr(text).replace(_MARKER[0], r"\x3c")
