"""Someone was sent a suspicious file: the verdict, what would run, and what to do now."""

from __future__ import annotations

import json
import os
import pickle
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sam21convert
from sam21convert import inspect
from sam21convert.checkpoint.safety.policy import _WORDS, does_harm, in_words
from sam21convert.checkpoint.safety.report import Safety, assess
from sam21convert.io.pickle.load import scan

from ..commands.test_commands import run
from ..support.checkpoints import DEBUG

COMMAND = "echo hello"


class Payload:
    """Something that would run a harmless command if it were loaded; here it never is."""

    def __reduce__(self) -> Any:
        return os.system, (COMMAND,)


@pytest.fixture
def sent(checkpoints: Callable[[str], Path], tmp_path: Path) -> Path:
    """A whole model with something more in it."""
    content = torch.load(checkpoints(DEBUG), weights_only=True)
    torch.save({**content, "notes": Payload()}, tmp_path / "sent to me.pt")
    return tmp_path / "sent to me.pt"


@pytest.mark.parametrize("command", ["safety", "inspect"])
def test_the_verdict_comes_first_and_what_would_run_with_its_argument(
    command: str, sent: Path
) -> None:
    answer = run(command, sent)
    first, second, *_ = answer.stdout.splitlines()
    assert "dangerous" in first
    assert "runs code that can do harm" in first
    assert f'runs a command: {os.name}.system("{COMMAND}")' in second
    assert answer.exit_code == 1


@pytest.mark.parametrize("command", ["safety", "inspect"])
def test_what_to_do_is_a_command_that_gives_a_clean_copy(
    command: str, sent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sent.parent)
    said = run(command, sent.name).stdout
    printed = said.partition("do not load it; ")[2].partition(" writes a clean copy")[0]
    program, *words = shlex.split(printed)
    assert (program, run(*words).exit_code) == ("sam21convert", 0)
    assert run("safety", "OUT").stdout.startswith("harmless ")
    assert inspect("OUT").tensors == inspect(sent.name).tensors - 2  # transformers holds two less


def test_in_a_folder_each_file_that_does_harm_has_its_own_advice(
    sent: Path, checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = sent.parent
    monkeypatch.chdir(home.parent)
    for name in ("good.pt", "another.pt"):
        shutil.copy(checkpoints(DEBUG), home / name)
    assert run("safety", f"{home.name}/good.pt", home.name).exit_code == 1
    (home / "x.pkl").write_bytes(pickle.dumps(Payload()))
    advice = json.loads(run("safety", home.name, "--json").stdout)["advice"]
    assert "x.pkl: do not load it with anything that runs pickles" in advice
    assert "good" not in advice
    (printed,) = re.findall(r"do not load it; sam21convert (.*) writes a clean copy", advice)
    assert run(*shlex.split(printed)).exit_code == 0
    assert run("safety", "OUT").exit_code == 0


def test_without_tensors_no_copy_is_promised(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Payload()))
    said = run("safety", tmp_path / "x.pkl").stdout
    assert "no clean copy can be made" in said
    assert "convert" not in said.replace("does not convert", "")
    refused = run("inspect", tmp_path / "x.pkl")
    assert f'system("{COMMAND}")' in refused.stderr
    assert "ask where it came from" in refused.stderr


def test_programs_are_told_the_same(sent: Path) -> None:
    for command in ("safety", "inspect"):
        answer = json.loads(run(command, sent, "--json").stdout)
        worst = answer["pickle"][0]
        assert (worst["does"], worst["arguments"]) == ("runs a command", [f'("{COMMAND}")'])
        assert "sam21convert convert " in answer["advice"]


def test_a_clean_file_gets_no_advice(checkpoints: Callable[[str], Path]) -> None:
    found = inspect(checkpoints(DEBUG))
    assert found.advice is None
    assert "what to do" not in str(found)
    assert str(found).startswith("file ")


def test_plain_words_for_what_was_not_read(sent: Path) -> None:
    assert f"left out    values that only code can make: {os.name}.system\n" in f"{inspect(sent)}\n"


def call(arguments: bytes, name: bytes = b"os\nsystem") -> bytes:
    return b"c" + name + b"\n(" + arguments + b"tR."


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (b"", "()"),
        (text("a") + b"K\1NI01\nG" + bytes(8), '("a", 1, None, True, ...)'),
        (text('"); os.remove("'), r'("\"); os.remove(\"")'),
        (text("a\nb\x1b[2J\u202e\\"), r'("a\nb\u001b[2J\u202e\\")'),
        (text("`overwrite=True`"), r'("\x60overwrite=True\x60")'),
        (text("x" * 1000), f'("{"x" * 120}"...)'),
        (b"C\3a\xff\n", r"(b'a\xff\n')"),
        (b"](K\1K\2e", "([1, 2])"),
        (b"](" + b"K\1" * 50_000 + b"e", "([1, 1, 1, 1, ...])"),
        (b"]]]]aaa", "([[...]])"),
        (b"}" + text("key") + b"K\1s", '({"key": 1})'),
        (b"cmy\nf\n", "(my.f)"),
        (b"cmy\nf\n)R", "(...)"),  # what another call gives
        (b"\x8a\x20" + b"\x7f" * 32, "(a long number)"),
        (b"V" + b"a" * 70_000 + b"\n", "(long str)"),
    ],
)
def test_arguments_as_the_pickle_gives_them(arguments: bytes, shown: str) -> None:
    found = scan(call(arguments)).references[0]
    assert found.arguments == [shown]


def test_what_is_shown_is_short_however_many_there_are(tmp_path: Path) -> None:
    deep = b"](" * 40 + text("x" * 500) * 40 + b"e" * 40
    data = b"".join(call(deep + text(f"{n}") * 4)[:-1] + b"0" for n in range(500)) + b"N."
    (tmp_path / "x.pkl").write_bytes(data)
    (found,) = assess(tmp_path / "x.pkl").dangerous
    assert (found.calls, len(found.arguments)) == (500, 3)
    assert "and 497 more calls" in str(found)
    assert max(map(len, found.arguments)) < 230
    assert len(str(found)) < 1000


def test_different_calls_are_all_shown_at_first(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(call(text("a"))[:-1] + b"0" + call(text("b")))
    (found,) = assess(tmp_path / "x.pkl").dangerous
    assert str(found).endswith(': runs a command: os.system("a"); os.system("b")')


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("subprocess:Popen", "runs a command"),
        ("__builtin__:eval", "runs Python code"),
        ("importlib:import_module", "imports code"),
        ("torch.hub:load", "downloads code and runs it"),
        ("builtins:open", "opens a file"),
        ("requests:get", "sends or receives data over the network"),
        ("my:f", None),
    ],
)
def test_plain_words(name: str, words: str | None) -> None:
    module, _, attribute = name.partition(":")
    assert in_words(module, attribute) == words


def test_plain_words_are_for_what_does_harm() -> None:
    """A whole module may be named, so a name in it is tried as well."""
    harmless = [
        n for n in _WORDS if not does_harm(*n.rpartition(".")[::2]) and not does_harm(n, "f")
    ]
    assert harmless == []


def test_a_harmless_name_has_no_such_words(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Path("a")))
    found: Safety = assess(tmp_path / "x.pkl")
    assert [(one.rating, one.does) for one in found.names] == [("harmless", None)]


def other_model(path: Path, *extra: object) -> Path:
    """A state dict that is not of SAM 2."""
    torch.save({"fc.weight": torch.ones(2), "notes": [*extra]}, path)
    return path


def of_another_size(path: Path, source: Path, *extra: object) -> Path:
    """A SAM 2 with a tensor too few."""
    content = torch.load(source, weights_only=True)
    content["model"].popitem()
    torch.save({**content, "notes": [*extra]}, path)
    return path


class TestWhatDoesNotFit:
    """An error about a file that was read says what it does to others."""

    def errors(self, path: Path, good: Path) -> dict[str, str]:
        out = path.with_suffix("")
        calls: dict[str, Callable[[], object]] = {
            "convert": lambda: sam21convert.convert(path, out),
            "base": lambda: sam21convert.convert(path, out, base=good),
            "diff": lambda: sam21convert.diff(path, good),
            "load_model": lambda: sam21convert.load_model(path),
            "load_state_dict": lambda: sam21convert.load_state_dict(path),
        }
        said = {}
        for name, call in calls.items():
            try:
                call()
            except sam21convert.Sam21ConvertError as error:
                said[name] = str(error)
        return said

    @pytest.mark.parametrize("kind", ["another model", "a tensor too few"])
    def test_every_error_names_the_harm_once(
        self, kind: str, checkpoints: Callable[[str], Path], tmp_path: Path
    ) -> None:
        good = checkpoints(DEBUG)

        def made(name: str, *extra: object) -> Path:
            if kind == "another model":
                return other_model(tmp_path / name, *extra)
            return of_another_size(tmp_path / name, good, *extra)

        bad = self.errors(made("bad.pt", Payload()), good)
        fine = self.errors(made("fine.pt"), good)
        assert {"convert", "load_model", "load_state_dict"} <= set(bad) == set(fine)
        for name, text in bad.items():
            assert text.count(f'runs a command: {os.name}.system("{COMMAND}")') == 1, name
            assert "ask where it came from" in text, name
            assert "do harm" not in fine[name], name
