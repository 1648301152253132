"""State dicts with a LoRA still inside: merged as the program that made them computes, or refused.

As PEFT's ``state_dict()`` holds it, around the whole model or one part of it, and as SAMed does.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from transformers import Sam2Model

import sam21convert
from sam21convert.commands.main import main
from sam21convert.errors import RefusedError, UnreadableError, UsageError
from sam21convert.prediction.builders import build_sam2_video_predictor

from ..support.checkpoints import DEBUG, official_pt, state_dict

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

UNIT = 2.0**-24  # unit roundoff of float32
RANK = 4
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_pt(tmp_path_factory.mktemp("base") / "base.pt")


def moved(model: Any) -> Any:
    """All that would be trained, drawn at random."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.normal_(0, 0.1)
    return model


def whole_image_model(base: Path, **settings: Any) -> Any:
    folder = base.with_name("image")
    if not folder.exists():
        sam21convert.convert(base, folder, to="hf-image")
    config = peft.LoraConfig(**{"r": RANK, "lora_alpha": 6, "target_modules": ["qkv"], **settings})
    return moved(peft.get_peft_model(Sam2Model.from_pretrained(folder), config))


def one_official_part(base: Path, part: str) -> Any:
    """The official model with PEFT around one part of it."""
    model = build_sam2_video_predictor(DEBUG, str(base), device="cpu")
    for parameter in model.parameters():
        parameter.requires_grad = False
    config = peft.LoraConfig(r=RANK, lora_alpha=6, target_modules=["qkv", "q_proj"])
    setattr(model, part, peft.get_peft_model(getattr(model, part), config))
    return moved(model)


def assert_near(ours: Tensors, theirs: Tensors, products: int = RANK) -> None:
    """Equal to within the rounding of a sum of some products."""
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        off = float((ours[name] - tensor).abs().max())
        assert off <= (products + 3) * UNIT * float(tensor.abs().max()), name


@pytest.mark.parametrize("container", ["pt", "safetensors", "nested"])
def test_the_state_dict_of_a_model_of_peft(tmp_path: Path, base: Path, container: str) -> None:
    model = whole_image_model(base)
    path = tmp_path / f"lora.{'safetensors' if container == 'safetensors' else 'pt'}"
    tensors = model.state_dict()
    if container == "safetensors":
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
    else:
        torch.save({"epoch": 3, "state_dict": tensors} if container == "nested" else tensors, path)
    done = sam21convert.convert(path, tmp_path / "out", to="hf-image", lora_alpha=6)
    ours = load_file(tmp_path / "out" / "model.safetensors")
    assert_near(ours, model.merge_and_unload().state_dict())
    assert any("was merged with the scale 6 / rank" in note for note in done.notes)
    sam21convert.convert(path, tmp_path / "other", to="hf-image", lora_alpha=8)
    other = load_file(tmp_path / "other" / "model.safetensors")
    with pytest.raises(AssertionError):  # negative control: another alpha is another model
        assert_near(other, ours)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"target_modules": ["point_embed", "conv1"], "r": 3},
        {"modules_to_save": ["prompt_encoder"], "bias": "all"},
        {"init_lora_weights": "pissa", "lora_alpha": 4},
    ],
    ids=["dora", "embeddings and convolutions", "whole modules", "pissa"],
)
def test_what_else_peft_keeps_in_it(tmp_path: Path, base: Path, settings: dict[str, Any]) -> None:
    """A start such as pissa is taken off there already: what stands in the file is the rest."""
    model = whole_image_model(base, **settings)
    torch.save(model.state_dict(), tmp_path / "lora.pt")
    alpha = settings.get("lora_alpha", 6)
    sam21convert.convert(tmp_path / "lora.pt", tmp_path / "out", to="hf-image", lora_alpha=alpha)
    ours = load_file(tmp_path / "out" / "model.safetensors")
    assert_near(ours, model.merge_and_unload().state_dict(), products=32)


@pytest.mark.parametrize("prefix", ["model.", "module._orig_mod.", "sam."])
def test_what_trainers_put_around_it(tmp_path: Path, base: Path, prefix: str) -> None:
    """Lightning, torch.compile and DDP around PEFT around the image encoder of transformers."""
    model = Sam2Model.from_pretrained(whole_image_model(base).get_base_model().name_or_path)
    config = peft.LoraConfig(r=RANK, lora_alpha=6, target_modules=["qkv"])
    model.vision_encoder = moved(peft.get_peft_model(model.vision_encoder, config))
    tensors = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": tensors, "epoch": 1}, tmp_path / "lora.ckpt")
    assert sam21convert.inspect(tmp_path / "lora.ckpt").wrappers[0] == "state_dict"
    sam21convert.convert(tmp_path / "lora.ckpt", tmp_path / "out", to="hf-image", lora_alpha=6)
    model.vision_encoder = model.vision_encoder.merge_and_unload()
    assert_near(load_file(tmp_path / "out" / "model.safetensors"), model.state_dict())


def test_a_folder_of_accelerate_and_a_name_other_than_default(tmp_path: Path, base: Path) -> None:
    """``inject_adapter_in_model`` puts nothing before the names."""
    model = whole_image_model(base).unload()
    config = peft.LoraConfig(r=RANK, lora_alpha=6, target_modules=["qkv"])
    model = moved(peft.inject_adapter_in_model(config, model, adapter_name="cats"))
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (tmp_path / "state").mkdir()
    save_file(tensors, tmp_path / "state" / "model.safetensors")
    sam21convert.convert(tmp_path / "state", tmp_path / "out", to="hf-image", lora_alpha=6)
    factors = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
    ours = load_file(tmp_path / "out" / "model.safetensors")
    layer = "vision_encoder.backbone.blocks.0.attn.qkv"
    left, right = (factors[f"{layer}.lora_{one}.cats.weight"] for one in "BA")
    wanted = tensors[f"{layer}.base_layer.weight"] + 6 / RANK * left @ right
    assert_near({layer: ours[f"{layer}.weight"]}, {layer: wanted})
    with pytest.raises(RefusedError, match="still inside") as refusal:
        sam21convert.convert_state_dict(tensors, to="official")
    assert str(refusal.value.hint).startswith("torch.save(state_dict, 'lora.pt'); `convert(")


@pytest.mark.parametrize("part", ["image_encoder", "sam_mask_decoder"])
def test_peft_around_one_part_of_the_official_model(tmp_path: Path, base: Path, part: str) -> None:
    model = one_official_part(base, part)
    official_pt(tmp_path / "lora.pt", model.state_dict())
    assert any(f"{part}.base_model.model." in name for name in model.state_dict())
    sam21convert.convert(tmp_path / "lora.pt", tmp_path / "out.pt", lora_alpha=6)
    setattr(model, part, getattr(model, part).merge_and_unload())
    assert_near(torch.load(tmp_path / "out.pt")["model"], dict(model.state_dict()))


def samed(parts: str = "qv", rows: Callable[[int, int], int] = lambda out, _: out // 3) -> Tensors:
    """The official model with the layers of SAMed around each qkv."""
    torch.manual_seed(0)
    tensors: Tensors = {}
    for name, tensor in state_dict().items():
        if ".attn.qkv." not in name or not name.startswith("image_encoder.trunk."):
            tensors[name] = tensor
            continue
        tensors[name.replace(".qkv.", ".qkv.qkv.")] = tensor
        if tensor.ndim == 2:
            height = rows(*tensor.shape)
            for one in parts:
                at = name.replace("qkv.weight", "qkv.linear")
                tensors[f"{at}_a_{one}.weight"] = 0.1 * torch.randn(RANK, tensor.shape[1])
                tensors[f"{at}_b_{one}.weight"] = 0.1 * torch.randn(height, RANK)
    return tensors


class SamedLayer(torch.nn.Module):
    """``_LoRA_qkv`` of SAMed, in its own words: q gets the first rows, v the last."""

    def __init__(self, tensors: Tensors, name: str) -> None:
        super().__init__()
        self.tensors = {
            key.removeprefix(f"{name}."): tensor
            for key, tensor in tensors.items()
            if key.startswith(f"{name}.")
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = self.tensors
        qkv = x @ own["qkv.weight"].T + own["qkv.bias"]
        for part in "qkv":
            if f"linear_a_{part}.weight" in own:
                new = x @ own[f"linear_a_{part}.weight"].T @ own[f"linear_b_{part}.weight"].T
                dim = new.shape[-1]
                start = {"q": 0, "k": dim, "v": qkv.shape[-1] - dim}[part]
                qkv[..., start : start + dim] += new
        return qkv


@pytest.mark.parametrize(
    ("parts", "rows"),
    [("qv", lambda out, _: out // 3), ("qkv", lambda out, _: out // 3), ("qv", lambda _, dim: dim)],
    ids=["q and v", "q, k and v", "as many rows as columns, in a block that widens"],
)
def test_the_layers_of_samed(tmp_path: Path, parts: str, rows: Callable[[int, int], int]) -> None:
    tensors = samed(parts, rows)
    done = sam21convert.convert(official_pt(tmp_path / "lora.pt", tensors), tmp_path / "out.pt")
    assert any("the layers of SAMed, was merged with the scale 1" in note for note in done.notes)
    ours = torch.load(tmp_path / "out.pt")["model"]
    changed = [name for name in ours if name.endswith(".attn.qkv.weight") and "trunk" in name]
    assert len(changed) == 7
    for name, tensor in state_dict().items():
        if name not in changed:
            assert torch.equal(ours[name], tensor), name
            continue
        layer = SamedLayer(tensors, name.removesuffix(".weight"))
        wanted = (layer(torch.eye(tensor.shape[1])) - layer(torch.zeros(tensor.shape[1]))).T
        assert_near({name: ours[name]}, {name: wanted}, products=2 * RANK)
        assert not torch.equal(ours[name], tensor)  # negative control
    assert not any("linear_a" in name for name in ours)


def test_the_layers_of_samed_around_the_weight_and_with_an_alpha(tmp_path: Path) -> None:
    """Some keep the weight as ``qkv.weight``; others have an alpha, which has to be given."""
    tensors = samed()
    flat = {name.replace(".qkv.qkv.", ".qkv."): tensor for name, tensor in tensors.items()}
    outs = []
    for number, (named, alpha) in enumerate(
        ((tensors, None), (flat, None), (flat, RANK), (flat, 9))
    ):
        path = official_pt(tmp_path / f"{number}.pt", named)
        sam21convert.convert(path, tmp_path / f"out-{number}.pt", lora_alpha=alpha)
        outs.append((tmp_path / f"out-{number}.pt").read_bytes())
    assert outs[0] == outs[1] == outs[2] != outs[3]


def follow(hint: str, out: Path) -> int:
    """Run the command in a hint, as it is printed."""
    found = re.search(r"sam21convert (convert .+ OUT(?: --lora-alpha \S+)?) merges", hint)
    assert found is not None, hint
    command = shlex.split(found[1])
    return (
        CliRunner().invoke(main, [str(out) if one == "OUT" else one for one in command]).exit_code
    )


@pytest.mark.parametrize("kind", ["peft", "samed"])
def test_the_hint_of_every_refusal_merges_it(tmp_path: Path, base: Path, kind: str) -> None:
    tensors = samed() if kind == "samed" else one_official_part(base, "image_encoder").state_dict()
    path = official_pt(tmp_path / "my lora.pt", tensors)
    found = sam21convert.inspect(path)
    assert (found.dialect, found.generation, found.exit_code) == ("official", "2.1", 0)
    assert found.tensors == len(state_dict())
    by = "SAMed" if kind == "samed" else "PEFT"
    [problem] = found.problems
    assert problem.startswith("LoRA of rank 4, on ")
    assert f"still inside, in the layers of {by}" in problem
    checked = sam21convert.validate(path)
    assert (checked.ok, checked.problems) == (False, (problem,))
    asked = CliRunner().invoke(main, ["inspect", str(path)])
    assert follow(asked.output, tmp_path / "first.pt") == 0
    with pytest.raises(RefusedError, match="still inside") as refusal:
        sam21convert.load_model(str(path))
    printed = CliRunner().invoke(main, ["diff", str(path), str(base)])
    assert printed.exit_code == refusal.value.exit_code == 3
    assert follow(printed.output, tmp_path / "second.pt") == 0
    assert sam21convert.validate(tmp_path / "second.pt").ok


def test_the_missing_alpha_is_asked_for(tmp_path: Path, base: Path) -> None:
    path = tmp_path / "lora.pt"
    official_pt(path, one_official_part(base, "image_encoder").state_dict())
    answer = CliRunner().invoke(main, ["convert", str(path), str(tmp_path / "out.pt")])
    assert (answer.exit_code, (tmp_path / "out.pt").exists()) == (3, False)
    assert "the file does not tell its alpha" in answer.output
    assert "hint: --lora-alpha 8 if the training used PEFT's default" in answer.output
    default = peft.LoraConfig(target_modules=["qkv"]).lora_alpha
    assert default == 8
    command = ["convert", str(path), str(tmp_path / "out.pt"), "--lora-alpha", "8"]
    assert CliRunner().invoke(main, command).exit_code == 0


def test_an_alpha_that_has_no_use_is_refused(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UsageError, match="`lora_alpha` is not needed, as there is no LoRA in it"):
        sam21convert.convert(base, tmp_path / "out.pt", lora_alpha=8)
    for alpha in (0, float("nan"), float("inf"), 1e10):
        with pytest.raises(UsageError, match="cannot be the alpha of a LoRA"):
            sam21convert.convert(base, tmp_path / "out.pt", lora_alpha=alpha)


def test_parity_does_not_run_it(tmp_path: Path) -> None:
    path = official_pt(tmp_path / "lora.pt", samed())
    command = ["convert", str(path), str(tmp_path / "out.pt"), "--parity"]
    answer = CliRunner().invoke(main, command)
    assert (answer.exit_code, (tmp_path / "out.pt").exists()) == (2, False)
    assert "cannot run a model with a LoRA inside" in answer.output


@pytest.mark.parametrize(
    "config",
    [
        peft.LoHaConfig(r=2, target_modules=["qkv"]),
        peft.IA3Config(target_modules=["qkv"], feedforward_modules=[]),
        peft.OFTConfig(r=0, oft_block_size=4, target_modules=["qkv"]),
        peft.LoraConfig(r=2, target_modules=["qkv"], lora_bias=True),
    ],
    ids=lambda config: str(config.peft_type.value),
)
def test_other_adapters_of_peft_are_refused_by_name(
    tmp_path: Path, base: Path, config: Any
) -> None:
    model = peft.get_peft_model(whole_image_model(base).unload(), config)
    torch.save(model.state_dict(), tmp_path / "inside.pt")
    with pytest.raises(RefusedError, match=r"base_layer|lora_B.default.bias") as caught:
        sam21convert.inspect(tmp_path / "inside.pt")
    assert "merge_and_unload" in str(caught.value.hint)


def test_base_completes_a_part_with_a_lora(tmp_path: Path, base: Path) -> None:
    """Only the trained part was saved; the rest is that of the base. The base itself needs none."""
    tensors = {n: t for n, t in samed().items() if n.startswith("image_encoder.")}
    part = official_pt(tmp_path / "part.pt", tensors)
    sam21convert.convert(part, tmp_path / "out.pt", base=base)
    sam21convert.convert(official_pt(tmp_path / "whole.pt", samed()), tmp_path / "two.pt")
    one, two = (torch.load(tmp_path / name)["model"] for name in ("out.pt", "two.pt"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(RefusedError, match="still inside"):
        sam21convert.convert(base, tmp_path / "x.pt", base=tmp_path / "whole.pt")


LAYER = "image_encoder.trunk.blocks.0.attn.qkv"


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        (
            {f"{LAYER}.lora_A.{n}.weight": torch.ones(2, 8) for n in ("one", "two")},
            RefusedError,
            "holds 2 adapters, one, two, and does not tell which",
        ),
        (
            {f"{LAYER}.lora_A": torch.ones(2, 8), f"{LAYER}.lora_B": torch.ones(24, 2)},
            RefusedError,
            "named as loralib does",
        ),
        (
            {f"{LAYER}.lora_A.default.weight": torch.ones(2, 8)},
            RefusedError,
            "has lora_A, which this tool cannot merge",
        ),
        (
            {
                f"{LAYER}.lora_A.default.weight": torch.ones(2, 8),
                f"{LAYER}.lora_B.default.weight": torch.ones(24, 3),
            },
            UnreadableError,
            "do not go together",
        ),
        (
            {
                f"{LAYER}.lora_A.default.weight": torch.ones(2, 8),
                f"{LAYER}.base_layer.weight": torch.ones(24, 8),
            },
            UnreadableError,
            "another tensor are both",
        ),
        ({f"{LAYER}.linear_a_q.weight": torch.ones(2, 8)}, UnreadableError, "has no counterpart"),
        (
            {
                f"{LAYER}.linear_a_q.weight": torch.ones(2, 8),
                f"{LAYER}.linear_b_q.weight": torch.ones(9, 2),
            },
            UnreadableError,
            "do not go together",
        ),
        (
            {
                "some.linear_a_q.weight": torch.ones(2, 8),
                "some.linear_b_q.weight": torch.ones(8, 2),
            },
            RefusedError,
            "without the weight some.weight",
        ),
    ],
)
def test_what_cannot_be_merged_is_refused(
    tmp_path: Path, more: Tensors, error: type[Exception], words: str
) -> None:
    path = official_pt(tmp_path / "lora.pt", {**state_dict(), **more})
    with pytest.raises(error, match=words):
        sam21convert.inspect(path)
