"""The weights of a transformers folder split into several files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file
from transformers import Sam2VideoModel

from sam21convert import convert
from sam21convert.errors import UsageError
from sam21convert.io.sharded import parse_size

from ..commands.test_commands import run
from ..support.checkpoints import official_pt, state_dict

INDEX = "model.safetensors.index.json"
SIZE = 3_000_000


@pytest.fixture
def pt(tmp_path: Path) -> Path:
    return official_pt(tmp_path / "m.pt")


@pytest.fixture
def folder(tmp_path: Path, pt: Path) -> Path:
    done = convert(pt, tmp_path / "hf", shard_size="3MB", hashes=True)
    assert set(done.files) == set(os.listdir(tmp_path / "hf"))
    assert len(done.sha256) == len(done.files) + 1
    return tmp_path / "hf"


def test_no_file_is_larger_than_asked(folder: Path) -> None:
    shards = sorted(folder.glob("*.safetensors"))
    assert [path.name for path in shards] == [
        f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        for number in range(1, len(shards) + 1)
    ]
    sizes = [sum(t.nbytes for t in load_file(path).values()) for path in shards]
    assert max(sizes) <= SIZE
    content = json.loads((folder / INDEX).read_text())
    assert content["metadata"]["total_size"] == sum(sizes)


def test_files_and_index_equal_those_of_the_hub_library(
    tmp_path: Path, folder: Path, pt: Path
) -> None:
    convert(pt, tmp_path / "one")
    named = json.loads((folder / INDEX).read_text())["weight_map"]
    whole = load_file(tmp_path / "one" / "model.safetensors")
    whole = {name: whole[name].clone() for name in convert_order(tmp_path, pt)}
    (tmp_path / "theirs").mkdir()
    save_torch_state_dict(whole, tmp_path / "theirs", max_shard_size="3MB")
    assert json.loads((tmp_path / "theirs" / INDEX).read_text())["weight_map"] == named
    for path in sorted(folder.glob("*.safetensors")):
        assert path.read_bytes() == (tmp_path / "theirs" / path.name).read_bytes()


def convert_order(tmp_path: Path, pt: Path) -> list[str]:
    return [tensor["name"] for tensor in convert(pt, tmp_path / "x", dry_run=True).tensors]


def test_transformers_loads_them(folder: Path, tmp_path: Path, pt: Path) -> None:
    model, info = Sam2VideoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    convert(pt, tmp_path / "one")
    one = load_file(tmp_path / "one" / "model.safetensors")
    assert all(torch.equal(one[name], tensor) for name, tensor in model.state_dict().items())


def test_they_are_read_back(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "back.pt")
    found, expected = torch.load(tmp_path / "back.pt")["model"], state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_tensor_is_never_split(tmp_path: Path, pt: Path) -> None:
    done = convert(pt, tmp_path / "hf", shard_size=1)
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) == len(done.tensors)


def test_a_single_file_has_no_index(tmp_path: Path, pt: Path) -> None:
    convert(pt, tmp_path / "one")
    assert run("convert", pt, tmp_path / "hf", "--shard-size", "1GB").exit_code == 0
    assert sorted(os.listdir(tmp_path / "hf")) == sorted(os.listdir(tmp_path / "one"))


def test_a_folder_never_has_a_single_file_beside_shards(
    tmp_path: Path, folder: Path, pt: Path
) -> None:
    convert(pt, tmp_path / "one")
    for target, size in ((folder, None), (folder, "2MB"), (tmp_path / "one", "3MB")):
        before = {path: path.read_bytes() for path in target.iterdir()}
        with pytest.raises(UsageError, match=r"holds model\.safetensors"):
            convert(pt, target, shard_size=size, overwrite=True)
        assert {path: path.read_bytes() for path in target.iterdir()} == before


def test_an_error_leaves_nothing(tmp_path: Path, pt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> str:
        return '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}'

    monkeypatch.setattr("sam21convert.conversion.write.index_json", wrong)
    result = run("convert", pt, tmp_path / "hf", "--shard-size", "3MB")
    assert result.exit_code == 3
    assert os.listdir(tmp_path) == ["m.pt"]


@pytest.mark.parametrize("target", ["x.pt", "x.safetensors"])
def test_only_a_transformers_folder_has_shards(tmp_path: Path, pt: Path, target: str) -> None:
    assert run("convert", pt, tmp_path / target, "--shard-size", "3MB").exit_code == 2
    assert os.listdir(tmp_path) == ["m.pt"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 500_000_000), ("2.5 GB", 2_500_000_000), ("1kb", 1000), ("7", 7), ("7B", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "0", "0.1", "5 apples", "1MiB", "nan"])
def test_invalid_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a file size"):
        parse_size(text)
