"""What the documents show is what the commands print, and every command in them can be parsed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import torch

import sam21convert
from sam21convert.commands.main import main

from .checkpoint.test_inspect_all import Payload
from .commands.test_commands import run
from .support.checkpoints import DEBUG, state_dict
from .support.paths import DOCS, ROOT

TINY = "sam2.1/sam2.1_hiera_t"
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")))
# Scenarios of the one command that takes long; of the others the documents leave the lines out.
FEW = ("--scenarios", "image-pixels,encoder,point")
SHOWN = re.compile(r"^\$ (sam21convert .*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def blocks(document: Path) -> list[str]:
    """Blocks of commands: those that are marked as no language."""
    return re.findall(r"^```\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


def shown(document: Path) -> Iterator[tuple[list[str], str]]:
    """Commands whose output is shown, and that output."""
    for block in blocks(document):
        for command, output in SHOWN.findall(block):
            yield shlex.split(command)[1:], output


SESSIONS = [path for path in DOCUMENTS if [*shown(path)]]


def normal(text: str) -> str:
    """Without what depends on the processor: durations, differences, where the largest is."""
    text = re.sub(r"\d\.\d+e-\d+|(?<= {2})0(?= {2})|byte \d+", "N", text)
    text = re.sub(r"\d+\.\d+ s\b", "N s", text)
    text = re.sub(r"\b(decoder|prompt)\.\w+", "ACTIVATION", text)
    return re.sub(r" +", " ", text)


def agrees(shown: str, said: str) -> bool:
    """Whether this was said; three dots alone in a line stand for any lines."""
    lines = [re.escape(line) + "\n" for line in normal(shown).splitlines()]
    pattern = "".join(r"(?:.*\n)*?" if line == r"\.\.\." + "\n" else line for line in lines)
    return re.fullmatch(pattern, normal(said)) is not None


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of the tiny model, as the documents name them."""
    home = tmp_path_factory.mktemp("tiny")
    torch.save({"model": state_dict(), "options": Payload()}, home / "downloaded.pt")
    sam21convert.sample(home / "model.pt", TINY)
    sam21convert.convert(home / "model.pt", home / "my-model")
    tensors = torch.load(home / "model.pt")["model"]
    for name, tensor in tensors.items():
        if name.startswith("sam_mask_decoder."):
            tensor += 0.01
    torch.save({"model": tensors}, home / "my_finetune.pt")
    return home


@pytest.fixture
def work(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with what the documents find there."""
    monkeypatch.chdir(tmp_path)
    for name in ("models", "runs"):
        Path(name).mkdir()
    for name in ("model.pt", "sam2.1_hiera_tiny.pt", "models/sam2.1_t.pt", "runs/epoch_1.pt"):
        Path(name).hardlink_to(tiny / "model.pt")
    for name in ("downloaded.pt", "my_finetune.pt"):
        Path(name).hardlink_to(tiny / name)
    Path("runs/epoch_2.pt").write_bytes((tiny / "model.pt").read_bytes()[:100_000])
    Path("models/my-model").symlink_to(tiny / "my-model")
    Path("models/README.md").write_text("# Mine\n")
    Path("models/cat.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    return tmp_path


@pytest.fixture(scope="module")
def small(checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small fine-tune, and the conversion of it, to compare them."""
    home = tmp_path_factory.mktemp("small")
    (home / "my_finetune.pt").hardlink_to(checkpoints(DEBUG))
    sam21convert.convert(home / "my_finetune.pt", home / "my-model", config=DEBUG)
    return home


@pytest.fixture(scope="module")
def heard() -> dict[str, str]:
    """What commands have printed that two documents show, and that write nothing there."""
    return {}


@pytest.mark.parametrize("document", SESSIONS, ids=lambda path: path.name)
def test_what_is_shown_is_printed(
    document: Path, work: Path, small: Path, heard: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, output in shown(document):
        line = shlex.join(words)
        if line in heard:
            said = heard[line]
        else:
            few = FEW if words[0] == "parity" else ()
            monkeypatch.chdir(small if few else work)
            said = run(*words, *few).output
        if words[0] in ("parity", "safety", "validate"):
            heard[line] = said
        assert agrees(output or "...\n", said), f"{line}\n{said}"


def test_outputs_are_found() -> None:
    assert {"README.md", "commands.md"} <= {path.name for path in SESSIONS}


def test_a_line_that_is_not_printed_would_be_noticed() -> None:
    said = "tensors  471\ndifference  1.1e-05  in point\nverdict  in parity\n"
    assert agrees("tensors  471\n...\nverdict  in parity\n", said)
    assert agrees(said.replace("1.1e-05", "2.3e-06"), said)
    assert not agrees(said.replace("471", "470"), said)
    assert not agrees("tensors  471\nverdict  in parity\n", said)
    assert not agrees("tensors  471\n", said)


def parse(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """Let click parse a command, without running it.

    Raises:
        click.UsageError: If it does not know an option, or misses an argument.
    """
    context = command.make_context(command.name, list(words), parent)
    if isinstance(command, click.Group):
        _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None
        parse(inner, rest, context)


def commands(document: Path) -> list[list[str]]:
    """All commands of a document, with or without output."""
    text = "".join(blocks(document)).replace("\\\n", " ")
    found = re.findall(r"^(?:\$ )?(?:[\w./]+/)?sam21convert (.*)$", text, re.MULTILINE)
    return [shlex.split(line.partition(" | ")[0], comments=True) for line in found]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_can_be_parsed(document: Path) -> None:
    for words in commands(document):
        try:
            parse(main, words)
        except click.UsageError as error:
            pytest.fail(f"{shlex.join(words)}: {error.format_message()}")


def test_an_option_that_is_gone_would_be_noticed() -> None:
    with pytest.raises(click.UsageError, match="--bsae"):
        parse(main, ["convert", "my-decoder.pt", "whole.pt", "--bsae", "model.pt"])


def test_every_command_is_shown() -> None:
    named = {words[0] for words in commands(DOCS / "commands.md")}
    assert named == {*main.commands} - {"demo"}  # which README runs
