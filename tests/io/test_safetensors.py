from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sam21convert.errors import RefusedError, Sam21ConvertError, UnreadableError
from sam21convert.io.safetensors import read_safetensors, read_sharded, write_safetensors
from sam21convert.io.tensor import Tensor, TensorRef
from sam21convert.report import SILENT

from ..support.checkpoints import read_bytes
from ..support.progress import Recorded

TENSORS = {
    "weight": torch.randn(3, 5),
    "half.β": torch.randn(7).half(),
    "brain": torch.randn(2, 2).bfloat16(),
    "double": torch.randn(1).double(),
    "count": torch.arange(4),
    "flag": torch.tensor([True, False]),
    "bytes": torch.arange(3, dtype=torch.uint8),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "a": torch.randn(3),
}


def as_written(path: Path) -> dict[str, Tensor]:
    refs = read_safetensors(path).root
    return {name: Tensor(ref.spec, (ref,)) for name, ref in refs.items()}


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt"})
    return path


def test_every_tensor_is_found(reference: Path) -> None:
    source = read_safetensors(reference)
    assert source.metadata == {"format": "pt"}
    assert set(source.root) == set(TENSORS)
    for name, tensor in TENSORS.items():
        ref: TensorRef = source.root[name]
        assert ref.spec.shape == tuple(tensor.shape)
        raw = tensor.flatten().view(torch.uint8) if tensor.ndim else tensor[None].view(torch.uint8)
        assert read_bytes(ref) == raw.numpy().tobytes()


@pytest.mark.parametrize("metadata", [{"format": "pt"}, {}])
def test_the_file_equals_that_of_the_library(tmp_path: Path, metadata: dict[str, str]) -> None:
    reference, ours = tmp_path / "reference", tmp_path / "ours"
    save_file(TENSORS, reference, metadata=metadata or None)
    write_safetensors(ours, as_written(reference), metadata, SILENT)
    assert ours.read_bytes() == reference.read_bytes()


def test_without_kernel_copies_the_file_is_the_same(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "ours"

    def refuse(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.copy_file_range", refuse, raising=False)
    write_safetensors(ours, as_written(reference), {"format": "pt"}, SILENT)
    assert ours.read_bytes() == reference.read_bytes()
    monkeypatch.delattr("os.copy_file_range")
    write_safetensors(ours, as_written(reference), {"format": "pt"}, SILENT)
    assert ours.read_bytes() == reference.read_bytes()


def test_progress_counts_every_byte(tmp_path: Path, reference: Path) -> None:
    told = Recorded()
    write_safetensors(tmp_path / "ours", as_written(reference), {}, told)
    assert told.done == sum(tensor.nbytes for tensor in TENSORS.values())


def written(tmp_path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "broken.safetensors"
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "data", "complaint"),
    [
        ({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, bytes(12), "b leaves a gap"),
        ({"a": entry(0, 8, [2]), "b": entry(4, 8, [1])}, bytes(8), "b overlaps"),
        ({"a": entry(0, 4, [1])}, bytes(3), "describes 4 bytes of data, but the file has 3"),
        ({"a": entry(0, 4, [1])}, bytes(5), "describes 4 bytes of data, but the file has 5"),
        ({"a": entry(0, 4, [2])}, bytes(4), "needs 8 bytes, but its offsets span 4"),
        ({"a": entry(4, 0, [1])}, bytes(4), "its offsets span -4"),
        ({"a": entry(0, 4, [-1])}, bytes(4), "whole numbers"),
        ({"a": entry(0, 4, [1 << 70])}, bytes(4), "whole numbers"),
        ({"a": {"dtype": "F32"}}, b"", "needs exactly"),
        ({"a": 3}, b"", "needs exactly"),
        ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
        (
            b'{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}, "a": 2}',
            b"",
            "'a' occurs twice",
        ),
        (b"[]", b"", "not a JSON object"),
        (b"{", b"", "not valid"),
        (b"[" * 100_000, b"", "not valid"),
        (b"\xff\xff", b"", "not valid"),
    ],
)
def test_a_broken_header_is_named(tmp_path: Path, header: Any, data: bytes, complaint: str) -> None:
    path = written(tmp_path, header, data)
    with pytest.raises(UnreadableError, match=complaint) as caught:
        read_safetensors(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("length", [3, 1 << 40, (1 << 64) - 1])
def test_a_header_larger_than_the_file_is_not_read(tmp_path: Path, length: int) -> None:
    with pytest.raises(UnreadableError, match="claims a header of"):
        read_safetensors(written(tmp_path, b"{}", length=length))


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="a: unknown element type 'F3'"):
        read_safetensors(written(tmp_path, {"a": entry(0, 4, [1], "F3")}, bytes(4)))


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="this torch has no such type")
def test_floats_of_fewer_bits_are_named_as_quantised(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(4, dtype=torch.float4_e2m1fn_x2)}, tmp_path / "small.safetensors")
    with pytest.raises(RefusedError, match="a: is quantised to F4, floats of fewer than 8 bits"):
        read_safetensors(tmp_path / "small.safetensors")


def test_a_file_cut_anywhere_raises_one_of_our_errors(tmp_path: Path, reference: Path) -> None:
    whole, cut = reference.read_bytes(), tmp_path / "cut"
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(Sam21ConvertError):
            read_safetensors(cut)


class TestShards:
    @pytest.fixture
    def index(self, tmp_path: Path) -> Path:
        save_file({"a": torch.ones(2)}, tmp_path / "1.safetensors")
        save_file({"b": torch.ones(3)}, tmp_path / "2.safetensors")
        path = tmp_path / "model.safetensors.index.json"
        self.write(path, {"b": "2.safetensors", "a": "1.safetensors"})
        return path

    def write(self, path: Path, weight_map: Any) -> None:
        path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    def test_tensors_come_from_all_shards(self, index: Path) -> None:
        source = read_sharded(index)
        assert {name: ref.path.name for name, ref in source.root.items()} == {
            "a": "1.safetensors",
            "b": "2.safetensors",
        }
        assert len(source.files) == 3

    @pytest.mark.parametrize(
        ("weight_map", "complaint"),
        [
            ({"a": "1.safetensors", "b": "gone.safetensors"}, "No such file"),
            ({"a": "1.safetensors", "b": "1.safetensors"}, "places b in 1.safetensors, which"),
            ({"a": "1.safetensors", "c": "2.safetensors"}, "holds b, which .* places in no shard"),
            ({"a": "../1.safetensors"}, "not a file name in this folder"),
            ({"a": 3}, "not a file name in this folder"),
            ({}, "no weight_map"),
            ([], "no weight_map"),
        ],
    )
    def test_an_index_that_contradicts_its_shards_is_refused(
        self, index: Path, weight_map: Any, complaint: str
    ) -> None:
        self.write(index, weight_map)
        with pytest.raises(UnreadableError, match=complaint):
            read_sharded(index)


@pytest.mark.parametrize("null", ["null", " null ", "{}"])
def test_metadata_may_be_null(null: str, tmp_path: Path) -> None:
    entry = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    path = tmp_path / "a.safetensors"
    for header in (f'{{"__metadata__":{null},{entry}}}', f'{{{entry},"__metadata__":{null}}}'):
        text = header.encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
        assert (list(read_safetensors(path).root), read_safetensors(path).metadata) == (["a"], {})
    text = f'{{"__metadata__":{null},"__metadata__":{{}},{entry}}}'.encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(UnreadableError, match="occurs twice"):
        read_safetensors(path)


def test_what_mlx_writes_is_read(tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    path = tmp_path / "a.safetensors"
    mx.save_safetensors(str(path), {"a": mx.arange(3), "long name": mx.zeros((2, 5))})
    assert b'"__metadata__":null' in path.read_bytes()
    found = {name: ref.spec.shape for name, ref in read_safetensors(path).root.items()}
    assert found == {"a": (3,), "long name": (2, 5)}
