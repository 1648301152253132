"""Safetensors files that torch.distributed.checkpoint writes for each process."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import sam21convert
from sam21convert.errors import RefusedError, UnreadableError
from sam21convert.io.open import open_source

from ..support.checkpoints import official_pt, state_dict

NAME = "shard-{:05}-model-00001-of-00001.safetensors"
Parts = Mapping[str, tuple[tuple[int, ...], torch.Tensor]]  # offsets and elements by name


def save(folder: Path, process: int, parts: Parts) -> None:
    folder.mkdir(exist_ok=True)
    info = {name: {"saved_offsets": list(at)} for name, (at, _) in parts.items()}
    metadata = {"DCP_VERSION": "1.0", "format": "pt", "DCP_SHARDING_INFO": json.dumps(info)}
    tensors = {name: tensor.contiguous() for name, (_, tensor) in parts.items()}
    save_file(tensors, folder / NAME.format(process), metadata)


def divided(folder: Path, tensors: Mapping[str, torch.Tensor], processes: int) -> None:
    """Divide the rows as DTensors do; what has too few rows is in the first files only."""
    for process in range(processes):
        parts = {}
        for name, tensor in tensors.items():
            chunks = tensor.chunk(processes)
            if process < len(chunks):
                at = sum(map(len, chunks[:process]))
                parts[name] = (at, *(0,) * (tensor.ndim - 1)), chunks[process]
        save(folder, process + 1, parts)


@pytest.mark.parametrize("processes", [1, 3])
def test_the_files_of_all_processes_are_put_together(processes: int, tmp_path: Path) -> None:
    tensors = state_dict()
    plain = official_pt(tmp_path / "plain.pt", tensors)
    divided(tmp_path / "run", tensors, processes)
    given = tmp_path / "run" if processes == 3 else tmp_path / "run" / NAME.format(1)
    report = sam21convert.convert(given, tmp_path / "out.pt")
    assert any("put together from what" in note for note in report.notes)
    assert sam21convert.diff(tmp_path / "out.pt", plain).exit_code == 0
    assert sam21convert.inspect(tmp_path / "run" / NAME.format(processes)).tensors == len(tensors)


def test_a_process_may_have_written_several_files(tmp_path: Path) -> None:
    tensors = state_dict()
    plain = official_pt(tmp_path / "plain.pt", tensors)
    for file in range(2):
        save(tmp_path, 1, {n: ((0,) * t.ndim, t) for n, t in [*tensors.items()][file::2]})
        (tmp_path / NAME.format(1)).rename(
            tmp_path / f"shard-00001-model-{file + 1:05}-of-00002.safetensors"
        )
    report = sam21convert.convert(
        tmp_path / "shard-00001-model-00002-of-00002.safetensors", tmp_path / "out.pt"
    )
    assert "put together from what one process saved" in report.notes
    assert sam21convert.diff(tmp_path / "out.pt", plain).exit_code == 0


def test_torch_writes_such_files(tmp_path: Path) -> None:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

    tensors = state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer = HuggingFaceStorageWriter(str(tmp_path / "run"), save_distributed=True)
        dcp_save(tensors, storage_writer=writer, no_dist=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [NAME.format(1)]
    sam21convert.convert(tmp_path / "run", tmp_path / "out.pt")
    plain = official_pt(tmp_path / "plain.pt", tensors)
    assert sam21convert.diff(tmp_path / "out.pt", plain).exit_code == 0


def test_lost_files_are_told(tmp_path: Path) -> None:
    tensors = state_dict()
    divided(tmp_path / "run", tensors, 3)
    (tmp_path / "run" / NAME.format(2)).unlink()
    with pytest.raises(UnreadableError, match="are not there once|process 2 is missing"):
        open_source(tmp_path / "run")
    divided(tmp_path / "run", tensors, 3)
    (tmp_path / "run" / NAME.format(3)).unlink()  # which no other file tells
    assert sam21convert.inspect(tmp_path / "run").problems


@pytest.mark.parametrize(
    "info",
    ["", "[]", '{"a": 3}', '{"a": {}}', '{"a": {"saved_offsets": [0, 0]}}'
     , '{"a": {"saved_offsets": [-1]}}', '{"a": {"saved_offsets": [1]}}', "[" * 100000],
)  # fmt: skip
def test_offsets_that_make_no_sense_are_an_error(info: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    tensors = {"a": torch.ones(3)}
    path = tmp_path / "run" / NAME.format(1)
    save_file(tensors, path, {"DCP_SHARDING_INFO": info})
    for given in (path, tmp_path / "run"):
        with pytest.raises(UnreadableError):
            open_source(given)


def test_columns_are_refused_and_the_hint_puts_them_together(tmp_path: Path) -> None:
    tensors = state_dict()
    plain = official_pt(tmp_path / "plain.pt", tensors)
    for process in (0, 1):
        parts: dict[str, tuple[tuple[int, ...], torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if tensor.ndim == 2 and tensor.shape[1] > 1:
                half = tensor.chunk(2, dim=1)
                parts[name] = (0, process * half[0].shape[1]), half[process]
            elif process == 0:
                parts[name] = (0,) * tensor.ndim, tensor
        save(tmp_path / "run", process + 1, parts)
    with pytest.raises(RefusedError, match="along another axis") as caught:
        open_source(tmp_path / "run")
    words = shlex.split(str(caught.value.hint).removeprefix("run: "))
    subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True)
    assert sam21convert.diff(tmp_path / "MERGED", plain).exit_code == 0
