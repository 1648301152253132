"""LoRA adapters: what PEFT saves is merged as PEFT merges it, or refused for what it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import Sam2Model, Sam2VideoModel

import sam21convert
from sam21convert.checkpoint.detect import GENERATION_TENSORS
from sam21convert.commands.main import main
from sam21convert.errors import (
    MismatchError,
    RefusedError,
    Sam21ConvertError,
    UnreadableError,
    UsageError,
)
from sam21convert.io.data import cast as arrays
from sam21convert.io.data.cast import from_float32, to_float32
from sam21convert.prediction.builders import build_sam2_video_predictor

from ..support.checkpoints import DEBUG, DEBUG_20, official_pt, state_dict
from ..support.rounding import beyond_rounding, rounding

pytestmark = [  # PEFT asks transformers by a name of yesterday; a pattern of ours fits no layer
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The following rank_pattern keys:RuntimeWarning"),
]

UNIT = 2.0**-24  # unit roundoff of float32
QKV = "vision_encoder.backbone.blocks.0.attn.qkv"
OFFICIAL_QKV = "image_encoder.trunk.blocks.0.attn.qkv"

# What is trained in the wild, and a case for each rule of how it is merged.
CASES: Mapping[str, dict[str, Any]] = {
    "attention": {"target_modules": ["q_proj", "v_proj", "qkv"], "lora_alpha": 3},
    "rank-stabilised": {"target_modules": ["qkv"], "use_rslora": True, "r": 3},
    "patterns": {
        "target_modules": ["qkv", "proj_in", "proj_out"],
        "rank_pattern": {"lp.proj_in": 9, "mlp.proj_in": 5, "^vision_encoder.*qkv": 1},
        "alpha_pattern": {r"blocks\.1\.mlp\.proj_\w+": 7, "proj_in": 1},
    },
    "convolutions": {
        "target_modules": ["feature_projection", "patch_embed.projection", "conv1", "neck.convs.1"]
    },
    "an embedding": {"target_modules": ["point_embed"]},
    "biases": {"target_modules": ["q_proj"], "bias": "lora_only"},
    "all biases": {"target_modules": ["q_proj"], "bias": "all"},
    "whole modules": {
        "target_modules": ["qkv"],
        "modules_to_save": ["prompt_encoder", "object_pointer_proj"],
    },
    "dora": {"target_modules": ["qkv", "patch_embed.projection"], "use_dora": True},
}


class Trained(NamedTuple):
    """An adapter, what it was made for, and what PEFT makes of both."""

    adapter: Path
    base: Path
    merged: dict[str, torch.Tensor]
    exact: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]  # and how far rounding goes


@cache
def official_base(home: Path) -> Path:
    return official_pt(home / "base.pt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """Adapters of PEFT with random factors, by case, model and type of the base."""
    home = tmp_path_factory.mktemp("adapters")

    @cache
    def make(case: str, dialect: str, dtype: str) -> Trained:
        here = home / f"{case}-{dialect}-{dtype}"
        here.mkdir()
        base = here / ("base.pt" if dialect == "official" else "base")
        sam21convert.convert(official_base(home), base, to=dialect, dtype=dtype)  # type: ignore[arg-type]
        model = load(base, dialect)
        wrapped = peft.get_peft_model(model, peft.LoraConfig(**{"r": 2, **CASES[case]}))
        randomise(wrapped)
        wrapped.save_pretrained(str(here / "lora"))
        exact = {
            name: exactly(module)
            for name, module in model.named_modules()
            if isinstance(module, peft.tuners.lora.LoraLayer)
        }
        return Trained(here / "lora", base, wrapped.merge_and_unload().state_dict(), exact)

    def get(case: str, dialect: str = "hf-video", dtype: str = "float32") -> Trained:
        return make(case, dialect, dtype)

    return get


def load(base: Path, dialect: str) -> Any:
    """The model that an adapter is made for: of transformers, or with the official names."""
    if dialect == "official":
        return build_sam2_video_predictor(DEBUG, str(base), device="cpu")
    model_class = Sam2Model if dialect == "hf-image" else Sam2VideoModel
    return model_class.from_pretrained(base).eval()


def randomise(model: torch.nn.Module) -> None:
    """PEFT begins with B = 0, which changes nothing: draw all that would be trained."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.normal_(0, 0.5)


def exactly(module: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """W + scale * B A in float64, and how far any float32 computation of it may be from that.

    Adding up r products is off by at most r u / (1 - r u) of the sum of their magnitudes, in any
    order (Higham, Accuracy and Stability, 3.1); scaling and adding W round once more each, as does
    the scale itself. For DoRA, the length of a row of n adds (n / 2 + 4) u to that, relatively.
    """
    weight = module.get_base_layer().weight.double().numpy()
    [scale] = module.scaling.values()
    if isinstance(module, peft.tuners.lora.Embedding):
        left = module.lora_embedding_A["default"].double().numpy().T
        right = module.lora_embedding_B["default"].double().numpy().T
    else:
        left, right = (
            pair["default"].weight.double().numpy() for pair in (module.lora_B, module.lora_A)
        )
    rank = len(right)
    left, right = left.reshape(len(weight), rank), right.reshape(rank, -1)
    rows = weight.reshape(len(weight), -1) + scale * left @ right
    slack = (rank + 3) * UNIT * (scale * abs(left) @ abs(right)) + 2 * UNIT * abs(rows)
    if module.use_dora["default"]:
        magnitude = module.lora_magnitude_vector["default"].weight.double().numpy().reshape(-1, 1)
        lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
        off = np.sqrt(np.square(slack).sum(axis=1, keepdims=True)) / lengths
        rows, slack = (abs(magnitude / lengths) * one for one in (rows, slack))
        rows = np.sign(magnitude) * rows
        slack = 1.01 * (slack + abs(rows) * (off + (right.shape[1] / 2 + 4) * UNIT))
    return rows.reshape(weight.shape), slack.reshape(weight.shape)


def as_type(values: NDArray[np.float64], dtype: str) -> NDArray[np.float32]:
    """Rounded to a type, which keeps their order."""
    with np.errstate(over="ignore"):
        small = np.ascontiguousarray(values, "<f4")
    return to_float32(from_float32(small.reshape(-1), dtype), dtype).reshape(values.shape)


def assert_merged(path: Path, case: Trained, dtype: str = "F32") -> None:
    """What was computed is within rounding of what is exact, and of PEFT's; the rest is equal."""
    file = path / "model.safetensors"
    ours = load_file(file) if path.is_dir() else torch.load(path)["model"]
    assert ours.keys() == case.merged.keys()
    for name, tensor in ours.items():
        module = name.removesuffix(".weight")
        theirs = case.merged[name]
        assert tensor.dtype == theirs.dtype, name
        if module == name or module not in case.exact:
            assert torch.equal(tensor, theirs), name
            continue
        exact, slack = case.exact[module]
        low, high = as_type(exact - slack, dtype), as_type(exact + slack, dtype)
        for found in (tensor.float().numpy(), theirs.float().numpy()):
            assert ((low <= found) & (found <= high)).all(), name


@pytest.mark.parametrize(
    ("case", "dialect"), [*((case, "hf-video") for case in CASES), ("attention", "official")]
)
def test_the_merge_is_that_of_peft(
    tmp_path: Path, trained: Callable[..., Trained], case: str, dialect: str
) -> None:
    made = trained(case, dialect)
    assert made.exact
    out = tmp_path / made.base.name
    assert sam21convert.convert(made.adapter, out, base=made.base).verified
    assert_merged(out, made)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_type_of_the_base_stays(
    tmp_path: Path, trained: Callable[..., Trained], dtype: str
) -> None:
    made = trained("attention", dtype=dtype)
    sam21convert.convert(made.adapter, tmp_path / "out", base=made.base)
    assert_merged(tmp_path / "out", made, {"float16": "F16", "bfloat16": "BF16"}[dtype])
    cast = tmp_path / "cast"
    sam21convert.convert(trained("attention").adapter, cast, base=made.base, dtype="float32")
    assert {t.dtype for t in load_file(cast / "model.safetensors").values()} == {torch.float32}


def test_whole_modules_take_the_type_of_the_base(
    tmp_path: Path, trained: Callable[..., Trained]
) -> None:
    base = trained("whole modules", dtype="bfloat16").base
    made = trained("whole modules")
    sam21convert.convert(made.adapter, tmp_path / "out", base=base)
    found = load_file(tmp_path / "out" / "model.safetensors")["prompt_encoder.point_embed.weight"]
    assert torch.equal(found, made.merged["prompt_encoder.point_embed.weight"].bfloat16())


@pytest.mark.parametrize("case", ["attention", "convolutions", "an embedding", "whole modules"])
@pytest.mark.parametrize("to", ["official", "mlx"])
def test_base_and_output_may_be_of_any_dialect(
    tmp_path: Path, trained: Callable[..., Trained], case: str, to: str
) -> None:
    """An adapter for transformers, merged into an official file and into one of MLX."""
    made = trained(case)
    base, out = tmp_path / "base.safetensors", tmp_path / "out.safetensors"
    sam21convert.convert(made.base, base, to=to)
    sam21convert.convert(made.adapter, out, base=base, to=to)
    sam21convert.convert(made.adapter, tmp_path / "one", base=made.base)
    sam21convert.convert(out, tmp_path / "other", to="hf-video")
    names = [tmp_path / side / "model.safetensors" for side in ("one", "other")]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_the_merged_model_computes_what_the_adapted_one_does(
    tmp_path: Path, trained: Callable[..., Trained]
) -> None:
    """As nearly as PEFT's own merge does: rounding differs between the three."""
    made = trained("attention", "hf-image")
    sam21convert.convert(made.adapter, tmp_path / "out", base=made.base, to="hf-image")

    def masks(model: torch.nn.Module) -> dict[str, torch.Tensor]:
        drawn = torch.Generator().manual_seed(1)
        found = {}
        for name, point in {"inside": (40.0, 60.0), "corner": (3.0, 5.0)}.items():
            pixels = torch.randn(1, 3, 128, 128, generator=drawn)
            given = model(pixel_values=pixels, input_points=torch.tensor([[[point]]]))
            found[name] = given.pred_masks
        return found

    adapted = peft.PeftModel.from_pretrained(load(made.base, "hf-image"), str(made.adapter))
    theirs = load(made.base, "hf-image")
    theirs.load_state_dict(made.merged)
    ours, before = load(tmp_path / "out", "hf-image"), load(made.base, "hf-image")
    noise, wanted = rounding(theirs, masks), masks(adapted)
    assert beyond_rounding(noise, masks(theirs), wanted) == {}
    assert beyond_rounding(noise, masks(ours), wanted) == {}
    assert beyond_rounding(noise, masks(before), wanted).keys() == wanted.keys()


def adapter(
    folder: Path, tensors: Mapping[str, torch.Tensor] | None = None, **settings: Any
) -> Path:
    """An adapter written by hand: of rank 2, on one layer."""
    folder.mkdir()
    shapes = {f"{QKV}.lora_A.weight": (2, 8), f"{QKV}.lora_B.weight": (24, 2)}
    drawn = {name: torch.randn(shape) for name, shape in shapes.items()}
    named = drawn if tensors is None else tensors
    save_file(
        {
            f"base_model.model.{n}": t.clone(memory_format=torch.contiguous_format)
            for n, t in named.items()
        },
        folder / "adapter_model.safetensors",
    )
    usual = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["qkv"]}
    (folder / "adapter_config.json").write_text(json.dumps({**usual, **settings}))
    return folder


A, B = torch.randn(2, 8), torch.randn(24, 2)
LAYER = {f"{QKV}.lora_A.weight": A, f"{QKV}.lora_B.weight": B}


@pytest.mark.parametrize(
    ("form", "prefix"),
    [
        ("folder", "base_model.model."),
        ("file", "base_model.model."),
        ("bin", "base_model.model."),
        ("folder", ""),
        ("folder", "base_model.model.module.sam."),
        ("named", "base_model.model."),
    ],
)
def test_every_form_of_an_adapter_is_read(tmp_path: Path, form: str, prefix: str) -> None:
    lora = adapter(tmp_path / "lora", LAYER)
    tensors = {f"{prefix}{name}": tensor for name, tensor in LAYER.items()}
    if form == "named":  # as the running model calls them
        tensors = {n.replace(".weight", ".default.weight"): t for n, t in tensors.items()}
    file = lora / "adapter_model.safetensors"
    save_file(tensors, file)
    if form == "bin":
        file.unlink()
        torch.save(tensors, lora / "adapter_model.bin")
    base, out = official_pt(tmp_path / "base.pt"), tmp_path / "out.pt"
    report = sam21convert.convert(file if form == "file" else lora, out, base=base, hashes=True)
    weight = torch.load(out)["model"][f"{OFFICIAL_QKV}.weight"]
    wanted = state_dict()[f"{OFFICIAL_QKV}.weight"] + 2 * (B @ A)
    torch.testing.assert_close(weight, wanted, rtol=0, atol=1e-5)
    assert str(lora / "adapter_config.json") in report.sha256
    assert report.source_dialect == "lora"
    origins = {row["name"]: row["from"] for row in report.tensors}
    assert origins[f"{OFFICIAL_QKV}.weight"] == [f"{base}: {OFFICIAL_QKV}.weight", *tensors]
    assert origins["no_mem_embed"] == [f"{base}: no_mem_embed"]
    assert any("LoRA of rank 2, alpha 4, on 1 layers (qkv)" in note for note in report.notes)


@pytest.mark.parametrize("trained", ["none", "all", "lora_only"])
@pytest.mark.parametrize("saved", [False, True])
def test_trained_biases_that_are_not_in_the_file_are_told(
    tmp_path: Path, trained: str, saved: bool
) -> None:
    tensors = LAYER | ({f"{QKV}.base_layer.bias": torch.randn(24)} if saved else {})
    lora = adapter(tmp_path / "lora", tensors, bias=trained)
    done = sam21convert.convert(lora, tmp_path / "out.pt", base=official_pt(tmp_path / "base.pt"))
    told = [note for note in done.notes if f"biases were trained (bias: {trained})" in note]
    assert len(told) == (trained != "none" and not saved)


def test_fan_in_fan_out_says_nothing_of_the_layers_of_sam_2(tmp_path: Path) -> None:
    base = official_pt(tmp_path / "base.pt")
    name = next(n for n, t in state_dict().items() if t.ndim == 2 and t.shape[0] == t.shape[1])
    side, square = state_dict()[name].shape[0], name.removesuffix(".weight")
    tensors = {
        f"{square}.lora_A.weight": torch.randn(2, side),
        f"{square}.lora_B.weight": torch.randn(side, 2),
    }
    folders = [
        adapter(
            tmp_path / f"lora-{turned}", tensors, fan_in_fan_out=turned, target_modules=[square]
        )
        for turned in (False, True)
    ]
    with pytest.warns(UserWarning, match="fan_in_fan_out"):
        model = peft.PeftModel.from_pretrained(
            build_sam2_video_predictor(DEBUG, str(base), device="cpu"), str(folders[1])
        )
    theirs = model.merge_and_unload().state_dict()[name]
    for folder in folders:
        sam21convert.convert(folder, out := folder.with_suffix(".pt"), base=base)
        torch.testing.assert_close(torch.load(out)["model"][name], theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("ask", [sam21convert.inspect, sam21convert.validate])
def test_an_adapter_alone_is_refused_with_the_command_to_use(
    tmp_path: Path, ask: Callable[[Path], object]
) -> None:
    lora = adapter(tmp_path / "my lora", base_model_name_or_path="facebook/sam2.1-hiera-tiny")
    with pytest.raises(RefusedError, match="LoRA of rank 2, alpha 4, on 1 layers") as refusal:
        ask(lora)
    call = f"`convert('{lora}', OUT, base=hf://facebook/sam2.1-hiera-tiny)` "
    assert refusal.value.hint is not None
    assert refusal.value.hint.startswith(call)
    with pytest.raises(RefusedError, match="is a PEFT adapter, not a model"):
        sam21convert.convert(lora, tmp_path / "out.pt")
    with pytest.raises(RefusedError, match="is a PEFT adapter, not a model"):
        sam21convert.convert(official_pt(tmp_path / "base.pt"), tmp_path / "out.pt", base=lora)


@pytest.mark.parametrize(
    ("settings", "tensors", "error", "words"),
    [
        ({"peft_type": "IA3"}, LAYER, RefusedError, "of type IA3"),
        ({"peft_type": "LOHA"}, LAYER, RefusedError, "of type LOHA"),
        ({"lora_bias": True}, LAYER, RefusedError, "with lora_bias"),
        ({"r": 0}, LAYER, UnreadableError, "r cannot be 0"),
        ({"r": 10**400}, LAYER, UnreadableError, "r cannot be"),
        ({"lora_alpha": "4"}, LAYER, UnreadableError, "lora_alpha cannot be 4"),
        ({"lora_alpha": float("nan")}, LAYER, UnreadableError, "lora_alpha cannot be nan"),
        ({"rank_pattern": {"(": 2}}, LAYER, UnreadableError, "missing"),
        ({"r": 3}, LAYER, UnreadableError, "states rank 3"),
        ({"use_dora": True}, LAYER, UnreadableError, "use_dora"),
        ({}, {f"{QKV}.lora_A.weight": A}, RefusedError, "has lora_A, which this tool cannot merge"),
        ({}, {f"{QKV}.lora_diag": A}, RefusedError, "lora_diag belongs to a variant"),
        ({}, {**LAYER, f"{QKV}.weight": B}, UnreadableError, "both replaced and changed"),
        ({}, {**LAYER, f"{QKV}.lora_A": A}, UnreadableError, "change the same tensor"),
        ({}, {**LAYER, "head.weight": B}, MismatchError, "base has no tensors of these names"),
        (
            {},
            {f"{QKV}.lora_A.weight": B.T, f"{QKV}.lora_B.weight": A.T},
            MismatchError,
            "is .24, 8",
        ),
        ({}, {f"{QKV}.bias": torch.ones(23)}, MismatchError, "in the adapter F32 .23"),
        (
            {},
            {
                "shared_image_embedding.positional_embedding": torch.ones(2, 64),
                "prompt_encoder.shared_embedding.positional_embedding": torch.zeros(2, 64),
            },
            MismatchError,
            "should be equal and differ",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_merged_is_refused_by_name(
    tmp_path: Path,
    settings: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    error: type[Sam21ConvertError],
    words: str,
) -> None:
    lora = adapter(tmp_path / "lora", tensors, **settings)
    with pytest.raises(error, match=words):
        sam21convert.convert(lora, tmp_path / "out.pt", base=official_pt(tmp_path / "base.pt"))
    assert not (tmp_path / "out.pt").exists()


def test_a_base_without_the_changed_part_is_refused(tmp_path: Path) -> None:
    memory = "memory_encoder.feature_projection.bias"
    lora = adapter(tmp_path / "lora", {memory: torch.ones(128)})
    base = tmp_path / "image"
    sam21convert.convert(official_pt(tmp_path / "base.pt"), base, to="hf-image")
    with pytest.raises(MismatchError, match=f"{memory} has no place"):
        sam21convert.convert(lora, tmp_path / "out", base=base, to="hf-image")


def test_factors_without_their_settings_are_refused(tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora")
    shutil.copy(lora / "adapter_model.safetensors", tmp_path / "lora.safetensors")
    with pytest.raises(RefusedError, match="without the settings to merge it"):
        sam21convert.inspect(tmp_path / "lora.safetensors")
    (lora / "adapter_model.safetensors").unlink()
    with pytest.raises(UnreadableError, match=r"without adapter_model\.safetensors"):
        sam21convert.inspect(lora)


def test_the_adapter_stays_as_it_is(tmp_path: Path) -> None:
    lora, base = adapter(tmp_path / "lora"), official_pt(tmp_path / "base.pt")
    before = [file.read_bytes() for file in sorted(lora.iterdir())]
    with pytest.raises(UsageError, match="would apply to the new weights"):
        sam21convert.convert(lora, lora, base=base, overwrite=True)
    with pytest.raises(UsageError, match="is the input"):
        sam21convert.convert(lora, lora / "adapter_model.safetensors", base=base, overwrite=True)
    assert before == [file.read_bytes() for file in sorted(lora.iterdir())]


def test_an_adapter_does_not_go_through_parity(tmp_path: Path) -> None:
    lora, base = adapter(tmp_path / "lora"), official_pt(tmp_path / "base.pt")
    command = ["convert", str(lora), str(tmp_path / "out.pt"), "--base", str(base), "--parity"]
    answer = CliRunner().invoke(main, command)
    assert (answer.exit_code, (tmp_path / "out.pt").exists()) == (2, False)
    assert "cannot run an adapter" in answer.output


def test_the_generation_is_that_of_the_base_or_the_one_asked_for(tmp_path: Path) -> None:
    base = official_pt(tmp_path / "base.pt", state_dict(DEBUG_20))
    lora = adapter(tmp_path / "lora")
    plain = sam21convert.convert(lora, tmp_path / "out.pt", base=base)
    lifted = sam21convert.convert(lora, tmp_path / "up.pt", base=base, generation="2.1")
    assert (plain.generation, lifted.generation) == ("2.0", "2.1")


def test_the_way_down_looks_at_what_is_merged(tmp_path: Path) -> None:
    """Zeros in the base, to which the adapter adds: there is something to lose."""
    base = state_dict()
    for name in GENERATION_TENSORS:
        base[name] = torch.zeros_like(base[name])
    rows, columns = base["obj_ptr_tpos_proj.weight"].shape
    layer = "temporal_positional_encoding_projection_layer"
    tensors = {
        f"{layer}.lora_A.weight": torch.ones(2, columns),
        f"{layer}.lora_B.weight": torch.ones(rows, 2),
    }
    lora, zeros = adapter(tmp_path / "lora", tensors), official_pt(tmp_path / "base.pt", base)
    with pytest.raises(MismatchError, match=r"obj_ptr_tpos_proj\.weight: up to 4"):
        sam21convert.convert(lora, tmp_path / "out.pt", base=zeros, generation="2.0")


def test_large_layers_are_computed_in_blocks_and_alike(
    tmp_path: Path, trained: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trained("dora")
    outs = [tmp_path / "one", tmp_path / "other"]
    for out, block in zip(outs, (1 << 16, 50), strict=True):
        monkeypatch.setattr(arrays, "_BLOCK", block)
        sam21convert.convert(made.adapter, out, base=made.base)
    one, other = (folder / "model.safetensors" for folder in outs)
    assert one.read_bytes() == other.read_bytes()
