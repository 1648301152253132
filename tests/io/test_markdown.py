"""Any text stands in Markdown as itself, by a parser of CommonMark with the tables of GitHub."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from itertools import product
from string import punctuation
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from sam21convert.io.markdown import (
    block,
    code,
    link,
    literal,
    prose,
    shell,
    table,
)
from sam21convert.report import one_line
from sam21convert.workflows.publish.readme import BEGIN, END

from ..support.nasty import NASTY

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
SHORT = ["".join(found) for count in (1, 2, 3) for found in product("|`\\<*_[~&a ", repeat=count)]
EACH = [
    text
    for char in punctuation
    for text in (char, f"{char}a", f"a{char}", f"a{char}b", f"{char * 2}a{char * 2}", f"{char} a")
]
TEXTS = [*NASTY, *EACH, *SHORT]


def leaves(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        if token.children:
            yield from leaves(token.children)
        elif token.type != "text" or token.content:
            yield token


def words(inline: Token) -> str:
    """What an inline shows, if that is nothing but text and code."""
    found = [token for token in leaves([inline]) if token.type != "inline"]
    assert {token.type for token in found} <= {"text", "code_inline"}, inline.content
    return "".join(token.content for token in found)


def cells(text: str) -> list[str]:
    """What the cells of the only table show, row by row."""
    tokens = PARSER.parse(text)
    assert [token.type for token in tokens if token.level == 0] == ["table_open", "table_close"]
    return [words(token) for token in tokens if token.type == "inline"]


def test_each_text_is_shown_as_it_is_in_one_cell() -> None:
    rows = [(code(text), prose(text), f"{code(text)} and {prose(text)}") for text in TEXTS]
    pairs = [(one_line(text), one_line(text).strip(" ")) for text in TEXTS]
    expected = [
        cell for all_, ends in pairs for cell in (all_, ends, f"{all_} and {ends}".rstrip())
    ]
    found = cells(table(("a", "b", "c"), rows))
    assert found == ["a", "b", "c", *expected]


def test_a_text_that_is_not_escaped_is_noticed() -> None:
    plain = [text for text in TEXTS if text.strip()]
    escaped = 0
    for text in plain:
        try:
            escaped += cells(f"| a |\n| --- |\n| `{text}` |") == ["a", one_line(text)]
        except (AssertionError, IndexError):
            continue
    assert 0 < escaped < len(plain) - len(NASTY) / 2


@pytest.mark.parametrize("form", ["{} end", "begin {} end", "begin {}", "- {} end", "- {}", "# {}"])
def test_each_text_is_shown_as_it_is_outside_tables(form: str) -> None:
    mark = "- " if form[0] == "-" else "# " if form[0] == "#" else ""
    kinds = [token.type for token in PARSER.parse(form.format("plain"))]
    for text in filter(str.strip, TEXTS):
        for write in (code, prose):
            tokens = PARSER.parse(form.format(write(text)))
            assert [token.type for token in tokens] == kinds, text
            inline = next(token for token in tokens if token.type == "inline")
            shown = one_line(text) if write is code else one_line(text).strip(" ")
            assert words(inline) == form.removeprefix(mark).format(shown)


@pytest.mark.parametrize("write", [code, prose, link, literal])
def test_no_text_holds_a_tag_or_a_marker(write: object) -> None:
    assert callable(write)
    for text in TEXTS:
        assert "<!--" not in write(text)
        assert "\n" not in write(text)
        assert write(text).isprintable()
        assert write is literal or "<" not in write(text)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "sam2.1_hiera_b+.yaml", "a b (c) – ü.pt", "frame1.object1.x_y"]
)
def test_ordinary_names_look_as_before(name: str) -> None:
    assert prose(name) == name
    assert code(name) == f"`{name}`"
    assert literal(name) == f'"{name}"'
    assert block(f"{name}\n", "python") == f"```python\n{name}\n```"


def test_a_link_leads_to_the_file_and_nowhere_else() -> None:
    assert link("sam2.1_hiera_b+.yaml") == "[`sam2.1_hiera_b+.yaml`](sam2.1_hiera_b+.yaml)"
    assert link("onnx/a b.onnx") == "[`onnx/a b.onnx`](onnx/a%20b.onnx)"
    elsewhere = ["javascript:alert", "//host/x", "../up", "a/../../up", "/up", "https://host/"]
    for text in [*NASTY, *EACH, *elsewhere]:
        tokens = [*leaves(PARSER.parse(f"| a |\n| --- |\n| {link(text)} |"))]
        (opened,) = [token for token in tokens if token.type == "link_open"]
        target = str(opened.attrs["href"])
        assert target.isascii()
        assert not set(target) & set(":?#()<>\"' ")
        assert "/" not in target or not {"", ".", ".."} & {*target.split("/")}
        assert unquote(target) == text.encode(errors="replace").decode()
        shown = [t.content for t in tokens if t.type in ("code_inline", "text")]
        assert "".join(shown) == f"a{one_line(text)}"


@pytest.mark.parametrize("text", ["```", "a\n```\n# b\n````\nc", "~~~", "`"])
def test_a_block_ends_where_it_should(text: str) -> None:
    (token,) = PARSER.parse(block(text, "python"))
    assert (token.type, token.info, token.content) == ("fence", "python", f"{text}\n")


def test_a_command_is_one_line_that_a_shell_reads_as_these_words() -> None:
    arguments = [text for text in [*NASTY, *EACH] if "\0" not in text]
    line = shell(["printf", r"%s\0", *arguments])
    assert "\n" not in line
    assert line.isprintable()
    assert BEGIN not in line
    assert END not in line
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    found = done.stdout.split(b"\0")[:-1]
    assert found == [text.encode(errors="surrogateescape") for text in arguments]
    assert shell(["a", "b c", "--d"]) == "a 'b c' --d"


def test_a_literal_is_the_text() -> None:
    for text in TEXTS:
        assert ast.literal_eval(literal(text)) == text
