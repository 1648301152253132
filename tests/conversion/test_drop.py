"""``drop``: heads of the user's own beside a SAM 2, and what cannot be left out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from sam21convert import convert, validate
from sam21convert.checkpoint.drop import patterns_for
from sam21convert.dialects import OFFICIAL, TIMM
from sam21convert.errors import MismatchError, RefusedError, UsageError

from ..commands.test_commands import run
from ..support.checkpoints import official_pt, state_dict

HEAD = {"cls_head.0.weight": torch.ones(4, 8), "cls_head.0.bias": torch.ones(4)}


def with_head(path: Path, **more: Any) -> Path:
    return official_pt(path, {**state_dict(), **HEAD, **more})


def assert_plain(path: Path) -> None:
    found, own = torch.load(path)["model"], state_dict()
    assert list(found) == list(own)
    assert all(torch.equal(found[name], own[name]) for name in own)


def hinted(output: str) -> list[str]:
    """The options in the hint on the command line, as a shell reads them."""
    hint = next(line for line in output.splitlines() if line.startswith("hint: "))
    words = shlex.split(hint.partition(" leaves out")[0].removeprefix("hint: "))
    assert words[0] == "--drop"
    return words


@pytest.mark.parametrize("command", ["convert", "validate"])
def test_the_hint_is_a_command_that_works(tmp_path: Path, command: str) -> None:
    source = with_head(tmp_path / "m.pt", temperature=torch.ones(()))
    arguments = [command, str(source), *([str(tmp_path / "o.pt")] if command == "convert" else [])]
    result = run(*arguments)
    assert result.exit_code == 1
    options = hinted(result.output)
    assert options == ["--drop", "cls_head.*", "--drop", "temperature"]
    assert run(*arguments, *options).exit_code == 0
    if command == "convert":
        assert_plain(tmp_path / "o.pt")


def test_what_was_left_out_is_listed_by_name(tmp_path: Path) -> None:
    source = with_head(tmp_path / "m.pt")
    done = convert(source, tmp_path / "out.pt", drop="cls_head.*")
    assert done.dropped == tuple(HEAD)
    assert "dropped  cls_head.0.weight, cls_head.0.bias" in str(done)
    assert validate(source, drop=["cls_head.0.weight", "cls_head.0.b*"]).ok
    assert not validate(source, drop="cls_head.0.weight").ok


def test_a_head_beside_a_prefixed_model_is_left_out_anyway(tmp_path: Path) -> None:
    state = {f"model.{name}": tensor for name, tensor in state_dict().items()}
    torch.save({"state_dict": {**state, **HEAD}}, tmp_path / "m.pt")
    done = convert(tmp_path / "m.pt", tmp_path / "one.pt")
    assert any("cls_head.0.{bias,weight}" in note for note in done.notes)
    done = convert(tmp_path / "m.pt", tmp_path / "two.pt", drop="cls_head.*")
    assert done.dropped == tuple(HEAD)
    assert_plain(tmp_path / "two.pt")


def test_the_classifier_of_timm(tmp_path: Path) -> None:
    """``head.norm`` is of the dialect and ``head.fc`` is not."""
    convert(official_pt(tmp_path / "m.pt"), tmp_path / "t.safetensors", to="timm")
    from safetensors.torch import load_file, save_file

    trunk = load_file(tmp_path / "t.safetensors")
    save_file({**trunk, "head.fc.weight": torch.ones(2, 8)}, tmp_path / "fc.safetensors")
    out = tmp_path / "out.safetensors"
    with pytest.raises(MismatchError, match=r"head\.fc\.weight") as caught:
        convert(tmp_path / "fc.safetensors", out, to="timm")
    assert "`drop='head.fc.*'`" in str(caught.value.hint)
    with pytest.raises(RefusedError, match=r"head\.norm"):
        convert(tmp_path / "fc.safetensors", out, to="timm", drop="head.*")
    convert(tmp_path / "fc.safetensors", out, to="timm", drop="head.fc.*")
    assert out.read_bytes() == (tmp_path / "t.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("image_encoder.trunk.blocks.0.adapter.weight", "*adapter*"),
        ("sam_mask_decoder.own_mlp.weight", "sam_mask_decoder.own_mlp.*"),
        ("memory_attention.layers.0.gate", "*.gate"),
    ],
)
def test_what_stands_within_a_module_is_not_left_out(
    tmp_path: Path, name: str, pattern: str
) -> None:
    source = with_head(tmp_path / "m.pt", **{name: torch.ones(2)})
    with pytest.raises(MismatchError) as caught:
        convert(source, tmp_path / "out.pt")
    assert f"{name} stands within a module of SAM 2" in str(caught.value.hint)
    assert "drop" not in str(caught.value.hint)
    with pytest.raises(RefusedError, match="without it this would be another model") as refused:
        convert(source, tmp_path / "out.pt", drop=("cls_head.*", pattern))
    assert name in str(refused.value)
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize("pattern", ["*", "sam_*", "no_mem_embed", "obj_ptr_tpos_proj.*"])
def test_tensors_of_the_model_are_not_left_out(tmp_path: Path, pattern: str) -> None:
    source = with_head(tmp_path / "m.pt")
    with pytest.raises(RefusedError, match="would be another model"):
        convert(source, tmp_path / "out.pt", drop=pattern)


@pytest.mark.parametrize("pattern", ["foo*", "CLS_HEAD.*", "cls_head", ""])
def test_a_pattern_that_matches_nothing(tmp_path: Path, pattern: str) -> None:
    source = with_head(tmp_path / "m.pt")
    with pytest.raises(UsageError, match="matches no tensor") as caught:
        convert(source, tmp_path / "out.pt", drop=("cls_head.*", pattern))
    assert f"`inspect({source}, tensors=True)`" in str(caught.value.hint)
    assert "cls_head.0.weight" in run("inspect", source, "--tensors").output


def test_a_head_and_a_part_that_is_missing(tmp_path: Path) -> None:
    """The hint names both options."""
    kept = {n: t for n, t in state_dict().items() if not n.startswith("image_encoder.")}
    source = official_pt(tmp_path / "m.pt", {**kept, **HEAD})
    with pytest.raises(MismatchError) as caught:
        convert(source, tmp_path / "out.pt")
    assert "drop='cls_head.*', base=CHECKPOINT)`" in str(caught.value.hint)
    base = official_pt(tmp_path / "base.pt")
    convert(source, tmp_path / "out.pt", drop="cls_head.*", base=base)
    assert_plain(tmp_path / "out.pt")


def test_hints_about_the_generation_are_not_about_heads(tmp_path: Path) -> None:
    with pytest.raises(MismatchError) as caught:
        convert(official_pt(tmp_path / "m.pt"), tmp_path / "o.pt", config="debug/sam2_debug")
    assert "use `config=debug/sam2.1_debug`" in str(caught.value.hint)
    convert(tmp_path / "m.pt", tmp_path / "o.pt", config="debug/sam2.1_debug")


def test_parity_runs_the_whole_file(tmp_path: Path) -> None:
    source = with_head(tmp_path / "m.pt")
    result = run("convert", source, tmp_path / "o.pt", "--drop", "cls_head.*", "--parity")
    assert result.exit_code == 2
    assert "--drop" in result.stderr


def test_patterns_are_short_and_literal() -> None:
    names = ["a.b.c", "a.d", "x[1].w", "scale", "head.fc.weight"]
    assert list(patterns_for(names, OFFICIAL)) == ["a.*", "x[[]1].*", "scale", "head.*"]
    assert list(patterns_for(names, TIMM))[-1] == "head.fc.*"
