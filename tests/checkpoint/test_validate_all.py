"""Many checkpoints are validated at once: one line a source, and the worst exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import sam21convert
from sam21convert.checkpoint import many
from sam21convert.checkpoint.validate_all import validate_listed
from sam21convert.report import SILENT

from ..commands.test_commands import run
from ..support.checkpoints import DEBUG, DEBUG_20, official_pt, state_dict
from .test_inspect_all import objects


@pytest.fixture(scope="module")
def home(checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two that load, one that does not, one that is cut short, another model and a README."""
    home = tmp_path_factory.mktemp("many")
    (home / "a.pt").symlink_to(checkpoints(DEBUG))
    sam21convert.convert(home / "a.pt", home / "folder")
    not_a_number = torch.full((1, 1, 128), torch.nan)
    official_pt(home / "nan.pt", {**state_dict(), "no_mem_embed": not_a_number})
    (home / "cut.pt").write_bytes((home / "nan.pt").read_bytes()[:900])
    save_file({"a.weight": torch.ones(2)}, home / "other.safetensors")
    (home / "README.md").write_text("# Mine\n")
    return home


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


@pytest.mark.usefixtures("there")
def test_each_source_has_a_line_and_its_problems_below() -> None:
    answer = run("validate", "a.pt", "folder", "nan.pt", "README.md")
    assert answer.stdout.splitlines() == [
        f"a.pt    loads          official, {DEBUG}",
        "folder  loads          hf-video, config.json",
        f"nan.pt  does not load  official, {DEBUG}",
        "    NaN            1   no_mem_embed",
        "no checkpoints: 1 file: README.md",
        "2 load, 1 do not load",
    ]
    assert answer.exit_code == 1


@pytest.mark.parametrize(
    ("sources", "code"),
    [
        (("a.pt", "folder"), 0),
        (("a.pt", "README.md"), 0),
        (("a.pt", "nan.pt"), 1),
        (("a.pt", "other.safetensors"), 1),
        (("nan.pt", "a.pt", "cut.pt"), 3),
        (("a.pt", "gone.pt"), 3),
        (("*",), 3),
    ],
)
@pytest.mark.usefixtures("there")
def test_the_exit_code_is_the_worst(sources: tuple[str, ...], code: int) -> None:
    assert run("validate", *sources).exit_code == code
    answers = [json.loads(line) for line in run("validate", *sources, "--json").stdout.splitlines()]
    assert max(answer["exit_code"] for answer in answers) == code


def test_a_line_of_json_is_what_it_is_alone(there: Path) -> None:
    found = objects("validate", ".")
    assert {*found} == {path.name for path in there.iterdir()}
    assert found["a.pt"] == json.loads(run("validate", "a.pt", "--json").stdout)
    alone = json.loads(run("validate", "cut.pt", "--json").stdout)
    assert found["cut.pt"]["error"] == alone["error"]
    assert found["README.md"]["schema"] == "sam21convert/counted/1"


@pytest.mark.usefixtures("there")
def test_one_source_keeps_its_long_answer() -> None:
    answer = run("validate", "a*.pt").stdout
    assert answer.startswith(f"a.pt loads: it fits dialect 'official' with config '{DEBUG}'\n")


@pytest.mark.usefixtures("there")
def test_options_are_for_all_and_a_wrong_one_is_told_once() -> None:
    assert "0 load" not in run("validate", "a.pt", "folder", "--config", DEBUG_20).stdout
    assert run("validate", "a.pt", "folder", "--config", DEBUG_20).exit_code == 1
    wrong = run("validate", "a.pt", "folder", "--config", "sam2.1/sam2.1_hiera_z")
    assert (wrong.exit_code, wrong.stdout, wrong.stderr.count("error: ")) == (3, "", 1)
    two = run("validate", "a.pt", "folder", "--parity", "transformers:folder")
    assert (two.exit_code, "here are several" in two.stderr) == (2, True)


@pytest.mark.usefixtures("there")
def test_what_is_beyond_the_bounds_makes_the_answer_no() -> None:
    listed = many.find_all(["a.pt"])._replace(cut=("there",))
    found = validate_listed(listed, sam21convert.validate, SILENT)
    assert (found.exit_code, found.alerts()) == (
        1,
        ("there: the files beyond the first 20,000: not looked at",),
    )
