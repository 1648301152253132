"""Weights that are not plain floats are named, and the hints lead to plain floats."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import sam21convert
from sam21convert.checkpoint.quantised import METHODS
from sam21convert.errors import MismatchError, RefusedError
from sam21convert.io.data.cast import cast
from sam21convert.io.safetensors import BELOW_8_BITS
from sam21convert.io.tensor import FLOAT8_DTYPES, TORCH_NAMES

from ..support.checkpoints import official_pt, state_dict
from ..support.paths import ROOT
from ..test_docs import rows

QUANTISED = {
    "bitsandbytes to 4 bits": ("x.weight.absmax", "x.weight.quant_state.bitsandbytes__nf4"),
    "bitsandbytes to 8 bits": ("x.SCB", "x.weight_format"),
    "torchao": ("x._weight_qdata", "x._weight_scale"),
    "quanto": ("x.weight._data", "x.weight._scale"),
    "GPTQ or AWQ": ("x.qweight", "x.scales"),
    "MLX": ("x.scales", "x.biases"),
    "torch (dynamic quantisation)": ("x.scale", "x._packed_params.dtype"),
    "scales of its own": ("x.weight_scale_inv", "scaled_fp8"),
}


def refusal(path: Path) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        sam21convert.inspect(path)
    with pytest.raises(RefusedError, match=str(caught.value.message)[:20]):
        sam21convert.convert(path, path.with_name("unwritten.pt"))
    return caught.value


def follow(error: RefusedError, folder: Path) -> None:
    """Run the command of a hint; nothing that it imports is fetched."""
    words = shlex.split(str(error.hint).removeprefix("run: "))
    assert words[0] == "python"
    first = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.conftest; "
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, "-c", first + words[2]], cwd=folder, env=environment, check=True
    )


@pytest.mark.parametrize("dtype", sorted(FLOAT8_DTYPES))
@pytest.mark.parametrize("target", ["F32", "F16", "BF16"])
def test_types_of_8_bits_are_cast_as_torch_casts_them(dtype: str, target: str) -> None:
    raw = bytes(range(256))
    wanted = torch.frombuffer(bytearray(raw), dtype=getattr(torch, TORCH_NAMES[dtype]))
    wanted = wanted.to(getattr(torch, TORCH_NAMES[target]))
    found = torch.frombuffer(bytearray(cast(raw, dtype, target)), dtype=wanted.dtype)
    bits = torch.int32 if target == "F32" else torch.int16
    assert torch.equal(found.isnan(), wanted.isnan())
    there = ~wanted.isnan()
    assert torch.equal(found.view(bits)[there], wanted.view(bits)[there])


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2fnuz])
def test_a_model_in_8_bits_is_converted_once_a_type_is_given(
    kind: torch.dtype, tmp_path: Path
) -> None:
    small = {name: tensor.to(kind) for name, tensor in state_dict().items()}
    official_pt(tmp_path / "small.pt", small)
    save_file(small, tmp_path / "small.safetensors")
    plain = official_pt(tmp_path / "plain.pt", {n: t.float() for n, t in small.items()})
    for path in (tmp_path / "small.pt", tmp_path / "small.safetensors"):
        found = sam21convert.validate(path)
        assert (found.exit_code, len(found.wrong_type)) == (1, 359)
        with pytest.raises(MismatchError, match="wrong type") as caught:
            sam21convert.convert(path, tmp_path / "refused.pt")
        for hint in (found.hint, caught.value.hint):
            assert f"`convert({path}, OUT, dtype=float32)`" in str(hint)
        out = tmp_path / f"{path.suffix}.pt"
        sam21convert.convert(path, out, dtype="float32")
        assert sam21convert.diff(out, plain).exit_code == 0


@pytest.mark.parametrize(
    ("kind", "which"),
    [
        (torch.int8, "all"),
        (torch.uint8, "packed"),
        (torch.int16, "matrices"),
        (torch.bool, "one"),
        (torch.complex64, "one"),
    ],
)
def test_weights_that_hold_no_floats_are_named(
    kind: torch.dtype, which: str, tmp_path: Path
) -> None:
    tensors = state_dict()
    chosen = {
        "all": list(tensors),
        "one": ["sam_mask_decoder.iou_token.weight"],
    }.get(which) or [name for name, tensor in tensors.items() if tensor.ndim == 2]
    for name in chosen:
        columns = tensors[name].shape[-1] // (2 if which == "packed" else 1)
        tensors[name] = (tensors[name][..., :columns] * 9).to(kind)
    path = official_pt(tmp_path / "numbers.pt", tensors)
    found = sam21convert.validate(path)
    with pytest.raises(MismatchError, match="wrong type") as caught:
        sam21convert.convert(path, tmp_path / "refused.pt")
    more = f" and {len(chosen) - 1} more hold" if chosen[1:] else " holds"
    for hint in (found.hint, caught.value.hint):
        assert str(hint).startswith(f"{chosen[0]}{more} no floats, as in quantised weights")
    assert found.exit_code == 1


def test_a_part_in_8_bits_is_cast_and_filled_as_its_hint_says(tmp_path: Path) -> None:
    tensors = state_dict()
    plain = official_pt(tmp_path / "plain.pt", tensors)
    start = "image_encoder.trunk."
    small = {n: t.to(torch.float8_e4m3fn) for n, t in tensors.items() if n.startswith(start)}
    path = tmp_path / "small.safetensors"
    save_file({name.removeprefix(start): tensor for name, tensor in small.items()}, path)
    hint = sam21convert.validate(path, config="debug/sam2.1_debug").hint
    assert f"`convert({path}, OUT, base=CHECKPOINT, dtype=float32)`" in str(hint)
    sam21convert.convert(path, tmp_path / "out.pt", base=plain, dtype="float32")
    wanted = {**tensors, **{name: tensor.float() for name, tensor in small.items()}}
    official_pt(tmp_path / "wanted.pt", wanted)
    assert sam21convert.diff(tmp_path / "out.pt", tmp_path / "wanted.pt").exit_code == 0


def test_a_file_of_bitsandbytes_alone_becomes_floats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 bits, as ``state_dict()`` of such a model; 4 bits need the library itself."""
    tensors = state_dict()
    small: dict[str, Any] = dict(tensors)
    for name in [name for name in tensors if name.endswith("attn.qkv.weight")]:
        scale = tensors[name].abs().amax(dim=1)
        small[name] = (tensors[name] / scale.view(-1, 1) * 127).round().to(torch.int8)
        small[name.removesuffix("weight") + "SCB"] = scale
        small[name + "_format"] = torch.tensor(0, dtype=torch.uint8)
        tensors[name] = small[name].float() * scale.view(-1, 1) * 7.874015718698502e-3
    path = official_pt(tmp_path / "small.pt", small)
    monkeypatch.chdir(tmp_path)
    exec(shlex.split(str(refusal(path).hint))[-1], {})
    plain = official_pt(tmp_path / "plain.pt", tensors)
    assert sam21convert.diff(tmp_path / "FLOATS.pt", plain).exit_code == 0


@pytest.mark.parametrize("what", QUANTISED)
def test_quantised_weights_are_named(what: str, tmp_path: Path) -> None:
    tensors = state_dict()
    plain = official_pt(tmp_path / "plain.pt", tensors)
    more = {f"sam2.{name}": torch.zeros(2, dtype=torch.uint8) for name in QUANTISED[what]}
    quantised = official_pt(tmp_path / "quantised.pt", {**tensors, **more})
    assert what in refusal(quantised).message
    assert sam21convert.inspect(plain).exit_code == 0
    other = {"optimizer": {"absmax": torch.zeros(1), "x.SCB": torch.zeros(1)}, "model": tensors}
    torch.save(other, tmp_path / "optimizer.pt")
    assert sam21convert.inspect(tmp_path / "optimizer.pt").problems == ()


def test_the_documents_list_what_is_recognised() -> None:
    table = rows("## Types of weights", "formats.md")
    named = {row[0].strip(): re.findall("`([^`]+)`", row[1]) for row in table}
    assert tuple(named["floats of 4 and 6 bits"]) == BELOW_8_BITS
    names = [
        name for found in named.values() for name in found if name not in (".pt", *BELOW_8_BITS)
    ]
    patterns = [re.compile(rf"(?:{method.names})\Z") for method in METHODS]
    assert [one.pattern for one in patterns if not any(map(one.search, names))] == []
    unknown = {name for name in names if not any(one.search(name) for one in patterns)}
    assert unknown == {"quantization_config"}


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "torchao", "new"])
def test_the_method_in_a_config_is_named(method: str, tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder"
    plain = official_pt(tmp_path / "plain.pt")
    sam21convert.convert(plain, folder, to="hf-video")
    config = folder / "config.json"
    text = config.read_text()
    added = f'{{"quantization_config": {{"quant_method": "{method}", "load_in_4bit": true}},'
    config.write_text(text.replace("{", added, 1))
    error = refusal(folder)
    assert f"is quantised by {method} to 4 bits" in error.message
    if method == "bitsandbytes":
        code = shlex.split(str(error.hint))[-1]
        assert code.startswith("from transformers import Sam2VideoModel as M; ")
        assert f'M.from_pretrained("{folder}").dequantize()' in code
    config.write_text(text)
    assert sam21convert.inspect(folder).exit_code == 0


@pytest.mark.parametrize(
    ("end", "suffix"), [("scale_weight", ".safetensors"), ("weight_scale", ".pt")]
)
def test_scaled_weights_are_not_taken_for_plain_ones(end: str, suffix: str, tmp_path: Path) -> None:
    tensors = state_dict()
    scaled: dict[str, Any] = {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}
    for name, tensor in tensors.items():
        scaled[name] = tensor
        if name.endswith("attn.qkv.weight"):
            scale = tensor.abs().amax(dim=1 if end == "weight_scale" else (0, 1)) / 448
            scaled[name] = (tensor / scale.reshape(-1, 1)).to(torch.float8_e4m3fn)
            scaled[name.removesuffix("weight") + end] = scale
            tensors[name] = scaled[name].float() * scale.reshape(-1, 1)
    path = tmp_path / f"scaled{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(scaled, path)
    error = refusal(path)
    assert "scales of its own" in error.message
    follow(error, tmp_path)
    plain = official_pt(tmp_path / "plain.pt", tensors)
    (floats,) = tmp_path.glob("FLOATS*")
    sam21convert.convert(floats, tmp_path / "out.pt")
    assert sam21convert.diff(tmp_path / "out.pt", plain).exit_code == 0


def test_numpy_arrays_are_named_and_the_hint_makes_tensors(tmp_path: Path) -> None:
    tensors = state_dict()
    plain = official_pt(tmp_path / "plain.pt", tensors)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    torch.save({"model": arrays}, tmp_path / "arrays.pt")
    error = refusal(tmp_path / "arrays.pt")
    assert "is a NumPy array, not a tensor" in error.message
    follow(error, tmp_path)
    assert sam21convert.diff(tmp_path / "FLOATS.pt", plain).exit_code == 0


def test_dynamic_quantisation_is_named_in_state_dicts_and_modules(tmp_path: Path) -> None:
    model, _ = sam21convert.load_model(official_pt(tmp_path / "plain.pt"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize: Any = torch.ao.quantization.quantize_dynamic
        small = quantize(model, {torch.nn.Linear})
        torch.save(small.state_dict(), tmp_path / "small.pt")
        torch.save(small, tmp_path / "whole.pt")
    assert "quantised by torch (dynamic quantisation)" in refusal(tmp_path / "small.pt").message
    assert "quantised by torch (dynamic quantisation)" in refusal(tmp_path / "whole.pt").message


@pytest.mark.parametrize("world", [1, 2])
def test_dtensors_are_read_where_they_are_whole(world: int, tmp_path: Path) -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard
    from torch.testing._internal.distributed.fake_pg import FakeStore

    tensors = state_dict()
    plain = official_pt(tmp_path / "plain.pt", tensors)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    try:
        mesh = init_device_mesh("cpu", (world,))
        parts = {
            name: DTensor.from_local(
                tensor.chunk(world)[0],
                mesh,
                [Shard(0)],
                run_check=False,
                shape=tensor.shape,
                stride=tensor.stride(),
            )
            for name, tensor in tensors.items()
        }
        torch.save({"model": parts}, tmp_path / "parts.pt")
    finally:
        dist.destroy_process_group()
    if world == 1:
        sam21convert.convert(tmp_path / "parts.pt", tmp_path / "out.pt")
        assert sam21convert.diff(tmp_path / "out.pt", plain).exit_code == 0
        return
    error = refusal(tmp_path / "parts.pt")
    assert "part of a DTensor, which FSDP2 divided" in error.message
    assert "StateDictOptions(full_state_dict=True)" in str(error.hint)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 8])
def test_the_way_out_of_bitsandbytes_works(bits: int, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig, Sam2VideoModel

    sam21convert.convert(official_pt(tmp_path / "plain.pt"), tmp_path / "hf", to="hf-video")
    settings = {f"load_in_{bits}bit": True}
    model = Sam2VideoModel.from_pretrained(
        tmp_path / "hf", quantization_config=BitsAndBytesConfig(**settings)
    )
    model.save_pretrained(tmp_path / "quantised")
    error = refusal(tmp_path / "quantised")
    assert f"quantised by bitsandbytes to {bits} bits" in error.message
    alone = refusal(tmp_path / "quantised" / "model.safetensors")
    assert str(alone.hint).endswith(str(tmp_path / "quantised"))
    follow(error, tmp_path)
    sam21convert.convert(tmp_path / "FLOATS", tmp_path / "out.pt")
    assert sam21convert.validate(tmp_path / "out.pt").ok
    (tmp_path / "quantised" / "config.json").unlink()
    torch.save(model.state_dict(), tmp_path / "quantised.pt")
    for path in (tmp_path / "quantised.pt", tmp_path / "quantised" / "model.safetensors"):
        follow(refusal(path), tmp_path)
        floats = (tmp_path / "FLOATS").with_suffix(path.suffix)
        assert sam21convert.diff(floats, tmp_path / "FLOATS").exit_code == 0


@pytest.mark.slow
def test_the_way_out_of_torchao_works(tmp_path: Path) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    from transformers import Sam2VideoModel, TorchAoConfig

    plain = official_pt(tmp_path / "plain.pt")
    sam21convert.convert(plain, tmp_path / "hf", to="hf-video")
    way = quantization.Int8WeightOnlyConfig()
    model = Sam2VideoModel.from_pretrained(tmp_path / "hf", quantization_config=TorchAoConfig(way))
    model.save_pretrained(tmp_path / "quantised")
    error = refusal(tmp_path / "quantised")
    assert "quantised by torchao" in error.message
    follow(error, tmp_path)
    sam21convert.convert(tmp_path / "FLOATS.safetensors", tmp_path / "out.pt")
    assert sam21convert.validate(tmp_path / "out.pt").ok

    own, _ = sam21convert.load_model(plain)
    quantization.quantize_(own, way)
    torch.save({"model": own.state_dict()}, tmp_path / "quantised.pt")
    error = refusal(tmp_path / "quantised.pt")
    assert "is quantised by torchao" in error.message
    follow(error, tmp_path)
    assert sam21convert.validate(tmp_path / "FLOATS.pt").ok
