"""What cannot be read to its end is not called safe, and what is no checkpoint is called that."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import sam21convert

from ..commands.test_commands import run

HARM = b"cos\nsystem\n(S'echo hello'\ntR."
PROGRAM = b"import torch\nd = torch.load('tiny.pt', map_location='cpu')\nclass A:\n    pass\n"
NOISE = bytes(range(255, 0, -1)) * 20


def saved(*, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(9)}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def tensors() -> bytes:
    header = b'{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
    return len(header).to_bytes(8, "little") + header + bytes(4)


WHOLE: dict[str, Callable[[], bytes]] = {
    "x.pt": saved,
    "legacy.pt": lambda: saved(legacy=True),
    "x.pkl": lambda: pickle.dumps([1, "a"], 4),
    "x.safetensors": tensors,
}
# Name -> content of a file that no loader reads to its end.
BROKEN: dict[str, bytes] = {
    "noise.pt": NOISE,
    "noise": NOISE,
    "empty.pt": b"",
}
# Name -> content of another kind of file with the name of a checkpoint, or of a program.
MISNAMED: dict[str, bytes] = {
    "text.pt": b"hello, world\n",
    "picture.pth": b"\x89PNG\r\n\x1a\n" + bytes(90),
    "python.pt": PROGRAM,
    "python.pkl": b'import os\nos.system("ls")\n',
    "perl.bin": b"package A;\nuse strict;\n1;\n",
    "shell.ckpt": b"#!/bin/sh\nuname -a\n",
    "program.pt": b"\x7fELF\2\1\1" + bytes(90),
    "program": b"\x7fELF\2\1\1" + bytes(90),
}
OTHER: dict[str, bytes] = {
    "README.md": b"(Vtext\nabout this model\n",
    "cat.png": b"\x89PNG\r\n\x1a\n" + bytes(90),
    "train.py": PROGRAM,
    "program": PROGRAM,
    "font": b"\0\1\0\0\0\x0f\0\x80\0\3\0\x70GDEF",
    "sound.mp3": b"ID3\4\0\0\0\0\0\0" + NOISE,
    "table.csv.gz": gzip.compress(b"a,b\n1,2\n"),
}


def code_of(path: Path, data: bytes) -> int:
    path.write_bytes(data)
    return sam21convert.safety(path).exit_code


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_is_cut_or_goes_on_is_not_clean(name: str, tmp_path: Path) -> None:
    whole, path = WHOLE[name](), tmp_path / name
    assert code_of(path, whole) == 0
    assert code_of(path, whole[:-1]) == 3
    assert code_of(path, whole[: len(whole) // 2]) == 3
    assert code_of(path, whole + b"x") == 3
    assert not sam21convert.safety(path).safety.clean


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_unreadable(name: str, tmp_path: Path) -> None:
    assert code_of(tmp_path / name, BROKEN[name]) == 3
    said = str(sam21convert.safety(tmp_path / name))
    assert "cannot be read to its end" in said
    assert "harmless" not in said


@pytest.mark.parametrize("name", MISNAMED)
def test_another_kind_of_file_with_the_name_of_a_checkpoint(name: str, tmp_path: Path) -> None:
    assert code_of(tmp_path / name, MISNAMED[name]) == 3
    found = sam21convert.safety(tmp_path / name)
    first, *more = str(found).splitlines()
    assert re.search("^unknown .* no checkpoint, but .*, and run nothing of it$", first)
    assert found.safety.against() == list(found.safety.unreadable)
    assert ("do not run it" in more[-1]) == ("program" in first)
    with pytest.raises(Exception):  # noqa: B017, PT011  # as is said: each loader fails
        torch.load(tmp_path / name, weights_only=False)


def test_harm_in_what_cannot_be_read_is_said_first(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(HARM + b"\xff")
    found = sam21convert.safety(tmp_path / "x.pt")
    assert (found.exit_code, found.ok, found.safety.rating) == (1, False, "dangerous")
    assert "system would be called" in str(found).splitlines()[1]
    assert found.to_dict()["unreadable"]


@pytest.mark.parametrize("name", OTHER)
def test_another_kind_of_file_is_no_checkpoint(name: str, tmp_path: Path) -> None:
    assert code_of(tmp_path / name, OTHER[name]) == 0
    said = str(sam21convert.safety(tmp_path / name))
    assert "no checkpoint" in said
    assert "tensors" not in said
    assert code_of(tmp_path / name, HARM) == 1  # whatever its name says


def test_the_source_of_a_program_is_not_taken_for_names(tmp_path: Path) -> None:
    for name in ("train.py", "program"):
        (tmp_path / name).write_bytes(PROGRAM)
        for command in ("safety", "inspect"):
            answer = run(command, tmp_path / name)
            assert "load(" not in answer.stdout + answer.stderr, (command, name)


@pytest.mark.parametrize("before", [b"", b"(", b"(import torch\nx\n0"])
def test_names_in_a_text_are_still_found(before: bytes, tmp_path: Path) -> None:
    """A pickle of protocol 0 is text: whole, broken behind a call, and behind a program."""
    for end in (b"", b"and text", b"\n" * 600):
        assert code_of(tmp_path / "x.txt", before + HARM + end) == 1


def test_what_no_unpickler_reaches_is_no_name(tmp_path: Path) -> None:
    """INST makes an object of what stands above a MARK; without one, each unpickler ends there."""
    before = b"import torch\nx\n0"
    asked: list[str] = []
    for unpickler in (pickle.Unpickler, pickle._Unpickler):
        found = type("Asked", (unpickler,), {"find_class": lambda _, *name: asked.append(name[0])})
        with pytest.raises((IndexError, pickle.UnpicklingError)):
            found(io.BytesIO(before + HARM)).load()
    assert {*asked} <= {"mport torch"}
    assert code_of(tmp_path / "x.txt", before + HARM) == 0


def test_a_name_that_is_not_an_identifier_counts_in_a_whole_pickle(tmp_path: Path) -> None:
    assert code_of(tmp_path / "x.pkl", b"cmy module\nf\n)R.") == 1


def test_a_folder_and_the_files_in_it_give_the_same_answer(tmp_path: Path) -> None:
    def codes() -> set[int]:
        told = run("safety", tmp_path), run("safety", tmp_path / "*")
        return {one.exit_code for one in told}

    for name, data in OTHER.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "good.pt").write_bytes(saved())
    assert codes() == {0}
    (tmp_path / "noise.pt").write_bytes(NOISE)
    assert codes() == {3}
    answer = json.loads(run("safety", tmp_path, "--json").stdout)
    assert [text.partition(":")[0] for text in answer["unreadable"]] == ["noise.pt"]
    (tmp_path / "noise.pt").write_bytes(HARM)
    assert codes() == {1}


def test_a_file_beside_several_checkpoints_that_nobody_named_need_not_be_readable(
    tmp_path: Path,
) -> None:
    for name in ("a.pt", "b.pt"):
        sam21convert.sample(tmp_path / name, "debug/sam2.1_debug")
    (tmp_path / "events.log.1").write_bytes(NOISE)
    assert sam21convert.inspect_all([tmp_path]).exit_code == 0
    (tmp_path / "events.log.1").write_bytes(HARM)
    assert sam21convert.inspect_all([tmp_path]).exit_code == 1
