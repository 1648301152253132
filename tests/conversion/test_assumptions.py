"""Where a default stands in for what no tensor tells, the report says so, as documented."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from sam21convert import convert
from sam21convert.config.hydra_writer import to_hydra
from sam21convert.config.registry import shipped_config

from ..commands.test_commands import run
from ..support.checkpoints import DEBUG
from ..test_docs import rows

CONFIG = shipped_config(DEBUG)
NOTES = [
    (row[0].strip(), row[3].strip("` "))
    for row in rows("## What the tensors do not tell", "formats.md")
    if row[3].strip() != "-"
]


def published(home: Path, pt: Path) -> list[str | Path]:
    return [pt]


def beside(home: Path, pt: Path) -> list[str | Path]:
    pt.with_suffix(".yaml").write_text(to_hydra(replace(CONFIG, image_size=256)))
    return [pt]


def another_name(home: Path, pt: Path) -> list[str | Path]:
    (home / "train.yaml").write_text(to_hydra(replace(CONFIG, image_size=256)))
    return [pt]


def among_others(home: Path, pt: Path) -> list[str | Path]:
    convert(pt, home / "hf", image_size=256)
    (home / "hf" / "model.safetensors").rename(home / "hf" / "other.safetensors")
    return [shutil.copy(pt, home / "hf")]


def memory(home: Path, pt: Path) -> list[str | Path]:
    convert(pt, home / "image", to="hf-image")
    return [home / "image", "--base", pt]


def two_sizes(home: Path, pt: Path) -> list[str | Path]:
    convert(pt, home / "image", to="hf-image", image_size=256)
    convert(pt, home / "base", image_size=192)
    return [home / "image", "--base", home / "base"]


def trunk(home: Path, pt: Path) -> list[str | Path]:
    convert(pt, home / "trunk", to="timm", image_size=256)
    return [home / "trunk", "--base", pt]


def multimask(home: Path, pt: Path) -> list[str | Path]:
    own = replace(CONFIG, dynamic_multimask_stability_thresh=0.5)
    convert(pt, home / "hf", config=own)
    return [home / "hf", "--to", "official"]


def foreign(home: Path, pt: Path) -> list[str | Path]:
    content = yaml.safe_load(to_hydra(CONFIG))
    content["model"]["samurai_mode"] = True
    pt.with_suffix(".yaml").write_text(yaml.safe_dump(content))
    return [pt]


def pictures(home: Path, pt: Path) -> list[str | Path]:
    convert(pt, home / "hf")
    file = home / "hf" / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "do_normalize": False}))
    return [home / "hf"]


def another_model(home: Path, pt: Path) -> list[str | Path]:
    convert(pt, home / "hf")
    (home / "hf" / "config.json").write_text('{"model_type": "sa2va_chat"}')
    return [home / "hf"]


def tied(home: Path, pt: Path) -> list[str | Path]:
    convert(pt, home / "hf")
    file = home / "hf" / "model.safetensors"
    tensors = load_file(file)
    del tensors["shared_image_embedding.positional_embedding"]
    save_file(tensors, file)
    return [home / "hf"]


def several(home: Path, pt: Path) -> list[str | Path]:
    convert(pt, home / "hf")
    shutil.copy(home / "hf" / "model.safetensors", home / "hf" / "model_1.safetensors")
    return [home / "hf"]


MADE: Mapping[str, Callable[[Path, Path], list[str | Path]]] = {
    "image size, windows, heads, global blocks": published,
    "the same, of a file that is named": beside,
    "a config with another name": another_name,
    "a `config.json` beside several checkpoints": among_others,
    "settings of the memory, for an image model": memory,
    "image size, if the source and `--base` have two": two_sizes,
    "image size of a trunk in a folder of timm": trunk,
    "multimask stability": multimask,
    "settings that SAM 2 does not have": foreign,
    "how pictures are prepared": pictures,
    "a `config.json` of another model": another_model,
    "the second copy of a tied tensor": tied,
    "which of several weights": several,
}


def noted(home: Path, pt: Path, arguments: list[str | Path]) -> list[str]:
    out = home / ("out.pt" if "official" in arguments else "out")
    done = run("convert", *arguments[:1], out, *arguments[1:], "--json")
    assert done.exit_code == 0, done.output
    return [str(note) for note in json.loads(done.stdout)["notes"]]


def as_pattern(note: str) -> str:
    """A pattern of a documented note: words in capitals stand for any text."""
    words = re.escape(note)
    return re.sub(r"\b(NAME|PATH|VALUE|TYPE|N)\b", r".+", words)


def test_every_documented_note_is_tried() -> None:
    assert [what for what, _ in NOTES] == list(MADE)


@pytest.mark.parametrize(("what", "note"), NOTES, ids=[what for what, _ in NOTES])
def test_it_is_printed_when_it_applies(
    tmp_path: Path, checkpoints: Callable[[str], Path], what: str, note: str
) -> None:
    pt = Path(shutil.copy(checkpoints(DEBUG), tmp_path / "mine.pt"))
    pattern = as_pattern(note)
    found = noted(tmp_path, pt, MADE[what](tmp_path, pt))
    assert any(re.fullmatch(pattern, one) for one in found), found


def test_nothing_is_noted_of_a_model_that_tells_everything(
    tmp_path: Path, checkpoints: Callable[[str], Path]
) -> None:
    """Negative control: of a folder with its own config."""
    convert(checkpoints(DEBUG), tmp_path / "hf", config=DEBUG)
    assert noted(tmp_path, tmp_path, [tmp_path / "hf"]) == []
