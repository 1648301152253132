"""Repositories as libraries push them: read and downloaded by the rule for local folders.

All commands run in two processes; one of them is offline.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam21convert import convert, sample

from ..support.checkpoints import DEBUG
from ..support.exports import FILES
from ..support.hub_server import ALWAYS, Fault, Hub, Status
from ..support.paths import contents
from .test_remote import COMMANDS

ADAPTER = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 2,
    "target_modules": ["proj"],
    "base_model_name_or_path": None,
}

WEIGHTS = {"config.json", "model.safetensors"}
BINS = {
    "config.json", "pytorch_model.bin.index.json",
    *(f"pytorch_model-{number:05d}-of-00002.bin" for number in (1, 2)),
}  # fmt: skip


@dataclass
class World:
    """A Hub, and processes that run commands with it."""

    hub: Hub
    home: Path
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def run(self, *words: str, offline: str = "0") -> dict[str, Any]:
        """The JSON that a command prints for its result or error."""
        if offline not in self.processes:
            self.processes[offline] = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", COMMANDS],
                env=self.hub.environment(self.home, HF_HUB_OFFLINE=offline),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        process = self.processes[offline]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([*words, "--json"]) + "\n")
        process.stdin.flush()
        _, out, err = json.loads(process.stdout.readline())
        assert out, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    def downloaded(self, repo: str) -> set[str]:
        """The files of a repository in the cache, by their paths in it."""
        folder = self.home / "hub" / f"models--{repo.replace('/', '--')}" / "snapshots"
        files = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
        return {"/".join(path.parts[1:]) for path in files}


def saved(value: Any, path: Path) -> bytes:
    torch.save(value, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base.pt``, and ``hf`` and ``image`` made of it."""
    home = tmp_path_factory.mktemp("made")
    sample(home / "base.pt", DEBUG)
    convert(home / "base.pt", home / "hf")
    convert(home / "base.pt", home / "wanted.safetensors")
    return home


def lora(made: Path) -> dict[str, bytes]:
    """An adapter as PEFT pushes it."""
    name = "vision_encoder.backbone.blocks.0.attn.proj"
    rows, columns = load_file(made / "hf" / "model.safetensors")[f"{name}.weight"].shape
    factors = {
        f"base_model.model.{name}.lora_A.weight": torch.ones(2, columns),
        f"base_model.model.{name}.lora_B.weight": torch.ones(rows, 2),
    }
    path = made / "adapter_model.safetensors"
    save_file(factors, path)
    return {"adapter_config.json": json.dumps(ADAPTER).encode(), path.name: path.read_bytes()}


def graph(metadata: dict[str, str]) -> bytes:
    """An ONNX model with an empty graph, and metadata of ours."""
    made = b"\x3a\x00"
    for name, value in metadata.items():
        key = f"sam21convert.{name}".encode()
        pair = b"\x0a%c%s\x12%c%s" % (len(key), key, len(value), value.encode())
        made += b"\x72%c%s" % (len(pair), pair)
    return made


@pytest.fixture(scope="module")
def world(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    scratch = tmp_path_factory.mktemp("scratch")
    safe = {name: (made / "hf" / name).read_bytes() for name in sorted(WEIGHTS)}
    config = safe["config.json"]
    tensors = load_file(made / "hf" / "model.safetensors")
    optimizer = saved({"state": {}, "param_groups": []}, scratch / "optimizer.pt")
    steps = {
        f"checkpoint-{step}/{name}": data
        for step in (9, 10)
        for name, data in {**safe, "optimizer.pt": optimizer}.items()
    }
    shards: dict[str, bytes] = {}
    where: dict[str, str] = {}
    for number in (1, 2):
        name = f"pytorch_model-{number:05d}-of-00002.bin"
        part = dict([*tensors.items()][number - 1 :: 2])
        shards[name] = saved(part, scratch / name)
        where |= dict.fromkeys(part, name)
    index = json.dumps({"metadata": {}, "weight_map": where}).encode()
    whole = saved(tensors, scratch / "whole.bin")
    with Hub() as hub:
        hub.create("org/steps", {**steps, "README.md": b"x"})
        hub.create("org/top", {**safe, **steps, "model_1.safetensors": safe["model.safetensors"]})
        hub.create("org/bin", {"config.json": config, "pytorch_model.bin": whole})
        hub.create(
            "org/bins",
            {**shards, "config.json": config, "pytorch_model.bin.index.json": index,
             "training_args.bin": optimizer, "runs/events": b"x"},
        )  # fmt: skip
        hub.create("org/variant", {"config.json": config, "pytorch_model.fp16.bin": whole})
        graphs = {"config.json": config, "model.safetensors": safe["model.safetensors"]}
        graphs["vision_encoder.onnx"] = graph({"graph": "vision_encoder", "variant": "fp32"})
        export = {f"below/onnx/{name}": data for name, data in graphs.items()}
        hub.create("org/export", {"below/config.json": b"{}", **export})
        hub.create("org/adapter", {**lora(made), "checkpoint-1/optimizer.pt": optimizer})
        hub.create("org/named", {f"cells/{name}": data for name, data in lora(made).items()})
        foreign = b'{"model_type": "sa2va_chat", "llm_config": {}}'
        hub.create("org/large", {**safe, "config.json": foreign, "tokenizer.json": b"{}"})
        world = World(hub, tmp_path_factory.mktemp("home"))
        yield world
        for process in world.processes.values():
            process.communicate()


@pytest.fixture(autouse=True)
def _healthy(world: World) -> None:
    world.hub.heal()


@pytest.mark.parametrize(
    ("source", "container", "files"),
    [
        ("org/top", "transformers folder", WEIGHTS),
        ("org/steps/checkpoint-10", "transformers folder",
         {f"checkpoint-10/{name}" for name in WEIGHTS}),
        ("org/bin", "pytorch_model.bin folder", {"config.json", "pytorch_model.bin"}),
        ("org/bins", "sharded pytorch_model.bin folder", BINS),
        ("org/bins/pytorch_model.bin.index.json", "sharded pytorch_model.bin", BINS),
        ("org/variant", "pytorch_model.bin folder", {"config.json", "pytorch_model.fp16.bin"}),
    ],
)  # fmt: skip
def test_only_what_is_needed_is_downloaded(
    world: World, made: Path, tmp_path: Path, source: str, container: str, files: set[str]
) -> None:
    found = world.run("inspect", f"hf://{source}")
    assert (found["container"], found["config"]) == (container, DEBUG)
    assert found["safety"] == "harmless"
    out = tmp_path / "out.safetensors"
    done = world.run("convert", f"hf://{source}", str(out))
    assert done["source_container"] == container
    assert out.read_bytes() == (made / "wanted.safetensors").read_bytes()
    assert world.downloaded("/".join(source.split("/")[:2])) == files
    chosen = [note for note in found["notes"] if " is read" in note]
    assert len(chosen) == (source in ("org/top", "org/variant"))
    assert set(chosen) <= set(done["notes"])
    again = world.run("convert", f"hf://{source}", str(tmp_path / "again.pt"), offline="1")
    assert again["tensors"] == done["tensors"]


def test_what_is_passed_over_is_named_by_its_reference(world: World, tmp_path: Path) -> None:
    (note,) = world.run("inspect", "hf://org/top")["notes"]
    world.run("pull", "hf://org/top/model_1.safetensors")  # it is then beside it in the cache
    done = world.run("convert", "hf://org/top", str(tmp_path / "o.pt"))
    assert [n for n in done["notes"] if "model_1" in n] == [note]
    assert "also in hf://org/top: model_1.safetensors, checkpoint-9, checkpoint-10" in note
    reference = re.findall(r"give (\S+)", note)[0]
    assert world.run("inspect", reference)["path"] == "hf://org/top/model_1.safetensors"


def test_a_config_of_another_model_is_noted(world: World, tmp_path: Path) -> None:
    found = world.run("inspect", "hf://org/large")
    assert (found["config"], found["image_size"]) == (DEBUG, None)
    assert "config.json is of sa2va_chat: not read" in found["notes"]
    done = world.run("convert", "hf://org/large", str(tmp_path / "o.pt"))
    assert "config.json is of sa2va_chat: not read" in done["notes"]
    assert world.downloaded("org/large") == WEIGHTS


@pytest.mark.parametrize("command", ["convert", "pull"])
@pytest.mark.parametrize("end", ["", "@main", "/"])
def test_several_are_listed_with_references_that_work(
    world: World, command: str, end: str, tmp_path: Path
) -> None:
    written = [str(tmp_path / "out.pt")] if command == "convert" else []
    answer = world.run(command, f"hf://org/steps{end}", *written)
    assert answer["exit_code"] == 2
    assert "several checkpoints: checkpoint-9, checkpoint-10" in answer["error"]
    reference = answer["hint"].split()[-1]
    assert reference == f"hf://org/steps{end.rstrip('/')}/checkpoint-10"
    assert world.run("inspect", reference)["image_size"] == 128


def test_the_wrong_file_of_a_repository_is_named_with_the_folder_beside_it(world: World) -> None:
    answer = world.run("inspect", "hf://org/steps/checkpoint-9/optimizer.pt")
    assert answer["exit_code"] == 3
    assert "is the state of an optimizer" in answer["error"]
    assert "give hf://org/steps/checkpoint-9," in answer["hint"]


@pytest.mark.parametrize(
    "source", ["hf://org/adapter", "hf://org/adapter/adapter_model.safetensors"]
)
def test_an_adapter_comes_with_its_settings_and_merges(
    world: World, made: Path, tmp_path: Path, source: str
) -> None:
    shown = world.run("inspect", source)
    assert "is a PEFT adapter" in shown["error"]
    assert f"convert {source} OUT --base" in shown["hint"]
    out = tmp_path / "merged.pt"
    done = world.run("convert", source, str(out), "--base", str(made / "base.pt"))
    assert any("LoRA of rank 2" in note for note in done["notes"])
    assert world.downloaded("org/adapter") == {"adapter_config.json", "adapter_model.safetensors"}
    before, after = (torch.load(path)["model"] for path in (made / "base.pt", out))
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["image_encoder.trunk.blocks.0.attn.proj.weight"]


def test_named_adapters_are_listed(world: World, made: Path, tmp_path: Path) -> None:
    answer = world.run("inspect", "hf://org/named")
    assert "holds PEFT adapters: cells" in answer["error"]
    words = answer["hint"].partition("sam21convert convert ")[2].split()
    assert words[:1] == ["hf://org/named/cells"]
    done = world.run("convert", words[0], str(tmp_path / "o.pt"), "--base", str(made / "base.pt"))
    assert any("LoRA" in note for note in done["notes"])


def test_pull_copies_what_is_needed(world: World, tmp_path: Path) -> None:
    for source, files in (
        ("hf://org/bins", BINS),
        ("hf://org/steps/checkpoint-10", WEIGHTS),
        ("hf://org/adapter", {"adapter_config.json", "adapter_model.safetensors"}),
    ):
        out = tmp_path / source.rpartition("/")[2]
        assert set(world.run("pull", source, str(out))["sha256"]) == files
        assert {path.name for path in out.iterdir()} == files


def test_pull_keeps_graphs_in_their_folder(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert set(world.run("pull", "hf://org/export", str(out))["sha256"]) == {*FILES}
    found = contents(out)
    assert found.keys() == {*FILES}
    assert found["config.json"] == b"{}"


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (403, {}, "the Hub answered with status 403"),
        (418, {"X-Error-Message": "You brew tea"}, "status 418: You brew tea"),
    ],
)
def test_the_status_of_a_refused_download_is_told(
    world: World, status: int, headers: dict[str, str], says: str
) -> None:
    world.hub.create(f"org/refused{status}", {"m.pt": b"x"})
    world.hub.inject(Fault("HEAD", "/org/refused*", Status(status, headers), ALWAYS))
    answer = world.run("pull", f"hf://org/refused{status}/m.pt")
    assert says in answer["error"]
    assert "cannot be reached" not in answer["error"]
    assert answer["exit_code"] == 3


def test_a_busy_storage_is_asked_again(world: World, made: Path) -> None:
    world.hub.create("org/busy", {"m.pt": (made / "base.pt").read_bytes()})
    world.hub.inject(Fault("GET", "/storage/org/busy*", Status(503), 2))
    assert world.run("pull", "hf://org/busy/m.pt")["bytes"] > 0
    world.hub.create("org/busier", {"m.pt": (made / "base.pt").read_bytes()})
    world.hub.inject(Fault("GET", "/storage/org/busier*", Status(503), ALWAYS))
    assert "answered with status 503" in world.run("pull", "hf://org/busier/m.pt")["error"]
