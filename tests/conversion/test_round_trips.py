"""Whatever form a model takes, and however often it changes, it stays the same model.

A walk goes from form to form: files of every dialect and container, named by their file, and
folders. After each step the form must tell every setting of the model, and at the end its tensors
are what they were.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from sam21convert import convert
from sam21convert.checkpoint.open import Checkpoint, open_checkpoint
from sam21convert.config.registry import shipped_config
from sam21convert.dialects import DIALECTS
from sam21convert.model.config import Generation, ModelConfig

from ..support.checkpoints import DEBUG, DEBUG_20

Told: TypeAlias = tuple[ModelConfig | None, Generation | None]

SOURCES: Mapping[Generation, str] = {"2.1": DEBUG, "2.0": DEBUG_20}


@dataclass(frozen=True)
class Form:
    """A way to write a whole model: what ``convert`` is given, and what of it is read again."""

    name: str
    to: str
    opened: str = ""
    shard_size: str | None = None
    tells: bool = True  # all settings of the model

    def write(self, source: Path, home: Path, base: Path | None = None) -> Path:
        place = home / self.name
        options: dict[str, Any] = {"to": self.to, "shard_size": self.shard_size}
        convert(source, place, base=base, verify=False, **options)
        return place / self.opened if self.opened else place


WHOLE = (
    Form("a.pt", "official"),
    Form("a.pth", "official"),
    Form("a.safetensors", "official"),
    Form("a", "hf-video"),
    Form("a", "hf-video", opened="model.safetensors"),
    Form("a", "hf-video", shard_size="4MB"),
    Form("a", "hf-video", opened="model.safetensors.index.json", shard_size="4MB"),
    Form("a.safetensors", "hf-video"),
    Form("a.safetensors", "mlx"),
)
# Parts of a model: the way back takes the rest from the source, and what a part does not tell.
PARTS = (
    Form("a", "hf-image"),
    Form("a", "hf-image", opened="model.safetensors"),
    Form("a.safetensors", "hf-image"),
    Form("a", "timm", tells=False),
    Form("a.safetensors", "timm"),
)
STEPS = 36

# For each setting of a model that shapes no tensor of the debug model, another value.
OTHERS: Mapping[str, Any] = {
    "image_size": 256,
    "trunk.num_heads": 2,
    "trunk.global_att_blocks": (2,),
    "trunk.window_spec": (8, 4, 6, 7),
    "fpn_top_down_levels": (2,),
    "memory_attention.rope_theta": 5000.0,
    "max_obj_ptrs_in_encoder": 5,
    "sigmoid_scale_for_mem_enc": 10.0,
    "sigmoid_bias_for_mem_enc": -5.0,
    "multimask_output_in_sam": False,
    "multimask_output_for_tracking": False,
    "multimask_min_pt_num": 1,
    "multimask_max_pt_num": 3,
    "dynamic_multimask_via_stability": False,
    "dynamic_multimask_stability_delta": 0.1,
    "dynamic_multimask_stability_thresh": 0.9,
}
# Those that shape tensors, so that a file of another value does not load with the usual one.
SHAPING = {
    *("generation", "hidden_dim", "trunk.embed_dim", "trunk.stages"),
    *("trunk.window_pos_embed_bkg_spatial_size", "num_maskmem"),
    *("memory_attention.num_layers", "memory_attention.dim_feedforward"),
    *("memory_encoder.out_dim", "memory_encoder.fuser_layers"),
}


def settings(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of each setting."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from settings(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def changed(config: ModelConfig, name: str, value: Any) -> ModelConfig:
    section, _, field = name.rpartition(".")
    if section:
        value = replace(getattr(config, section), **{field: value})
    return replace(config, **{section or field: value})


def walk(seed: str) -> list[Form]:
    """Whole forms in any order, each after several others."""
    rng = random.Random(seed)
    return [form for _ in range(STEPS // len(WHOLE)) for form in rng.sample(WHOLE, len(WHOLE))]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Told]:
    """What each form told when it was opened to be converted again, in the order of the steps."""
    found = list[Told]()

    def opened(*given: Any, **options: Any) -> Checkpoint:
        checkpoint = open_checkpoint(*given, **options)
        found.append((checkpoint.model_config, checkpoint.generation))
        return checkpoint

    monkeypatch.setattr("sam21convert.conversion.plan.open_checkpoint", opened)
    return found


def test_every_setting_is_tried() -> None:
    usual = dict(settings(shipped_config(DEBUG)))
    assert {*OTHERS, *SHAPING} == set(usual)
    assert all(usual[name] != value for name, value in OTHERS.items())


def test_every_dialect_is_tried() -> None:
    by_name = {d.name for d in DIALECTS if d.file}  # official files of a published size
    assert {form.to for form in (*WHOLE, *PARTS)} | by_name == {d.name for d in DIALECTS}


@pytest.mark.parametrize("name", OTHERS)
def test_no_setting_changes(
    tmp_path: Path, checkpoints: Callable[[str], Path], told: list[Told], name: str
) -> None:
    """36 steps for each of 16 settings, in both generations by turns."""
    generation: Generation = "2.1" if list(OTHERS).index(name) % 2 else "2.0"
    config = changed(shipped_config(SOURCES[generation]), name, OTHERS[name])
    convert(checkpoints(SOURCES[generation]), tmp_path / "first.pt", config=config)
    before = (tmp_path / "first.pt").read_bytes()
    at = tmp_path / "first.pt"
    told.clear()
    forms = walk(name)
    for number, form in enumerate(forms):
        home = tmp_path / str(number)
        home.mkdir()
        at = form.write(at, home)
        if number >= 2:
            _remove(tmp_path / str(number - 2))
    convert(at, tmp_path / "last.pt")
    steps = zip(("first.pt", *forms), told, strict=True)
    assert [form for form, one in steps if one != (config, generation)] == []
    assert (tmp_path / "last.pt").read_bytes() == before


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.to}-{part.name}/{part.opened}")
@pytest.mark.parametrize(
    ("name", "generation"), [("image_size", "2.1"), ("trunk.window_spec", "2.0")]
)
def test_nor_on_the_way_through_a_part(
    tmp_path: Path,
    checkpoints: Callable[[str], Path],
    told: list[Told],
    part: Form,
    name: str,
    generation: Generation,
) -> None:
    config = changed(shipped_config(SOURCES[generation]), name, OTHERS[name])
    first = tmp_path / "first.pt"
    convert(checkpoints(SOURCES[generation]), first, config=config)
    at = first
    told.clear()
    for number, form in enumerate((WHOLE[0], WHOLE[3], WHOLE[8])):
        homes = [tmp_path / f"{number}{letter}" for letter in "abc"]
        for home in homes:
            home.mkdir()
        half = part.write(at, homes[0])
        again = part.write(half, homes[1])  # from part to part nothing is lost either
        at = form.write(again, homes[2], base=first)
    convert(at, tmp_path / "last.pt")
    # Opened in each turn: at, half, the base of again, again. A trunk does not tell the rest.
    known = told if part.tells else told[::2]
    assert known == [(config, generation)] * (4 * 3 + 1 if part.tells else 2 * 3 + 1)
    assert (tmp_path / "last.pt").read_bytes() == first.read_bytes()
