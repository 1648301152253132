"""Adapters as they lie about: under other names, several in a folder, with tensors held twice."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from transformers import Sam2Model, Sam2VideoModel

import sam21convert
from sam21convert.commands.main import main
from sam21convert.errors import MismatchError, RefusedError

from ..support.checkpoints import official_pt

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

UNIT = 2.0**-24  # unit roundoff of float32
MODELS = {"hf-image": Sam2Model, "hf-video": Sam2VideoModel}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base of each dialect of transformers."""
    folder = tmp_path_factory.mktemp("bases")
    official_pt(folder / "base.pt")
    for dialect in MODELS:
        sam21convert.convert(folder / "base.pt", folder / dialect, to=dialect)
    return folder


def train(base: Path, names: tuple[str, ...] = ("default",), **settings: Any) -> Any:
    """A model with an adapter of each name, drawn at random; the first is active."""
    torch.manual_seed(0)
    config = peft.LoraConfig(**{"r": 2, "target_modules": ["blocks.0.attn.qkv"], **settings})
    loaded = MODELS[base.name].from_pretrained(base)
    model = peft.get_peft_model(loaded, config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or "lora_" in name:
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def assert_near(out: Path, merged: dict[str, torch.Tensor]) -> None:
    """Equal but for the rounding of a sum of three products."""
    ours = load_file(out / "model.safetensors")
    assert ours.keys() == merged.keys()
    for name, theirs in merged.items():
        off = float((ours[name] - theirs).abs().max())
        assert off <= (4 * UNIT * float(theirs.abs().max()) if "qkv" in name else 0), name


@pytest.mark.parametrize("dialect", MODELS)
@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_and_whole_modules_are_those_that_peft_computes_with(
    tmp_path: Path, home: Path, bias: str, dialect: str
) -> None:
    """A bias within a module that is saved as a whole stands three times in the file."""
    base, lora, out = home / dialect, tmp_path / "lora", tmp_path / "out"
    wholes = ["mask_embed", "iou_prediction_head"]
    model = train(base, bias=bias, modules_to_save=wholes)
    model.save_pretrained(str(lora))
    names = load_file(lora / "adapter_model.safetensors")
    bare = "base_model.model.prompt_encoder.mask_embed."
    ways = "", "modules_to_save.default.", "original_module."
    three = [f"{bare}{way}conv1.bias" for way in ways]
    assert sum(name in names for name in three) == (3 if bias == "all" else 1)
    sam21convert.convert(lora, out, base=base, to=dialect)
    assert_near(out, model.merge_and_unload().state_dict())
    before = load_file(base / "model.safetensors")["prompt_encoder.mask_embed.conv1.bias"]
    after = load_file(out / "model.safetensors")["prompt_encoder.mask_embed.conv1.bias"]
    assert not torch.equal(before, after)  # negative control: the stale one is that of the base
    if bias == "all":
        assert torch.equal(names[three[2]], before)
        names[three[1]] = names[three[1]] + 1
        save_file(names, lora / "adapter_model.safetensors")
        with pytest.raises(MismatchError, match=r"modules_to_save.*should be equal and differ"):
            sam21convert.convert(lora, tmp_path / "other", base=base, to=dialect)


def test_the_only_named_adapter_in_a_folder_is_taken(tmp_path: Path, home: Path) -> None:
    base, lora = home / "hf-image", tmp_path / "lora"
    model = train(base, ("mine",), modules_to_save=["mask_embed"])
    model.save_pretrained(str(lora))
    assert not (lora / "adapter_config.json").exists()
    done = sam21convert.convert(lora, tmp_path / "out", base=base, to="hf-image")
    assert_near(tmp_path / "out", model.merge_and_unload().state_dict())
    assert f"the adapter was taken from {lora / 'mine'}, the only one in {lora}" in done.notes
    assert (
        str(lora / "mine" / "adapter_config.json")
        in sam21convert.convert(
            lora, tmp_path / "again", base=base, to="hf-image", hashes=True
        ).sha256
    )


def test_of_several_named_adapters_one_has_to_be_given(tmp_path: Path, home: Path) -> None:
    base, lora = home / "hf-image", tmp_path / "my lora"
    train(base, ("cats", "dogs")).save_pretrained(str(lora))
    ask = ["convert", str(lora), str(tmp_path / "out"), "--base", str(base), "--to", "hf-image"]
    answer = CliRunner().invoke(main, ask)
    assert answer.exit_code == 3
    assert "holds 2 adapters: cats, dogs" in answer.output
    paths = shlex.split(answer.output.partition("hint: give one of them: ")[2])
    assert paths == [str(lora / "cats"), "or", str(lora / "dogs")]
    for number in (0, 2):
        ask[1:3] = [paths[number], str(tmp_path / f"out-{number}")]
        assert CliRunner().invoke(main, ask).exit_code == 0
    one, other = ((tmp_path / f"out-{n}" / "model.safetensors").read_bytes() for n in (0, 2))
    assert one != other


def test_others_beside_the_one_that_is_taken_are_told(tmp_path: Path, home: Path) -> None:
    base, lora = home / "hf-image", tmp_path / "lora"
    train(base, ("default", "dogs")).save_pretrained(str(lora))
    done = sam21convert.convert(lora, tmp_path / "out", base=base, to="hf-image")
    assert any(f"adapters also in this folder: dogs; give {lora}/NAME" in n for n in done.notes)
    sam21convert.convert(lora / "dogs", tmp_path / "dogs", base=base, to="hf-image")


def test_an_adapter_in_a_folder_of_a_model_is_not_taken_for_it(tmp_path: Path, home: Path) -> None:
    model = tmp_path / "model"
    sam21convert.convert(home / "base.pt", model)
    train(home / "hf-image").save_pretrained(str(model / "lora"))
    assert sam21convert.inspect(model).dialect == "hf-video"


def test_a_name_within_the_names_of_the_tensors(tmp_path: Path, home: Path) -> None:
    """As in a state dict that was saved by hand; two names leave open which is meant."""
    base, lora, out = home / "hf-image", tmp_path / "lora", tmp_path / "out"
    model = train(base)
    model.save_pretrained(str(lora))
    file = lora / "adapter_model.safetensors"
    plain = load_file(file)
    named = {re.sub(r"(lora_[AB])", r"\1.mine", name): tensor for name, tensor in plain.items()}
    assert any(".lora_A.mine.weight" in name for name in named)
    save_file(named, file)
    sam21convert.convert(lora, out, base=base, to="hf-image")
    assert_near(out, model.merge_and_unload().state_dict())
    save_file({**named, **{n.replace(".mine", ".other"): t + 1 for n, t in named.items()}}, file)
    with pytest.raises(RefusedError, match="holds 2 adapters, mine, other, and does not tell"):
        sam21convert.convert(lora, tmp_path / "x", base=base, to="hf-image")


@pytest.mark.parametrize("dialect", MODELS)
@pytest.mark.parametrize("folder", ["lora", "lora/mine"])
def test_the_command_that_inspect_prints_works(
    tmp_path: Path, home: Path, dialect: str, folder: str
) -> None:
    base, lora = home / dialect, tmp_path / "lora"
    model = train(base, ("mine" if "/" in folder else "default",))
    model.save_pretrained(str(lora))
    answer = CliRunner().invoke(main, ["inspect", str(tmp_path / folder)])
    assert answer.exit_code == 3
    found = re.search(r"hint: sam21convert (convert .+) merges it", answer.output)
    assert found is not None, answer.output
    command = shlex.split(found[1])
    assert command[-2:] == ["--base", str(base)]
    out = tmp_path / "out"
    command = [str(out) if one == "OUT" else one for one in command]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert_near(out, model.merge_and_unload().state_dict())


def test_the_revision_of_the_base_is_in_the_command(tmp_path: Path, home: Path) -> None:
    lora = tmp_path / "lora"
    train(home / "hf-image", revision="v2").save_pretrained(str(lora))
    config = lora / "adapter_config.json"
    config.write_text(config.read_text().replace(str(home / "hf-image"), "org/base"))
    with pytest.raises(RefusedError, match="is a PEFT adapter") as refusal:
        sam21convert.inspect(lora)
    assert "OUT, base=hf://org/base@v2)` merges it" in str(refusal.value.hint)
