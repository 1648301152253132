"""Many files at once: one line a file, and the worst exit code."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

import sam21convert
from sam21convert.commands.main import main
from sam21convert.io import several

from ..support.checkpoints import DEBUG

LONG = "a_checkpoint_whose_name_is_longer_than_a_column.pt"


class Payload:
    def __reduce__(self) -> Any:
        return os.system, ("echo hello",)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def objects(*arguments: object) -> dict[str, dict[str, Any]]:
    """The objects that ``--json`` prints, one a line, by path."""
    lines = run(*arguments, "--json").stdout.splitlines()
    return {each["path"]: each for each in map(json.loads, lines)}


@pytest.fixture(scope="module")
def mixed(checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of mixed things: two models in three forms, another model, and no checkpoints."""
    home = tmp_path_factory.mktemp("mixed")
    (home / "model.pt").symlink_to(checkpoints(DEBUG))
    (home / LONG).symlink_to(checkpoints(DEBUG))
    (home / "runs").mkdir()
    sam21convert.convert(home / "model.pt", home / "runs" / "folder")
    save_file({"a.weight": torch.ones(2)}, home / "other.safetensors")
    (home / "notes.txt").write_text("import os\n")
    (home / "Makefile").write_text("include other\nall: it\n")  # its bytes are opcodes, too
    (home / "train.py").write_text("import os\nos.system('true')\n")
    torch.save({"state": {}, "param_groups": []}, home / "optimizer.pt")
    return home


@pytest.fixture
def bad(mixed: Path, tmp_path: Path) -> Path:
    """The same with a file that is cut short, and a pickle that does harm."""
    home = tmp_path / "bad"
    shutil.copytree(mixed, home, symlinks=True)
    (home / "cut.pt").write_bytes((mixed / "model.pt").read_bytes()[:900])
    (home / "sub").mkdir()
    (home / "sub" / "cache.pkl").write_bytes(pickle.dumps(Payload()))
    return home


def test_a_folder_of_mixed_things_is_summed_up(mixed: Path) -> None:
    answer = run("inspect", mixed)
    lines = answer.stdout.splitlines()
    models = [line for line in lines if "SAM 2.1 debug" in line]
    assert [line.split()[-1] for line in models] == ["harmless"] * 3
    assert any(line.startswith(str(mixed / "other.safetensors")) for line in lines)
    assert "not SAM 2 " in answer.stdout
    assert "no checkpoints: 4 files: " in answer.stdout.replace("\n", " ")
    assert lines[-1] == "3 of SAM 2, 1 of other models"
    assert (answer.exit_code, answer.stderr) == (1, "")  # other.safetensors is not SAM 2


def test_a_folder_without_weights_beside_others_is_summed_up(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.txt").write_text("x\n")
    (tmp_path / "notes.md").write_text("x\n")
    for command in ("inspect", "validate"):
        answer = run(command, mixed / "model.pt", "logs")
        assert "no checkpoints: 1 file: logs/a.txt" in answer.stdout
        assert (answer.exit_code, run(command, "logs").exit_code) == (0, 3)
    assert run("inspect", "*").stdout == "no checkpoints: 2 files: notes.md, logs/a.txt\n"


def test_what_programs_read_is_one_line_a_file(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mixed)
    lines = run("inspect", ".").stdout.splitlines()
    table = [line for line in lines if "SAM 2" in line][:-1]
    assert len({line.index("SAM 2") for line in table if "not" not in line}) == 1
    assert any(line.startswith(f"{LONG}  ") and "harmless" in line for line in lines)


def test_json_is_one_object_a_file(mixed: Path) -> None:
    found = objects("inspect", mixed)
    assert len(found) == 8
    alone = json.loads(run("inspect", mixed / "model.pt", "--json").stdout)
    assert found[str(mixed / "model.pt")] == alone
    assert (alone["ok"], alone["exit_code"], alone["config"]) == (True, 0, DEBUG)
    other = found[str(mixed / "other.safetensors")]
    assert (other["ok"], other["exit_code"], other["dialect"]) == (False, 1, None)
    assert found[str(mixed / "notes.txt")]["ok"]


def test_what_cannot_be_read_is_named_and_the_worst_exit_code_counts(bad: Path) -> None:
    answer = run("inspect", bad)
    said = " ".join(answer.stdout.split())
    assert f"{bad}/cut.pt unreadable" in said
    assert "not an intact zip archive" in said
    assert answer.exit_code == 3
    found = objects("inspect", bad)[str(bad / "cut.pt")]
    assert (found["ok"], found["exit_code"]) == (False, 3)
    assert "not an intact zip archive" in found["error"]


def test_harm_is_found_in_what_is_no_checkpoint(bad: Path) -> None:
    (bad / "cut.pt").unlink()
    (bad / "other.safetensors").unlink()
    answer = run("inspect", bad, "--fail-on", "dangerous")
    assert "posix.system" in answer.stdout
    assert answer.stdout.splitlines()[-1].endswith("1 dangerous")
    assert answer.exit_code == 1
    (bad / "sub" / "cache.pkl").unlink()
    assert run("inspect", bad).exit_code == 0


def test_several_arguments_and_patterns(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mixed)
    assert [*objects("inspect", "model.pt", "runs/folder")] == ["model.pt", "runs/folder"]
    assert [*objects("inspect", "m*.pt", "*/folder")] == ["model.pt", "runs/folder"]
    assert [*objects("inspect", "model.pt", "./model.pt", "runs/folder")] == [
        "model.pt",
        "runs/folder",
    ]
    nothing = run("inspect", "x*.pt")
    assert (nothing.exit_code, nothing.stderr.splitlines()[0]) == (
        2,
        "error: x*.pt: nothing matches",
    )


def test_one_source_keeps_its_long_report(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mixed)
    whole = run("inspect", "model.pt").stdout
    assert whole.startswith("file        model.pt\ncontainer   torch zip\n")
    assert run("inspect", "m*.pt").stdout == whole
    assert "container   transformers folder" in run("inspect", "runs/folder").stdout


def test_a_folder_that_is_one_checkpoint_stays_one(mixed: Path, tmp_path: Path) -> None:
    """A transformers folder with a subfolder; a run whose only checkpoint lies below it."""
    home = tmp_path / "model"
    shutil.copytree(mixed / "runs" / "folder", home)
    shutil.copytree(home, home / "checkpoint-1")
    assert several.several_in(home) is None
    assert several.several_in(mixed / "runs") is None
    (home / "model.safetensors").rename(home / "best.safetensors")
    found = several.several_in(home)
    assert found is not None
    assert found.checkpoints == (home / "best.safetensors", home / "checkpoint-1")


@pytest.mark.parametrize(
    ("option", "key"), [("--tensors", "inventory"), ("--tree", "tree"), ("--stats", "stats")]
)
def test_tensors_are_listed_for_one_source_or_as_json(mixed: Path, option: str, key: str) -> None:
    answer = run("inspect", mixed, option)
    assert (answer.exit_code, "lists the tensors of one source" in answer.stderr) == (2, True)
    found = objects("inspect", mixed, option)
    assert found[str(mixed / "model.pt")][key]
    assert found[str(mixed / "other.safetensors")][key]


def test_names_cannot_begin_a_line(mixed: Path, tmp_path: Path) -> None:
    for name in ("a\nb.pt", "c.pt"):
        (tmp_path / name).symlink_to(mixed / "model.pt")
    lines = run("inspect", tmp_path).stdout.splitlines()
    assert any(line.startswith(f"{tmp_path}/a\\nb.pt") for line in lines)
    assert len([line for line in lines if "harmless" in line]) == 2


def test_a_batch_of_a_folder_converts_what_is_a_checkpoint(mixed: Path, tmp_path: Path) -> None:
    options = ("--out", tmp_path / "out", "--to", "official", "--dry-run")
    report = json.loads(run("batch", mixed, *options, "--json").stdout)
    outcomes = {Path(item["source"]).name: item["outcome"] for item in report["items"]}
    assert outcomes == {
        "model.pt": "planned",
        LONG: "planned",
        "folder": "planned",
        "other.safetensors": "failed",
    }
    assert {Path(name).name for name in report["others"]} == {
        "notes.txt",
        "Makefile",
        "train.py",
        "optimizer.pt",
    }
    assert "no checkpoints: 4 files: " in run("batch", mixed, *options).stdout
