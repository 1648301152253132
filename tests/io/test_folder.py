"""What holds the weights in a folder, by the names of its files: the same rule for local folders
and repositories of the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam21convert.io.folder import Found, Listing, export_in, find_weights, is_index
from sam21convert.io.side_files import known_as

from ..support.exports import FILES, describe

EXPORT = [f"run/my-onnx/{name}" for name in FILES]


def found_in(*names: str, complete: bool = True) -> Found:
    return find_weights("run", Listing(names, complete))


def read(*names: str) -> tuple[str, str]:
    """The place and the file that are read."""
    weights = found_in(*names).weights
    assert weights is not None
    return weights.place, weights.file


@pytest.mark.parametrize(
    ("names", "file"),
    [
        (["model.safetensors", "pytorch_model.bin", "sam2.pt"], "model.safetensors"),
        (["pytorch_model.bin", "config.json"], "pytorch_model.bin"),
        (
            ["model.safetensors.index.json", "model-00001-of-00002.safetensors"],
            "model.safetensors.index.json",
        ),
        (
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
            "pytorch_model.bin.index.json",
        ),
        (["pytorch_model.bin.index.json", "model.safetensors"], "model.safetensors"),
        (["model.fp16.safetensors"], "model.fp16.safetensors"),
        (["pytorch_model.fp16.bin", "model.safetensors"], "model.safetensors"),
        (["pytorch_model.fp16.bin", "model.fp16.safetensors"], "model.fp16.safetensors"),
        (
            ["model.safetensors.index.fp16.json", "model-00001-of-00002.fp16.safetensors"],
            "model.safetensors.index.fp16.json",
        ),
        (
            ["model.safetensors.index.bf16.json", "model.bf16-00001-of-00002.safetensors"],
            "model.safetensors.index.bf16.json",
        ),
        (["model.safetensors", "checkpoint-5/model.safetensors"], "model.safetensors"),
        (["model.safetensors", "model_1.safetensors", "optimizer.bin"], "model.safetensors"),
        ([".metadata", "__0_0.distcp"], ""),
        (["adapter_config.json", "adapter_model.bin"], "adapter_model.bin"),
        (["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"], ""),
        (["latest", "zero_to_fp32.py", "global_step5/mp_rank_00_model_states.pt"], ""),
        (["model.safetensors", "latest", "global_step5/mp_rank_00_model_states.pt"],
         "model.safetensors"),
    ],
)  # fmt: skip
def test_a_folder_that_a_library_loads_is_read_itself(names: list[str], file: str) -> None:
    assert read(*names) == ("", file)
    assert read(*reversed(names)) == ("", file)


@pytest.mark.parametrize(
    ("names", "place"),
    [
        (["my.pt"], "my.pt"),
        (["model.ckpt", "hparams.yaml", "metrics.csv"], "model.ckpt"),
        (["x.safetensors", "optimizer.pt", "rng_state.pth", "training_args.bin"], "x.safetensors"),
        (["sub/best.pth", "README.md"], "sub/best.pth"),
        (["m.pt", "openvino_model.bin", "openvino_model.xml", "n.param", "n.bin"], "m.pt"),
        (["big.safetensors.index.json", "big-00001-of-00001.safetensors"],
         "big.safetensors.index.json"),
        (["checkpoint-7/model.safetensors", "checkpoint-7/optimizer.pt"], "checkpoint-7"),
        (
            ["pytorch_model_fsdp_0/.metadata", "optimizer_0/.metadata", "random_states_0.pkl"],
            "pytorch_model_fsdp_0",
        ),
        (EXPORT, "run/my-onnx"),
        ([*EXPORT, "run/my-onnx/spare.pt", "run/my-onnx/golden/expected.json"], "run/my-onnx"),
        (EXPORT[1:], "run/my-onnx"),
        (["run/my-onnx/model.safetensors", *EXPORT], "run/my-onnx"),
        (["my.pt", *EXPORT[:-1]], "my.pt"),  # nothing can be read without its other tensors
        (["my.pt", *(f"onnx/{name}" for name in EXPORT)], "my.pt"),
    ],
)  # fmt: skip
def test_the_only_checkpoint_of_any_other_folder_is_read_and_noted(
    names: list[str], place: str
) -> None:
    assert read(*names)[0] == place
    assert found_in(*names).notes() == (f"{place} is read: the only checkpoint in run",)


@pytest.mark.parametrize(
    ("names", "says", "hint"),
    [
        (
            ["checkpoint-900/model.safetensors", "checkpoint-1000/pytorch_model.bin"],
            "several checkpoints: checkpoint-900, checkpoint-1000",
            "the newest is run/checkpoint-1000",
        ),
        (
            [f"checkpoints/checkpoint_{n}/model.safetensors" for n in (0, 1, 10, 9)],
            "checkpoints/checkpoint_9, checkpoints/checkpoint_10",
            "the newest is run/checkpoints/checkpoint_10",
        ),
        (
            [f"checkpoint-{n}/{name}" for n in (8, 16)
             for name in ("latest", f"global_step{n}/mp_rank_00_model_states.pt")],
            "several checkpoints: checkpoint-8, checkpoint-16",
            "the newest is run/checkpoint-16",
        ),
        (
            ["best.ckpt", "last.ckpt"],
            "several checkpoints: best.ckpt, last.ckpt",
            "give one of them: run/best.ckpt or run/last.ckpt",
        ),
        (
            [f"epoch={n}-step={90 * n}.ckpt" for n in (9, 10)],
            "several checkpoints",
            "the newest is run/epoch=10-step=900.ckpt",
        ),
        (["my.pt", *EXPORT], "several checkpoints: my.pt, run/my-onnx", "my.pt or run/run/my-onnx"),
        (["v1.pt", "v2.pt"], "several checkpoints", "run/v1.pt or run/v2.pt"),
        (  # which number counts?
            ["v0/epoch=9.ckpt", "v1/epoch=2.ckpt"],
            "several checkpoints",
            "run/v0/epoch=9.ckpt or run/v1/epoch=2.ckpt",
        ),
        (
            ["model.fp16.safetensors", "model.bf16.safetensors"],
            "several checkpoints: model.bf16.safetensors, model.fp16.safetensors",
            "run/model.bf16.safetensors or",
        ),
        (
            ["one two.pt", "b.pt"],
            "b.pt, one two.pt",
            "'run/one two.pt'",
        ),
        (["a.txt", "optimizer.pt"], "no checkpoint among its 2 files", ".safetensors file"),
        (["model-00001-of-00002.safetensors"], "shards of a model without their index", "index"),
        (
            ["cell/adapter_config.json", "cell/adapter_model.safetensors"],
            "holds PEFT adapters: cell",
            "sam21convert convert run/cell OUT --base",
        ),
        (["\x1b[2J.pt", "b.pt"], r"\x1b[2J.pt", "run/b.pt"),
    ],
)  # fmt: skip
def test_several_and_none_are_listed(names: list[str], says: str, hint: str) -> None:
    found = found_in(*names)
    assert found.weights is None
    problem, advice = found.problem()
    assert says in problem
    assert hint in advice
    assert "\x1b" not in problem + advice


@pytest.mark.parametrize(("home", "kept"), [("a", True), ("a/b/c", True), ("a/b/c/d", False)])
def test_an_export_is_found_as_far_below_as_other_folders(
    home: str, kept: bool, tmp_path: Path
) -> None:
    export = describe(tmp_path / home, 64)
    for name in ("config.json", "model.safetensors"):
        (export / "onnx" / name).touch()
    assert export_in(tmp_path) == (export if kept else None)
    assert export_in(export) == export
    (tmp_path / "my.pt").touch()
    assert export_in(tmp_path) is None


def test_what_is_passed_over_is_named_with_the_way_to_choose_it() -> None:
    found = found_in("model.safetensors", "model_1.safetensors", "checkpoint-5/model.safetensors")
    (note,) = found.notes()
    assert "also in run: model_1.safetensors, checkpoint-5" in note
    assert "give run/model_1.safetensors to read the first of these" in note
    assert found_in("model.safetensors", "optimizer.pt", "config.json").notes() == ()
    assert "no other variant" in found_in("model.fp16.safetensors").notes()[0]
    shards = found_in("model.safetensors.index.json", "part-1.safetensors", "b.pt")
    assert "also in run: b.pt;" in shards.notes(["part-1.safetensors"])[0]


def test_what_was_not_looked_at_is_not_passed_over() -> None:
    assert found_in("model.safetensors", complete=False).weights is not None
    alone = found_in("sub/my.pt", complete=False)
    assert alone.weights is None
    assert "more than 20,000 files" in alone.problem()[0]
    assert alone.problem()[1].endswith("run/sub/my.pt")


def test_names_of_an_index() -> None:
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.fp16.json"):
        assert is_index(name)
    for name in ("index.json", "model_index.json", "model.safetensors"):
        assert not is_index(name)


def test_content_decides_before_the_name() -> None:
    state: dict[str, object] = {"state": {}, "param_groups": []}
    assert known_as("best.pt", state) == "the state of an optimizer"
    assert known_as("best.pt", {"model": {}, "optimizer": state}) is None
    assert known_as("model", {"optimizer": state}) == "the state of an optimizer"
    assert known_as("scaler.pt", {}) == "the state of a gradient scaler"
    loop: dict[str, object] = {}
    loop["a"] = loop["b"] = loop
    assert known_as("sampler.bin", loop) == "the state of a data loader"
