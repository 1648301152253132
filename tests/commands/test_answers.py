"""Answers for programs: one head for all, schemas that are those of the code, and quiet."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sam21convert.commands.main import main
from sam21convert.progress import ProgressBar
from sam21convert.report import Line, Table, labelled, table, without_remarks

from .. import schemas
from ..checkpoint.test_inspect_all import Payload
from ..support import tracked_masks as drawn
from ..support.answers import conforms
from ..support.checkpoints import DEBUG, DEBUG_20
from ..support.exports import describe
from .test_commands import run

# Options of each command, and its exit code; in a folder with model.pt, picture.png and more.
ANSWERS: Mapping[str, tuple[str, int]] = {
    "inspect": ("inspect model.pt", 0),
    "inspect, its tensors": ("inspect model.pt --tensors", 0),
    "inspect, a folder": ("inspect folder", 0),
    "inspect, of another model": ("inspect other.safetensors", 1),
    "safety": ("safety model.pt", 0),
    "safety, a no": ("safety evil.pkl", 1),
    "validate": ("validate model.pt", 0),
    "validate, a no": (f"validate model.pt --config {DEBUG_20}", 1),
    "convert": ("convert model.pt out.safetensors", 0),
    "convert, a dry run": ("convert model.pt dry --dry-run", 0),
    "diff": ("diff model.pt folder", 0),
    "diff, a no": ("diff model.pt another.pt", 1),
    "batch": ("batch model.pt other.safetensors --out made --to official", 1),
    "list": ("list", 0),
    "page": ("page onnx site --cdn", 0),
    "sample": (f"sample drawn.pt --config {DEBUG} --seed 1", 0),
    "evaluate": ("evaluate --score masks DAVIS --videos lost,far", 0),
    "evaluate, for LVOS": ("evaluate --score lvos/masks lvos/LVOS", 0),
    "evaluate, for MOSE": ("evaluate --score masks DAVIS --videos moved --protocol mosev2", 0),
    "parity": ("parity model.pt another.pt --scenarios point", 1),
    "parity, gradients": ("parity model.pt model.pt --gradients --scenarios train-box", 0),
    "predict image": (
        "predict image picture.png --checkpoint model.pt --point 9,9 -o drawn.png --device cpu",
        0,
    ),
    "a missing file": ("inspect gone.pt", 3),
    "a misspelt name": ("inspect sam2.1_hiera_tony", 3),
    "a mismatch": (f"convert model.pt no.pt --config {DEBUG_20}", 1),
    "an output that exists": ("convert model.pt another.pt", 2),
    "an argument is missing": ("convert model.pt", 2),
    "no such option": ("inspect model.pt --klingon", 2),
    "no such command": ("klingon", 2),
}
# Tested where their reports are made.
ELSEWHERE = {"demo", "finetune", "predict video", "pull", "push", "selftest", "serve"}


@pytest.fixture(scope="module")
def home(checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands above read."""
    home = tmp_path_factory.mktemp("answers")
    (home / "model.pt").symlink_to(checkpoints(DEBUG))
    assert run("sample", home / "another.pt", "--config", DEBUG, "--seed", 1).exit_code == 0
    assert run("convert", home / "model.pt", home / "folder").exit_code == 0
    save_file({"a.weight": torch.ones(2)}, home / "other.safetensors")
    describe(home / "onnx", 128)
    drawn.davis(home)
    drawn.lvos(home / "lvos")
    (home / "evil.pkl").write_bytes(pickle.dumps(Payload()))
    Image.new("RGB", (32, 32), "white").save(home / "picture.png")
    return home


def test_the_schemas_are_those_of_the_code() -> None:
    """If not: ``python -m tests.schemas`` writes them."""
    made = {name: schemas.text(content) for name, content in schemas.schemas().items()}
    stored = {path.name: path.read_text() for path in schemas.FOLDER.glob("*.json")}
    assert [name for name in {*made, *stored} if made.get(name) != stored.get(name)] == []


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_fits_its_schema(case: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    line, code = ANSWERS[case]
    result = run(*line.split(), "--json")
    answer = conforms(result.stdout)
    assert (result.exit_code, answer["exit_code"], answer["ok"]) == (code, code, code == 0)


def test_so_does_each_line_about_many(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("SAM21CONVERT_TRACEBACK", "1")
    (home / "cut.pt").write_bytes((home / "model.pt").read_bytes()[:900])
    for command in ("inspect", "safety"):
        result = run(command, "*.*", "gone.pt", "--json")
        code = 1 if command == "safety" else 3  # evil.pkl does harm, which comes first
        assert result.exit_code == code, result.output
        answers = [conforms(line) for line in result.stdout.splitlines()]
        kinds = {answer["schema"].split("/")[1] for answer in answers} - {"file"}
        assert kinds == {command, "error"}
        assert max(answer["exit_code"] for answer in answers) == 3


def test_every_command_is_here() -> None:
    def names(group: click.Group, before: str = "") -> set[str]:
        found: set[str] = set()
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                found |= names(command, f"{name} ")
            else:
                found.add(before + name)
        return found

    tested = {
        name for name in names(main) if any(line.startswith(name) for line, _ in ANSWERS.values())
    }
    assert tested | ELSEWHERE == names(main)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tensors": "many"}, "answer.tensors: 'many' is no integer"),
        ({"new": 1}, "answer: new is not in the schema"),
        ({"safety": "fine"}, "answer.safety: 'fine' is not one of"),
        ({"pickle": [{"name": "a"}]}, "answer.pickle[0]: "),
        ({"ok": 1}, "answer.ok: 1 is no boolean"),
        ({"image_size": "wide"}, "fits none of several types"),
    ],
)
def test_what_does_not_fit_is_seen(home: Path, change: dict[str, Any], said: str) -> None:
    answer = json.loads(run("inspect", home / "model.pt", "--json").stdout)
    with pytest.raises(AssertionError) as caught:
        conforms(json.dumps({**answer, **change}))
    assert said in str(caught.value)
    del answer["config"]
    with pytest.raises(AssertionError, match="config is missing"):
        conforms(json.dumps(answer))


REMARK = re.compile(r"^ *(?:note|warning)\b", re.MULTILINE)
QUIET = {**ANSWERS, "convert, a note": ("convert model.pt image --to hf-image", 0)}
READ = (
    *("model.pt", "another.pt", "folder", "other.safetensors", "onnx", "evil.pkl", "picture.png"),
    *("DAVIS", "lvos", "masks"),
)
REMARKED = ("validate", "convert, a note", "predict image")


@pytest.mark.parametrize("case", QUIET)
def test_quiet_leaves_out_notes_and_warnings(
    case: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, code = QUIET[case]
    said = {}
    for how in ("--quiet", *(() if case not in REMARKED else ("--no-quiet",))):
        there = tmp_path / how
        there.mkdir()
        for name in READ:
            (there / name).symlink_to(home / name)
        monkeypatch.chdir(there)
        result = run(*line.split(), *(("--quiet",) if how == "--quiet" else ()))
        assert result.exit_code == code, result.output
        said[how] = result.stdout + result.stderr
    assert said["--quiet"].strip() or code == 0
    assert not REMARK.search(said["--quiet"])
    assert case not in REMARKED or REMARK.search(said["--no-quiet"])


def test_what_is_no_label_stays() -> None:
    """A file of the name ``note``, and a note that goes on in rows below it."""
    rows = table([("file", "note"), ("note", ("one", "two")), ("done", "yes")])
    named = Table((("note", "harmless"), Line(("    ", "warning"), 6)))
    lines = [labelled("warning", "w"), Line(("note",)), labelled("hint", "h")]
    kept = [str(part) for part in without_remarks([rows, named, *lines])]
    assert kept == ["file  note\ndone  yes", "note  harmless\n    warning", "note", "hint: h"]


def test_quiet_prints_the_answer_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": torch.load(home / "model.pt")["model"], "x": Payload()}, tmp_path / "x.pt")
    loud, quiet = (run("validate", tmp_path / "x.pt", *more) for more in ((), ("--quiet",)))
    assert loud.stderr.startswith("warning: ")
    assert (quiet.stderr, quiet.exit_code) == ("", loud.exit_code)
    assert quiet.stdout == f"{loud.stdout.splitlines()[0]}\n"
    failed = run("validate", tmp_path / "gone.pt", "-q")
    assert failed.stderr.startswith("error: ")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert ProgressBar().visible
    assert not ProgressBar(hidden=True).visible
