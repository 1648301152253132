"""Small text files of anybody: bounded, regular, and not quoted."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sam21convert import load_config
from sam21convert.config.registry import shipped_config
from sam21convert.errors import RefusedError, UnreadableError
from sam21convert.hub.fetch import fetch
from sam21convert.io.safetensors import read_safetensors, read_sharded
from sam21convert.io.text import TwiceError, parse_json, read_json, read_text, read_up_to, unique

PATH = Path("a.json")
SECRET = "hunter2"


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


SPECIAL: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "empty device": lambda path: path.symlink_to("/dev/null"),
    "socket": bound,
    "folder": lambda path: path.mkdir(),
}
READERS: dict[str, Callable[[Path], object]] = {
    "up to": lambda path: read_up_to(path, 10, "it"),
    "text": read_text,
    "json": read_json,
    "config": load_config,
    "safetensors": read_safetensors,
    "index": read_sharded,
}


@contextmanager
def at_once() -> Iterator[None]:
    start = time.process_time()
    yield
    assert time.process_time() - start < 5


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, reader: str
) -> None:
    if (kind, reader) == ("folder", "config"):
        pytest.skip("a folder may hold a config")
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    for name in ("a.json", "a.yaml") if reader == "config" else ("a",):
        SPECIAL[kind](Path(name))
        with at_once(), pytest.raises(RefusedError, match=rf"^{name}: is not a regular file"):
            READERS[reader](Path(name))


@pytest.mark.parametrize("kind", ["pipe", "socket", "endless device"])
def test_a_config_in_a_folder_does_not_count_as_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    SPECIAL[kind](Path("config.json"))
    with at_once(), pytest.raises(RefusedError, match=r"config\.json: is not a regular file"):
        load_config(Path())
    Path("model.safetensors").write_bytes(b"")
    found, _ = fetch(Path())
    assert found == Path()  # a transformers folder, not the only checkpoint of any folder


@pytest.mark.parametrize(
    "text",
    [
        f'{{"a": "{SECRET}',
        f"{SECRET}",
        f'{{"{SECRET}": 1, "{SECRET}": 2}}',
        f'{{"a": {SECRET}}}',
        f'{{"a": "\x07{SECRET}"}}',
        f'{{"a": "\\u{SECRET}"}}',
        "[" * 10**5,
        "9" * 5000,
    ],
)
def test_an_error_about_json_quotes_nothing_of_it(text: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        parse_json(PATH, text)
    assert caught.value.message.startswith("a.json: not valid JSON: ")
    assert SECRET not in caught.value.message


def test_an_error_about_json_has_the_place() -> None:
    with pytest.raises(UnreadableError, match="line 2 column 3"):
        parse_json(PATH, "[1,\n  x]")


def test_a_name_that_occurs_twice_is_known_to_the_reader_alone() -> None:
    with pytest.raises(TwiceError) as caught:
        json.loads('{"a": 1, "b": 2, "a": 3}', object_pairs_hook=unique)
    assert caught.value.name == "a"
    assert unique([("a", 1), ("b", 2)]) == {"a": 1, "b": 2}


@pytest.mark.parametrize(("size", "allowed"), [(65536, True), (65537, False)])
def test_the_size_is_limited(tmp_path: Path, size: int, allowed: bool) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * size)
    if allowed:
        assert len(read_text(path)) == size
    else:
        with pytest.raises(RefusedError, match="over 64 KiB, too large for a config"):
            read_text(path)


def test_a_wrong_value_in_a_config_is_not_quoted_unless_it_is_a_number(tmp_path: Path) -> None:
    given: list[tuple[Any, str]] = [
        (SECRET, "found a text"),
        ([SECRET], "found a list of 1 values"),
        ({SECRET: 1}, "found named values"),
        (None, "found nothing"),
        (True, "found True"),
        (2.5, "found 2.5"),
        ([3], r"found \[3\]"),
        ([1] * 1000, "found a list of 1000 values"),
    ]
    sound = asdict(shipped_config("debug/sam2.1_debug"))
    for value, says in given:
        (tmp_path / "a.yaml").write_text(json.dumps({**sound, "image_size": value}))
        with pytest.raises(RefusedError, match=rf"image_size: .*{says}$") as caught:
            load_config(tmp_path / "a.yaml")
        assert SECRET not in caught.value.message


def test_names_of_a_file_that_is_no_config_are_not_quoted(tmp_path: Path) -> None:
    for name in ("a.yaml", "a.json"):
        (tmp_path / name).write_text(json.dumps({SECRET: SECRET, "model_type": f"My {SECRET}"}))
        with pytest.raises(RefusedError) as caught:
            load_config(tmp_path / name)
        assert SECRET not in caught.value.message
