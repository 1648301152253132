"""Folders as training libraries write them are read, or refused with a hint that works."""

from __future__ import annotations

import filecmp
import json
import os
import random
import re
import shlex
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from transformers import Sam2VideoModel, TrainingArguments

from sam21convert import convert, inspect, sample, validate
from sam21convert.errors import MissingFileError, RefusedError, Sam21ConvertError, UnreadableError
from sam21convert.io.open import open_source

from ..commands.test_commands import run
from ..support.checkpoints import DEBUG

BIN, SHARDED = "pytorch_model.bin", "pytorch_model.bin.index.json"
Names = Callable[[int], str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base.pt`` and ``hf``, the transformers folder made of it."""
    home = tmp_path_factory.mktemp("made")
    sample(home / "base.pt", DEBUG)
    convert(home / "base.pt", home / "hf")
    return home


def bin_folder(made: Path, out: Path, shards: int = 1, variant: str = "") -> Path:
    """As transformers 4 wrote it with ``safe_serialization=False``."""
    out.mkdir(parents=True)
    shutil.copy(made / "hf" / "config.json", out)
    tensors = load_file(made / "hf" / "model.safetensors")
    end = f"{variant and f'.{variant}'}.bin"
    if shards == 1:
        torch.save(tensors, out / f"pytorch_model{end}")
        return out
    where: dict[str, str] = {}
    for number in range(shards):
        file = f"pytorch_model-{number + 1:05d}-of-{shards:05d}{end}"
        part = dict([*tensors.items()][number::shards])
        torch.save(part, out / file)
        where |= dict.fromkeys(part, file)
    index = json.dumps({"metadata": {}, "weight_map": where})
    (out / f"pytorch_model.bin.index{variant and f'.{variant}'}.json").write_text(index)
    return out


def safe_folder(made: Path, out: Path) -> Path:
    out.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(made / "hf" / name, out)
    return out


def assert_same(source: Path, made: Path, out: Path) -> None:
    """The conversion of a source has the bytes of that of ``base.pt``."""
    assert same(source, made, out)


def same(source: Path, made: Path, out: Path) -> bool:
    """Whether the conversion of a source has the bytes of that of ``base.pt``."""
    convert(source, out / "found.safetensors", overwrite=True)
    convert(made / "base.pt", out / "wanted.safetensors", overwrite=True)
    return filecmp.cmp(out / "found.safetensors", out / "wanted.safetensors", shallow=False)


@pytest.mark.parametrize(
    ("shards", "variant", "container"),
    [
        (1, "", "pytorch_model.bin folder"),
        (3, "", "sharded pytorch_model.bin folder"),
        (1, "fp16", "pytorch_model.bin folder"),
        (2, "fp16", "sharded pytorch_model.bin folder"),
    ],
)
def test_bin_folders(made: Path, tmp_path: Path, shards: int, variant: str, container: str) -> None:
    folder = bin_folder(made, tmp_path / "bin", shards, variant)
    answer = inspect(folder)
    assert (answer.container, answer.config, answer.exit_code) == (container, DEBUG, 0)
    assert answer.image_size == 128  # config.json is read
    assert answer.safety.names  # and the pickles were looked through
    assert bool(answer.notes) == bool(variant)
    assert validate(folder).exit_code == 0
    assert_same(folder, made, tmp_path)


def test_an_index_is_opened_alone_and_its_pickles_are_looked_through(
    made: Path, tmp_path: Path
) -> None:
    folder = bin_folder(made, tmp_path / "bin", 3)
    answer = inspect(folder / SHARDED)
    assert answer.container == "sharded pytorch_model.bin"
    assert len({name.entry.partition(",")[0] for name in answer.safety.names}) == 3
    assert_same(folder / SHARDED, made, tmp_path)


def test_of_a_shard_the_whole_model_is_opened(made: Path, tmp_path: Path) -> None:
    """The rest from a base would be another model: half of this one, and half of that."""
    folder = bin_folder(made, tmp_path / "bin", 3)
    shard = "pytorch_model-00002-of-00003.bin"
    assert inspect(folder / shard).notes[0] == f"{shard} is one shard of it"
    assert_same(folder / shard, made, tmp_path)
    (folder / SHARDED).unlink()
    with pytest.raises(RefusedError, match="one shard of a model") as caught:
        convert(folder / shard, tmp_path / "out.pt", base=made / "base.pt")
    assert SHARDED in str(caught.value.hint)
    shutil.copy(made / "base.pt", tmp_path / "whole-00001-of-00001.pt")
    assert_same(tmp_path / "whole-00001-of-00001.pt", made, tmp_path)


@pytest.mark.parametrize("given", ["", SHARDED])
def test_a_dangerous_shard_is_told(made: Path, tmp_path: Path, given: str) -> None:
    folder = bin_folder(made, tmp_path / "bin", 2)
    assert inspect(folder / given).exit_code == 0
    index = json.loads((folder / SHARDED).read_text())
    (folder / "extra.bin").write_bytes(b"cbuiltins\neval\n(V1\ntR.")  # a call of eval("1")
    index["weight_map"]["extra"] = "extra.bin"
    (folder / SHARDED).write_text(json.dumps(index))
    with pytest.raises(Sam21ConvertError, match=r"builtins\.eval"):
        inspect(folder / given)


def damaged(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    index = json.loads((folder / SHARDED).read_text())
    change(index["weight_map"])
    (folder / SHARDED).write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda where: where.popitem(), "places in no shard"),
        (lambda where: where.update(more=next(iter(where.values()))), "does not hold it"),
        (lambda where: where.update(more="../x.bin"), "not a file name in this folder"),
        (lambda where: where.update(more="gone.bin"), "gone.bin"),
        (lambda where: where.update(more="config.json"), "is JSON"),
        (lambda where: where.update(more=SHARDED), "is an index, not a shard"),
    ],
)
def test_shards_must_be_what_the_index_says(
    made: Path, tmp_path: Path, change: Any, says: str
) -> None:
    folder = bin_folder(made, tmp_path / "bin", 2)
    open_source(folder)
    damaged(folder, change)
    with pytest.raises((UnreadableError, RefusedError), match=re.escape(says)):
        open_source(folder)


def test_a_variant_is_taken_only_where_there_is_nothing_else(made: Path, tmp_path: Path) -> None:
    folder = safe_folder(made, tmp_path / "hf")
    whole = load_file(folder / "model.safetensors")
    half = {name: tensor.half() for name, tensor in whole.items()}
    save_file(half, folder / "model.fp16.safetensors")
    answer = inspect(folder)
    assert answer.dtypes == {"F32": len(whole)}
    assert "model.fp16.safetensors" in answer.notes[0]
    assert inspect(named_in(answer.notes[0])).dtypes == {"F16": len(whole)}
    (folder / "model.safetensors").unlink()
    assert inspect(folder).dtypes == {"F16": len(whole)}
    shutil.copy(folder / "model.fp16.safetensors", folder / "model.bf16.safetensors")
    with pytest.raises(RefusedError, match="several checkpoints") as caught:
        inspect(folder)
    assert inspect(named_in(caught.value.hint)).dtypes == {"F16": len(whole)}


@pytest.mark.parametrize("size", ["3MB", "1GB"])
def test_a_variant_that_transformers_saves(made: Path, tmp_path: Path, size: str) -> None:
    model = Sam2VideoModel.from_pretrained(made / "hf")
    model.save_pretrained(tmp_path / "half", variant="fp16", max_shard_size=size)
    answer = inspect(tmp_path / "half")
    index = "model.safetensors.index.fp16.json"
    assert index in os.listdir(tmp_path / "half") or size == "1GB"
    assert answer.notes[0].endswith("is read: there is no other variant")
    assert_same(tmp_path / "half", made, tmp_path)
    if size == "3MB":
        assert_same(tmp_path / "half" / index, made, tmp_path)


def named_in(text: str | None) -> Path:
    """The first path that a hint or note tells to give."""
    assert text is not None
    found = re.search(r"(?:give (?:one of them: )?|the newest is )('[^']+'|/[^ ,;]+)", text)
    assert found is not None, text
    return Path(shlex.split(found[1])[0])


def test_the_steps_of_a_trainer_are_listed_and_the_newest_is_offered(
    made: Path, tmp_path: Path
) -> None:
    output = tmp_path / "my run"
    for step in (900, 1000):
        folder = safe_folder(made, output / f"checkpoint-{step}")
        (folder / "trainer_state.json").write_text('{"global_step": 1}')
    with pytest.raises(RefusedError, match="checkpoint-900, checkpoint-1000") as caught:
        inspect(output)
    assert named_in(caught.value.hint) == output / "checkpoint-1000"
    assert inspect(named_in(caught.value.hint)).config == DEBUG
    assert run("convert", output, tmp_path / "out.pt").exit_code == 3
    for command in ("inspect", "validate"):  # these have a line for each
        summed = run(command, output)
        assert summed.exit_code == 0
        assert all(f"checkpoint-{step}" in summed.output for step in (900, 1000))
    shutil.copy(made / "hf" / "model.safetensors", output)
    (note,) = inspect(output).notes
    assert "checkpoint-900, checkpoint-1000" in note
    assert inspect(named_in(note)).config == DEBUG
    shutil.rmtree(output / "checkpoint-900")
    (output / "model.safetensors").unlink()
    answer = inspect(output)
    assert answer.path == output / "checkpoint-1000"
    assert answer.image_size == 128
    assert answer.notes


class Tensors(torch.nn.Module):
    """A module with any state dict."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.held = torch.load(path)["model"]
        self.one = torch.nn.Parameter(torch.zeros(1))

    def state_dict(self, *_: Any, **__: Any) -> Any:
        return {name: tensor.clone() for name, tensor in self.held.items()}


@pytest.mark.parametrize("safe", [True, False])
def test_accelerate(made: Path, tmp_path: Path, safe: bool) -> None:
    """``save_state`` of a model and its average, with all that is beside them."""
    accelerate = pytest.importorskip("accelerate")
    models = [Tensors(made / "base.pt"), Tensors(made / "base.pt")]
    models[1].held = {name: tensor * 2 for name, tensor in models[1].held.items()}
    settings = accelerate.utils.ProjectConfiguration(tmp_path, automatic_checkpoint_naming=True)
    runner = accelerate.Accelerator(cpu=True, project_config=settings)
    optimizer = torch.optim.AdamW(models[0].parameters())
    rate = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    *_, optimizer, rate = runner.prepare(*models, optimizer, rate)
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runner.save_state(safe_serialization=safe)
    with pytest.raises(RefusedError, match="checkpoints/checkpoint_0") as caught:
        inspect(tmp_path)
    folder = named_in(caught.value.hint)
    assert folder == tmp_path / "checkpoints" / "checkpoint_1"
    (note,) = inspect(folder).notes
    end = "model_1.safetensors" if safe else "pytorch_model_1.bin"
    assert named_in(note) == folder / end
    assert_same(folder, made, tmp_path)
    assert not same(named_in(note), made, tmp_path)  # the other one has other values
    for name in os.listdir(folder):
        if "model" not in name:
            with pytest.raises(RefusedError, match=r": is the state of .*, not a model") as caught:
                inspect(folder / name)
            assert named_in(caught.value.hint) == folder


def test_timm(tmp_path: Path) -> None:
    """``save_for_hf``, whose default is a pickle."""
    import timm

    model = timm.create_model("sam2_hiera_tiny", pretrained=False)
    save_for_hf(model, str(tmp_path / "timm"))
    assert BIN in os.listdir(tmp_path / "timm")
    answer = inspect(tmp_path / "timm")
    assert (answer.dialect, answer.container) == ("timm", "pytorch_model.bin folder")


def test_torch_distributed_within_a_folder_of_accelerate(made: Path, tmp_path: Path) -> None:
    """FSDP: the model and the optimizer are folders of ``torch.distributed.checkpoint``."""
    from torch.distributed.checkpoint.state_dict_saver import save

    tensors = torch.load(made / "base.pt")["model"]
    moments = {"exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    state = {"state": {"image_encoder.x": moments}, "param_groups": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in (
            ("pytorch_model_fsdp_0", {"model": tensors}),
            ("optimizer_0", {"optimizer": state}),
        ):
            save(value, checkpoint_id=str(tmp_path / "run" / name))
    (tmp_path / "run" / "random_states_0.pkl").write_bytes(b"x")
    torch.save({"epoch": 1, "loops": {}}, tmp_path / "run" / "meta.pt")  # Lightning's
    answer = inspect(tmp_path / "run")
    assert answer.path == tmp_path / "run" / "pytorch_model_fsdp_0"
    assert "the only checkpoint" in answer.notes[0]
    assert_same(tmp_path / "run", made, tmp_path)
    model = tmp_path / "run" / "pytorch_model_fsdp_0"
    for path, what in (
        (tmp_path / "run" / "optimizer_0", "the state of an optimizer"),
        (tmp_path / "run" / "random_states_0.pkl", "the state of random number generators"),
        (tmp_path / "run" / "meta.pt", "what Lightning notes of a training"),
        (model / "__0_0.distcp", "a part of a folder of torch.distributed.checkpoint"),
        (model / ".metadata", "a part of a folder of torch.distributed.checkpoint"),
    ):
        with pytest.raises(RefusedError, match=f": is {what}, not a model") as caught:
            inspect(path)
        assert named_in(caught.value.hint) == model
    assert inspect(model).config == DEBUG


@pytest.mark.parametrize("name", ["my.pt", "model.ckpt", "weights.pth", "any.bin"])
def test_a_folder_with_one_checkpoint_of_any_name(made: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(made / "base.pt", tmp_path / "run" / name)
    answer = inspect(tmp_path / "run")
    assert answer.path == tmp_path / "run" / name
    assert answer.notes == (f"{name} is read: the only checkpoint in {tmp_path / 'run'}",)
    assert_same(tmp_path / "run", made, tmp_path)
    shutil.copy(made / "base.pt", tmp_path / "run" / "other.ckpt")
    with pytest.raises(RefusedError, match="several checkpoints") as caught:
        inspect(tmp_path / "run")
    assert inspect(named_in(caught.value.hint)).config == DEBUG


def side_files(folder: Path) -> dict[str, Any]:
    """What a Trainer saves beside the weights, by file."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    optimizer = torch.optim.AdamW([parameter])
    optimizer.step()
    states = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    scaler = {"scale": 1.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 9}
    return {
        "optimizer.pt": optimizer.state_dict(),
        "renamed.pt": optimizer.state_dict(),
        "scheduler.pt": torch.optim.lr_scheduler.StepLR(optimizer, 1).state_dict(),
        "plateau.pt": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer).state_dict(),
        "rng_state.pth": states,
        "rng_state_0.pth": states,
        "scaler.pt": scaler,
        "training_args.bin": TrainingArguments(output_dir=str(folder), use_cpu=True),
        "arguments.bin": TrainingArguments(output_dir=str(folder), use_cpu=True),
        "sampler.bin": torch.Generator().get_state(),
    }


def test_the_wrong_file_of_a_training_is_named_with_what_to_give(
    made: Path, tmp_path: Path
) -> None:
    folder = safe_folder(made, tmp_path / "checkpoint-5")
    for name, value in side_files(tmp_path / "x").items():
        torch.save(value, folder / name)
    (folder / "trainer_state.json").write_text('{"global_step": 5, "log_history": []}')
    assert inspect(folder).config == DEBUG
    beside = {*os.listdir(folder)} - {"model.safetensors"}
    assert len(beside) == 12
    for name in beside:
        with pytest.raises(RefusedError, match=rf"{name}: is (the|a) .*, not a model") as caught:
            inspect(folder / name)
        assert named_in(caught.value.hint) == folder


def test_a_model_in_a_file_of_such_a_name_is_read(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "base.pt", tmp_path / "optimizer.bin")
    assert inspect(tmp_path / "optimizer.bin").config == DEBUG


def test_a_file_that_is_not_there_is_missing_whatever_its_name(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        inspect(tmp_path / "optimizer.pt")


def test_without_weights_beside_it_the_hint_does_not_invent_them(tmp_path: Path) -> None:
    torch.save({"state": {}, "param_groups": []}, tmp_path / "optimizer.pt")
    with pytest.raises(RefusedError, match="is the state of an optimizer") as caught:
        inspect(tmp_path / "optimizer.pt")
    assert caught.value.hint == "give the file or folder of the model that was saved with it"
