"""YAML that anybody may have written: a bounded tree, and errors that quote nothing of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from sam21convert.errors import RefusedError, Sam21ConvertError, UnreadableError
from sam21convert.io.yaml_text import parse_yaml

PATH = Path("a.yaml")


@pytest.fixture(autouse=True, params=["C", "Python"])
def _either_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of libyaml, and the one to fall back to."""
    if request.param == "Python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)


def doubling(levels: int, first: str, level: str) -> str:
    """Anchors each of which holds the one before ten times."""
    lines = [f"a0: &a0 {first}"]
    for number in range(1, levels):
        inside = ", ".join([f"*a{number - 1}"] * 10)
        lines.append(f"a{number}: &a{number} {level.format(inside)}")
    return "\n".join(lines)


SOUND = {
    "plain": ("a: [1, 2.5, true, null, text]", {"a": [1, 2.5, True, None, "text"]}),
    "an anchor": ("a: &x [1]\nb: [*x, *x]", {"a": [1], "b": [[1], [1]]}),
    "an anchor of a text": ("a: &x 1\nb: *x", {"a": 1, "b": 1}),
    "a merge key": ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
    "nested": ("[" * 50 + "]" * 50, yaml.safe_load("[" * 50 + "]" * 50)),
    "empty": ("", None),
}


@pytest.mark.parametrize("kind", SOUND)
def test_what_is_sound_is_read(kind: str) -> None:
    text, value = SOUND[kind]
    assert parse_yaml(PATH, text) == value


EXCESSIVE = {
    "laughs": doubling(30, "[1]", "[{}]"),
    "laughs in a mapping": doubling(30, "{k: 1}", "{{k: [{}]}}"),
    "merge keys": doubling(30, "{k: 1}", "{{<<: [{}]}}"),
    "just too many": "- 1\n" * 200_001,
    "one list, many times": f"a: &a [{'1, ' * 1000}]\nb: [{'*a, ' * 300}]",
    "a list in itself": "a: &a [*a]",
    "a mapping in itself": "a: &a {b: {c: *a}}",
    "nested too deep": "- " * 200 + "a",
    "a long text": "a: " + "x" * 5000,
    "a long number": "a: " + "1:" * 3000 + "1",
    "a large mapping": "".join(f"{number}: 1\n" for number in range(2000)),
}


@pytest.mark.parametrize("kind", EXCESSIVE)
def test_what_is_too_much_is_refused_before_it_is_built(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("a value was built")

    monkeypatch.setattr(yaml, "load", load)
    with pytest.raises(RefusedError, match=r"^a\.yaml: "):
        parse_yaml(PATH, EXCESSIVE[kind])


def test_many_brackets_take_no_time() -> None:
    """Alone, the parser in Python takes minutes for these."""
    start = time.process_time()
    with pytest.raises(Sam21ConvertError):
        parse_yaml(PATH, "[" * 60_000)
    assert time.process_time() - start < 10


SECRET = "hunter2"
DAMAGED = {
    f"a: *{SECRET}": "found undefined alias",
    f"- &{SECRET} 1\n- &{SECRET} 2": "found duplicate anchor",
    f"a: !{SECRET} x": "could not determine a constructor for the tag",
    f'a: "{SECRET}': "unexpected end of stream",
    f"a: '{SECRET}": "unexpected end of stream",
    f"a: {SECRET}: {SECRET}": "mapping values are not allowed",
    f"- a\n{SECRET}: b": "",
    f"{SECRET}\n- a: b\n- c": "",
    f"machine {SECRET}\n\tlogin: {SECRET}": "",
    f"!<{SECRET} x": "",
    f"a: [{SECRET}, {SECRET}\nb: c": "",
    f'a: "\\{SECRET}"': "unknown escape character",
    f"&{SECRET}'{SECRET}": "",
    f"%TAG ! {SECRET}\n---\na: !x y": "",
    f"a: 2024-99-99 # {SECRET}": "an impossible number or date",
    f"\x07{SECRET}": "not allowed",
}


@pytest.mark.parametrize("text", DAMAGED)
def test_an_error_has_the_place_but_nothing_of_the_text(text: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        parse_yaml(PATH, text)
    message = caught.value.message
    assert message.startswith("a.yaml: not valid YAML: ")
    assert DAMAGED[text] in message
    assert SECRET not in message + str(caught.value.hint)
    if "date" not in message:
        assert "(line " in message or "(character 1)" in message


def test_the_parser_itself_would_quote_it() -> None:
    """The control of the test above."""
    with pytest.raises(yaml.YAMLError, match=SECRET):
        yaml.safe_load(f"a: !{SECRET} x")


def test_nothing_is_run() -> None:
    with pytest.raises(UnreadableError, match="could not determine a constructor"):
        parse_yaml(PATH, "a: !!python/object/apply:os.getcwd []")
