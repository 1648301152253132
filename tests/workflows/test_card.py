"""The card is the same page whatever the names in it are."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from sam21convert.comparison.findings import ScenarioResult
from sam21convert.comparison.report import ParityReport
from sam21convert.dialects import HF_VIDEO
from sam21convert.io.markdown import literal, shell
from sam21convert.report import one_line
from sam21convert.workflows.publish import repository
from sam21convert.workflows.publish.card import Facts, OfficialFiles, section
from sam21convert.workflows.publish.earlier_cards import listed
from sam21convert.workflows.publish.readme import BEGIN, END, markers, merged

from ..support.checkpoints import DEBUG
from ..support.nasty import NASTY

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PLAIN, PLAIN_FILE = "zqx", "qzf"  # names that occur nowhere else in a card
TEXT = {"text", "code_inline"}


@pytest.fixture(scope="module")
def facts(checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The facts of a repository with everything that a card can show."""
    seen: list[Facts] = []

    def watched(facts: Facts) -> str:
        seen.append(facts)
        return section(facts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository, "section", watched)
        folder = tmp_path_factory.mktemp("card") / "new"
        repository.compose(checkpoints(DEBUG), folder, "me/my-sam2", to="official")
    (found,) = seen
    (report,) = found.parity
    other = replace(report, right=replace(report.right, backend="transformers"))
    return replace(found, dialect=HF_VIDEO, parity=[other, report])


@pytest.fixture(scope="module")
def plain(facts: Facts) -> str:
    return section(named(facts, PLAIN))


def file_of(name: str) -> str:
    """The name as that of a file, which cannot hold a slash."""
    return PLAIN_FILE if name == PLAIN else name.replace("/", ":")


def named(facts: Facts, name: str) -> Facts:
    """The same facts with a name in every place that can hold one from outside."""
    file = file_of(name)
    source = Path("/home/me", file)
    official = OfficialFiles(f"{file}.pt", f"{file}.yaml")

    def strange(found: ScenarioResult) -> ScenarioResult:
        return replace(found, input=name, status="not run", why=f"{name} was not found: {source}")

    def reported(report: ParityReport) -> ParityReport:
        of_folder = report.right.backend == "transformers"
        right = facts.folder if of_folder else facts.folder / official.checkpoint
        words = ["sam21convert", "parity", f"truth:{source}", f"{report.right.backend}:{right}"]
        return replace(
            report,
            left=replace(report.left, source=source, version=name),
            right=replace(report.right, source=right),
            device=name,
            scenarios=(*report.scenarios, strange(report.scenarios[0])),
            negative_controls=tuple(
                replace(control, tensor=name, scenario=name) for control in report.negative_controls
            ),
            command=shlex.join([*words, "--config", str(facts.folder / official.config)]),
        )

    return replace(
        facts,
        repo_id=f"me/{file}",
        official=official,
        source=replace(facts.source, path=source, dialect=name),
        written=replace(facts.written, config=name, dtypes={name: 1}),
        read=[replace(each, name=file) for each in facts.read],
        files=[replace(each, name=f"{file}.bin") for each in facts.files],
        parity=[reported(report) for report in facts.parity],
    )


def flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from flat(token.children or [])


def shape(text: str) -> list[str]:
    """The kinds of everything but text and code, which names may divide differently."""
    return [token.type for token in flat(PARSER.parse(text)) if token.type not in TEXT]


def shown(text: str) -> list[str]:
    """What each cell, paragraph and item shows."""
    inlines = (token for token in PARSER.parse(text) if token.type == "inline")
    return ["".join(t.content for t in flat([one]) if t.type in TEXT) for one in inlines]


def fences(text: str) -> list[str]:
    return [token.content for token in PARSER.parse(text) if token.type == "fence"]


def is_plain_but_for(name: str, text: str, plain: str) -> bool:
    """Whether a card is the plain one with a name in place of the plain name."""

    def filled(text: str) -> str:
        text = text.replace(PLAIN_FILE, one_line(file_of(name)))
        return "".join(text.replace(PLAIN, one_line(name)).split())

    found = ["".join(part.split()) for part in shown(text)]
    return shape(text) == shape(plain) and found == [*map(filled, shown(plain))]


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_a_name_changes_nothing_but_what_shows_it(facts: Facts, plain: str, name: str) -> None:
    text = section(named(facts, name))
    assert is_plain_but_for(name, text, plain)
    assert not any(token.type.startswith("html") for token in flat(PARSER.parse(text)))
    assert text.count("\n") == plain.count("\n")
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("function", "unescaped", "names"),
    [
        ("code", "`{}`", ["a|b", "``", "| x | y |", "a\n```\nb", "a\n\n# heading"]),
        ("prose", "{}", ["a|b", "<b>bold</b>", "*a* **b** _c_ __d__ ~~e~~", "a\n\n# heading"]),
    ],
)
def test_a_name_that_is_not_escaped_is_noticed(
    facts: Facts,
    plain: str,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    unescaped: str,
    names: list[str],
) -> None:
    assert set(names) < set(NASTY)
    monkeypatch.setattr(f"sam21convert.workflows.publish.card.{function}", unescaped.format)
    for name in names:
        assert not is_plain_but_for(name, section(named(facts, name)), plain)


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_programs_and_commands_hold_the_name_itself(facts: Facts, plain: str, name: str) -> None:
    *programs, first, second = fences(section(named(facts, name)))
    file = file_of(name)

    def filled(program: str) -> str:
        for begin, end in (("me/", ""), ("", ".yaml"), ("/", ".pt")):
            there = literal(f"{begin}{PLAIN_FILE}{end}")
            program = program.replace(there, literal(f"{begin}{file}{end}"))
        return program

    assert programs == [filled(program) for program in fences(plain)[:-2]]
    for program in programs:
        compile(program, "card", "exec")
    for command, right in ((first, f"transformers:{file}"), (second, f"sam2:{file}/{file}.pt")):
        words = [
            "sam21convert",
            "parity",
            f"truth:{file}",
            right,
            "--config",
            f"{file}/{file}.yaml",
        ]
        assert command == f"{shell(words)}\n"
        line = rf"printf '%s\0' {command}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
        assert done.stdout.decode(errors="surrogateescape").split("\0")[:-1] == words


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_a_name_does_not_end_or_begin_the_section(facts: Facts, name: str) -> None:
    text, _ = merged(b"# Mine\n", "title", section(named(facts, name)), {"license": "mit"})
    assert markers(text.decode()) == [BEGIN, END]
    again, _ = merged(text, "title", "short\n", {"license": "mit"})
    assert again.decode() == (f"---\nlicense: mit\n---\n\n# Mine\n\n{BEGIN}\n\nshort\n\n{END}\n")
    assert listed(text) == {}
