"""Every field of adapter_config.json: it changes nothing, is merged as PEFT does, or is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam2Model, Sam2VideoModel

import sam21convert
from sam21convert.checkpoint.lora_settings import IGNORED, REFUSED, USED
from sam21convert.errors import RefusedError, UnreadableError

from ..support.checkpoints import official_pt, state_dict

pytestmark = [  # PEFT asks transformers by a name of yesterday; it takes a bias for a shard
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*LoRA tensor.* have invalid shape"),
    pytest.mark.filterwarnings("ignore:lora with eva initialization"),
]

UNIT = 2.0**-24  # unit roundoff of float32
QKV = "vision_encoder.backbone.blocks.0.attn.qkv"
MEMORY = ["layers.0.self_attn.q_proj", "object_pointer_proj.proj_in"]
LAYERS = ["blocks.0.attn.qkv", "blocks.5.attn.qkv", "final_attn_token_to_image.q_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image model of transformers."""
    home = tmp_path_factory.mktemp("base")
    sam21convert.convert(official_pt(home / "base.pt"), home / "image", to="hf-image")
    return home / "image"


@pytest.fixture(scope="module")
def half(base: Path) -> Path:
    """The same in bfloat16."""
    sam21convert.convert(base, base.with_name("half"), to="hf-image", dtype="bfloat16")
    return base.with_name("half")


def train(base: Path, folder: Path, **settings: Any) -> Any:
    """A model with an adapter that moved a little from its start, and is saved to ``folder``."""
    torch.manual_seed(0)
    config = peft.LoraConfig(**{"r": 4, "target_modules": LAYERS, **settings})
    kind = Sam2VideoModel if base.name == "video" else Sam2Model
    model = peft.get_peft_model(kind.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.add_(0.01 * torch.randn_like(parameter))
    model.save_pretrained(str(folder))
    return model


def written(folder: Path, **settings: Any) -> Path:
    """An adapter written by hand, on one layer."""
    folder.mkdir()
    torch.manual_seed(0)
    tensors = {"lora_A": torch.randn(2, 8), "lora_B": torch.randn(24, 2)}
    save_file(
        {f"base_model.model.{QKV}.{kind}.weight": t for kind, t in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    usual = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["qkv"]}
    (folder / "adapter_config.json").write_text(json.dumps({**usual, **settings}))
    return folder


def farthest(out: Path, merged: dict[str, torch.Tensor]) -> float:
    """The largest difference, relative to the largest magnitude of the tensor."""
    ours = load_file(out / "model.safetensors")
    assert ours.keys() == merged.keys()
    return max(
        float((ours[name].double() - merged[name].double()).abs().max() / merged[name].abs().max())
        for name in ours
    )


def test_every_field_of_peft_is_decided() -> None:
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert fields == USED | IGNORED | set(REFUSED)
    assert len(fields) == len(USED) + len(IGNORED) + len(REFUSED)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_variant_is_refused_by_field_and_value(tmp_path: Path, name: str) -> None:
    with pytest.raises(RefusedError, match=f"an adapter with {name}="):
        sam21convert.inspect(written(tmp_path / "lora", **{name: {"some": 1}}))
    with pytest.raises(RefusedError, match="is a PEFT adapter, not a model"):
        sam21convert.inspect(written(tmp_path / "without", **{name: None}))


def test_a_field_of_a_newer_peft_is_refused_unless_it_is_empty(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"use_tomorrow=\[1, 2\] is a setting that this tool"):
        sam21convert.inspect(written(tmp_path / "lora", use_tomorrow=[1, 2]))
    nothing: tuple[Any, ...] = (None, False, {}, [], "", 0)
    for number, empty in enumerate(nothing):
        with pytest.raises(RefusedError, match="is a PEFT adapter, not a model"):
            sam21convert.inspect(written(tmp_path / f"empty-{number}", use_tomorrow=empty))


# What each leaves as it is. The values are other than the defaults.
NOTHING: dict[str, Any] = {
    "auto_mapping": {"base_model_class": "Sam2Model"},
    "base_model_name_or_path": "somewhere",
    "bias": "all",
    "corda_config": {"corda_method": "kpm"},
    "ensure_weight_tying": True,
    "eva_config": {"rho": 1.0},
    "exclude_modules": ["neck"],
    "fan_in_fan_out": True,
    "inference_mode": True,
    "layers_pattern": "blocks",
    "layers_to_transform": [0],
    "loftq_config": {"loftq_bits": 4},
    "lora_dropout": 0.5,
    "lora_ga_config": {"scale": "stable"},
    "megatron_config": {"hidden_size": 8},
    "megatron_core": "megatron",
    "modules_to_save": ["neck"],
    "peft_version": "9.9",
    "qalora_group_size": 8,
    "revision": "main",
    "runtime_config": {"ephemeral_gpu_offload": True},
    "target_modules": ".*qkv",
    "task_type": "FEATURE_EXTRACTION",
    "velora_config": {"num_groups": 4},
}


def test_the_other_fields_change_nothing(tmp_path: Path, base: Path) -> None:
    assert set(NOTHING) == IGNORED
    outs = []
    for number, settings in enumerate(({}, NOTHING, {"lora_alpha": 5})):
        out = tmp_path / f"out-{number}"
        lora = written(tmp_path / f"lora-{number}", **settings)
        sam21convert.convert(lora, out, base=base, to="hf-image")
        outs.append((out / "model.safetensors").read_bytes())
    assert outs[0] == outs[1] != outs[2]


@pytest.mark.parametrize(
    "settings",
    [
        {"init_lora_weights": False},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "eva", "eva_config": peft.EvaConfig()},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": "mica"},
        {"velora_config": peft.VeloraConfig(num_groups=4)},
        {
            "bias": "lora_only",
            "lora_dropout": 0.1,
            "target_modules": ["qkv"],
            "layers_pattern": "blocks",
            "layers_to_transform": [0, 1],
        },
    ],
    ids=lambda settings: str(next(iter(settings.items()))),
)
def test_plain_adapters_are_merged_as_peft_does(
    tmp_path: Path, base: Path, settings: dict[str, Any]
) -> None:
    model = train(base, tmp_path / "lora", **settings)
    before = load_file(base / "model.safetensors")
    sam21convert.convert(tmp_path / "lora", tmp_path / "out", base=base, to="hf-image")
    assert farthest(tmp_path / "out", before) > 1000 * UNIT  # negative control
    rank = 4
    assert farthest(tmp_path / "out", model.merge_and_unload().state_dict()) < 2 * rank * UNIT


def rounding(weight: torch.Tensor, rank: int) -> float:
    """How far rounding moves what pissa or olora takes off, relative to the largest value.

    The singular vectors turn by the error of the decomposition, n u |W|, divided by the gap between
    the singular values that are taken and those that are left (Wedin), and so does PEFT's result
    from one machine or number of threads to the next.
    """
    values = torch.linalg.svdvals(weight.double())
    gap = float(values[rank - 1] - values[rank])
    turn = max(weight.shape) * UNIT * float(values[0]) * (1 + float(values[rank - 1]) / gap)
    return turn / float(weight.abs().max())


AGREED = 1e-6  # of the largest value of a tensor: how near to PEFT a merge is promised to be
STARTED: dict[str, dict[str, Any]] = {
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "OLoRA, rank-stabilised": {"init_lora_weights": "OLoRA", "use_rslora": True, "lora_alpha": 2},
    "pissa, dora": {"init_lora_weights": "pissa", "use_dora": True},
    "pissa, patterns": {
        "init_lora_weights": "pissa",
        "rank_pattern": {"qkv": 2},
        "alpha_pattern": {"q_proj": 3},
    },
    "pissa, of a video model": {"init_lora_weights": "pissa", "target_modules": MEMORY},
    "olora, of a video model": {"init_lora_weights": "olora", "target_modules": MEMORY},
}


@pytest.mark.parametrize("case", STARTED)
def test_the_start_is_taken_off_as_peft_does(tmp_path: Path, base: Path, case: str) -> None:
    settings, to = STARTED[case], "hf-video" if "video" in case else "hf-image"
    if "video" in case:
        sam21convert.convert(base.with_name("base.pt"), base := tmp_path / "video")
    model = train(base, tmp_path / "lora", **settings)
    merged = model.merge_and_unload().state_dict()
    done = sam21convert.convert(tmp_path / "lora", tmp_path / "out", base=base, to=to)
    assert any(f"begun as {case.lower()[:5]}, which is taken off" in note for note in done.notes)
    ours = load_file(tmp_path / "out" / "model.safetensors")
    for name, theirs in merged.items():
        off = float((ours[name] - theirs).abs().max() / theirs.abs().max())
        assert off <= AGREED, name
    plain = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    plain["init_lora_weights"] = True  # negative control: without the start it is another model
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(plain))
    sam21convert.convert(tmp_path / "lora", tmp_path / "plain", base=base, to=to)
    assert farthest(tmp_path / "plain", merged) > 1e4 * UNIT


def test_a_rank_above_that_of_the_weight(tmp_path: Path, base: Path) -> None:
    """PEFT then keeps as many directions as there are; nothing of the weight is left."""
    layers = {"target_modules": LAYERS[:1], "lora_alpha": 16}
    for start in ("pissa", "olora"):
        lora, out = tmp_path / start, tmp_path / f"{start}-out"
        model = train(base, lora, init_lora_weights=start, r=16, **layers)
        shape = load_file(lora / "adapter_model.safetensors")[
            f"base_model.model.{QKV}.lora_A.weight"
        ]
        assert shape.shape == (8, 8)
        sam21convert.convert(lora, out, base=base, to="hf-image")
        assert farthest(out, model.merge_and_unload().state_dict()) < 24 * UNIT
    config = json.loads((lora / "adapter_config.json").read_text())
    config["init_lora_weights"] = True  # negative control: only a start is cut off like that
    (lora / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UnreadableError, match="states rank 16"):
        sam21convert.convert(lora, tmp_path / "x", base=base, to="hf-image")


def test_another_number_of_threads_gives_another_rounding(tmp_path: Path, base: Path) -> None:
    """Of PEFT's start as of ours, by no more than the decomposition allows."""
    model = train(base, tmp_path / "lora", init_lora_weights="pissa")
    theirs = model.merge_and_unload().state_dict()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        sam21convert.convert(tmp_path / "lora", tmp_path / "out", base=base, to="hf-image")
    finally:
        torch.set_num_threads(threads)
    before = load_file(base / "model.safetensors")
    for name, ours in load_file(tmp_path / "out" / "model.safetensors").items():
        off = float((ours - theirs[name]).abs().max() / theirs[name].abs().max())
        changed = name.removesuffix(".weight").endswith(tuple(LAYERS)) and ours.ndim == 2
        assert off <= (rounding(before[name], 4) if changed else 0), name


@pytest.mark.parametrize(
    "start", ["pissa_niter_4", "corda", "loftq", "lora_ga", "pissa2", "tomorrow", 3, ["pissa"]]
)
def test_a_start_that_cannot_be_computed_again_is_refused(tmp_path: Path, start: object) -> None:
    lora = written(tmp_path / "lora", init_lora_weights=start)
    with pytest.raises(RefusedError, match="init_lora_weights=") as refusal:
        sam21convert.inspect(lora)
    assert str(start).strip("[]") in refusal.value.message
    assert refusal.value.hint is not None
    assert "model.merge_and_unload().save_pretrained(OUT)" in refusal.value.hint


def test_pissa_with_a_number_of_iterations_is_not_the_same_twice(base: Path) -> None:
    """Why it is refused: PEFT draws random numbers for it, at loading too."""
    rests = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=4, target_modules=["qkv"], init_lora_weights="pissa_niter_4")
        model = peft.get_peft_model(Sam2Model.from_pretrained(base), config)
        rests.append(model.state_dict()[f"base_model.model.{QKV}.base_layer.weight"])
    assert float((rests[0] - rests[1]).abs().max()) > 1e4 * UNIT


def test_the_ways_out_of_a_refusal_lead_out(tmp_path: Path, base: Path) -> None:
    """Both hints, and PEFT's own conversion of an adapter to a plain one."""
    model = train(base, tmp_path / "niter", init_lora_weights="pissa_niter_2")
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    sam21convert.convert(tmp_path / "merged", tmp_path / "out", to="hf-image")
    train(base, tmp_path / "bias", target_modules=["qkv"], lora_bias=True)
    with pytest.raises(RefusedError, match="with lora_bias=True") as refusal:
        sam21convert.convert(tmp_path / "bias", tmp_path / "x", base=base, to="hf-image")
    assert refusal.value.hint is not None
    assert "PeftModel.from_pretrained(model, ADAPTER).merge_and_unload()" in refusal.value.hint
    loaded = peft.PeftModel.from_pretrained(Sam2Model.from_pretrained(base), tmp_path / "bias")
    loaded.merge_and_unload().save_pretrained(tmp_path / "with-bias")
    sam21convert.convert(tmp_path / "with-bias", tmp_path / "out2", to="hf-image")


def test_peft_converts_a_start_to_a_plain_adapter(tmp_path: Path, base: Path) -> None:
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=["qkv"], init_lora_weights="pissa_niter_2")
    model = peft.get_peft_model(Sam2Model.from_pretrained(base), config)
    start = tmp_path / "pissa_start"
    model.save_pretrained(str(start))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.add_(0.01 * torch.randn_like(parameter))
    lora = tmp_path / "lora"
    model.save_pretrained(str(lora), path_initial_model_for_weight_conversion=str(start))
    sam21convert.convert(lora, tmp_path / "out", base=base, to="hf-image")
    rank, size = 8, 10  # twice the factors, whose products are larger than the weight
    merged = model.merge_and_unload().state_dict()
    assert farthest(tmp_path / "out", merged) < size * rank * UNIT


def test_a_start_that_rounding_decides_is_refused(tmp_path: Path) -> None:
    """All singular values of the weight are equal: which of them come first is chance."""
    tensors = state_dict()
    weight = tensors["image_encoder.trunk.blocks.0.attn.qkv.weight"]
    weight[:] = torch.eye(*weight.shape)
    base = official_pt(tmp_path / "base.pt", tensors)
    for start, known in (("pissa", False), ("olora", True)):
        lora, out = written(tmp_path / start, init_lora_weights=start), tmp_path / f"{start}.pt"
        if known:
            assert sam21convert.convert(lora, out, base=base).verified
            continue
        with pytest.raises(RefusedError, match="its first 2 directions are not distinct"):
            sam21convert.convert(lora, out, base=base)
        assert not out.exists()


def test_a_start_is_for_linear_layers_and_a_positive_alpha(tmp_path: Path, base: Path) -> None:
    lora = written(tmp_path / "lora", init_lora_weights="pissa", lora_alpha=-1)
    with pytest.raises(UnreadableError, match="needs a positive lora_alpha"):
        sam21convert.convert(lora, tmp_path / "out", base=base, to="hf-image")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "init_lora_weights": "olora"}
    (lora / "adapter_config.json").write_text(json.dumps(config))
    embedding = "base_model.model.prompt_encoder.point_embed"
    tensors = {"lora_embedding_A": torch.ones(2, 4), "lora_embedding_B": torch.ones(64, 2)}
    named = {f"{embedding}.{kind}": tensor for kind, tensor in tensors.items()}
    save_file(named, lora / "adapter_model.safetensors")
    with pytest.raises(UnreadableError, match="is not a linear layer"):
        sam21convert.convert(lora, tmp_path / "out", base=base, to="hf-image")
