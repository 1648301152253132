"""Adapters for one module of a model, for a larger model, and with a head of the user's own."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import sam21convert
from sam21convert.errors import MismatchError, RefusedError

from ..commands.test_commands import run
from ..support.checkpoints import official_pt, state_dict

QKV = "image_encoder.trunk.blocks.0.attn.qkv"
HEAD = {"head.weight": torch.ones(3, 4), "head.bias": torch.ones(3)}
RANK, ALPHA = 2, 4


def adapter(folder: Path, *modules: str, **whole: torch.Tensor) -> Path:
    """As PEFT saves one on these linear layers of the official model, without what is before |."""
    torch.manual_seed(0)
    own, tensors = state_dict(), dict(whole)
    for module in modules:
        rows, columns = own[f"{module.replace('|', '')}.weight"].shape
        name = module.partition("|")[2] if "|" in module else module
        tensors[f"{name}.lora_A.weight"] = torch.randn(RANK, columns)
        tensors[f"{name}.lora_B.weight"] = torch.randn(rows, RANK)
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["q"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    named = {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors")
    return folder


def merged(lora: Path, home: Path, **options: Any) -> set[str]:
    """What the merged model holds that the base does not."""
    base = official_pt(home / "base.pt")
    sam21convert.convert(lora, home / "out.pt", base=base, overwrite=True, **options)
    found = torch.load(home / "out.pt")["model"]
    return {name for name, tensor in state_dict().items() if not torch.equal(found[name], tensor)}


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("module", ["sam_mask_decoder", "memory_attention", "image_encoder.neck"])
def test_an_adapter_around_one_module_is_merged_as_peft_does(tmp_path: Path, module: str) -> None:
    model, _ = sam21convert.load_model(official_pt(tmp_path / "base.pt"))
    part = model.get_submodule(module)
    targets = "all-linear" if module != "image_encoder.neck" else ["convs.0.conv"]
    config = peft.LoraConfig(r=RANK, target_modules=targets, init_lora_weights=False)
    around: Any = peft.get_peft_model(part, config)
    around.save_pretrained(str(tmp_path / "lora"))
    changed = merged(tmp_path / "lora", tmp_path)
    assert changed
    assert all(name.startswith(f"{module}.") for name in changed)
    ours = torch.load(tmp_path / "out.pt")["model"]
    for name, theirs in around.merge_and_unload().state_dict().items():
        off = (ours[f"{module}.{name}"] - theirs).abs().max() / theirs.abs().max()
        assert off <= 1e-6, name


def test_the_report_says_where_the_tensors_belong(tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora", "sam_mask_decoder.|transformer.layers.0.self_attn.q_proj")
    done = sam21convert.convert(lora, tmp_path / "o.pt", base=official_pt(tmp_path / "base.pt"))
    assert "the names in the adapter are those within sam_mask_decoder" in done.notes


def test_names_that_may_be_of_two_modules_are_refused(tmp_path: Path) -> None:
    """The shapes decide, where they can: the memory has rows of its own."""
    twice = "layers.0.self_attn.q_proj"
    lora = adapter(tmp_path / "lora", f"sam_mask_decoder.transformer.|{twice}")
    own = state_dict()
    shapes = {
        own[f"{module}.{twice}.weight"].shape
        for module in ("sam_mask_decoder.transformer", "memory_attention")
    }
    if len(shapes) == 1:
        with pytest.raises(MismatchError, match="memory_attention, .*the names do not tell"):
            merged(lora, tmp_path)
    else:
        assert merged(lora, tmp_path) == {f"sam_mask_decoder.transformer.{twice}.weight"}
    alone = "sam_mask_decoder.transformer.|final_attn_token_to_image.q_proj"
    assert len(merged(adapter(tmp_path / "alone", alone), tmp_path)) == 1


def test_names_of_a_layer_that_the_base_lacks_are_of_no_other_layer(tmp_path: Path) -> None:
    """An adapter of a deeper model, with the shapes of the last layer that there is."""
    lora = adapter(tmp_path / "lora", "image_encoder.trunk.blocks.6.attn.qkv")
    path = lora / "adapter_model.safetensors"
    tensors = load_file(path)
    for name in ("image_encoder.trunk.blocks.7", "blocks.7"):
        there = {n.replace("image_encoder.trunk.blocks.6", name): t for n, t in tensors.items()}
        save_file(there, path)
        with pytest.raises(MismatchError, match="no tensors of these names"):
            merged(lora, tmp_path)
    save_file(tensors, path)
    assert merged(lora, tmp_path) == {"image_encoder.trunk.blocks.6.attn.qkv.weight"}


def test_names_that_two_dialects_give_to_different_layers_are_refused(tmp_path: Path) -> None:
    """The first layer of the official head, or the second of transformers'."""
    layer = "sam_mask_decoder.|output_hypernetworks_mlps.0.layers.0"
    with pytest.raises(MismatchError, match="may stand in mask_decoder, sam_mask_decoder"):
        merged(adapter(tmp_path / "lora", layer), tmp_path)


@pytest.mark.parametrize("prefix", ["", "net.sam."])
def test_a_head_is_left_out_by_the_hint(tmp_path: Path, prefix: str) -> None:
    """``modules_to_save=["head"]``, the usual way to train a head beside a LoRA."""
    lora = adapter(tmp_path / "my lora", f"|{QKV}", **HEAD)
    tensors = load_file(lora / "adapter_model.safetensors")
    renamed = {n.replace("image_encoder", f"{prefix}image_encoder"): t for n, t in tensors.items()}
    save_file(renamed, lora / "adapter_model.safetensors")
    base, out = official_pt(tmp_path / "base.pt"), tmp_path / "out.pt"
    command = ["convert", str(lora), str(out), "--base", str(base)]
    refused = run(*command)
    assert refused.exit_code == 1
    hint = re.search(r"hint: (.*) leaves out", refused.output)
    assert hint is not None
    options = shlex.split(hint[1])
    assert options == ["--drop", "head.*"]
    done = run(*command, *options)
    assert done.exit_code == 0, done.output
    assert "left out of the adapter, not part of the model: head.{bias,weight}" in done.output
    found = torch.load(out)["model"]
    assert not torch.equal(found[f"{QKV}.weight"], state_dict()[f"{QKV}.weight"])


def test_what_is_of_sam2_in_an_adapter_is_not_left_out(tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora", QKV, **HEAD)
    with pytest.raises(RefusedError, match="without it this would be another model"):
        merged(lora, tmp_path, drop=["head.*", "*qkv*"])
    own = adapter(tmp_path / "own", QKV, **{"image_encoder.own.weight": torch.ones(2)})
    with pytest.raises(RefusedError, match="image_encoder.own.weight is not left out"):
        merged(own, tmp_path, drop=["image_encoder.own.*"])
    with pytest.raises(MismatchError, match="no tensors of these names") as caught:
        merged(own, tmp_path)
    assert "drop" not in str(caught.value.hint)
    assert merged(lora, tmp_path, drop=["head.*"]) == {f"{QKV}.weight"}
