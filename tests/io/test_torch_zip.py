"""Files of torch.save: the bytes of every tensor are found, and nothing runs."""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import pathlib
import pickle
import random
import re
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sam21convert.errors import RefusedError, Sam21ConvertError, UnreadableError
from sam21convert.io.source import Blob, Placeholder, Source
from sam21convert.io.tensor import DTYPES, TensorRef
from sam21convert.io.torch_zip import read_torch_zip

from ..corpus.spelling import tensor_pickle
from ..corpus.zips import LIES
from ..support.checkpoints import damaged

TYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
}
if hasattr(torch, "float8_e8m0fnu"):  # from torch 2.7
    TYPES[torch.float8_e8m0fnu] = "F8_E8M0"


def bytes_at(ref: TensorRef) -> bytes:
    """The bytes of the elements in row-major order, read one by one."""
    size, shape = DTYPES[ref.spec.dtype], ref.spec.shape
    with ref.path.open("rb") as file:
        file.seek(ref.offset)
        data = file.read(ref.extent)
    assert len(data) == ref.extent
    if ref.stride is None:
        return data
    steps = [
        sum(i * step for i, step in zip(index, ref.stride, strict=True)) * size
        for index in itertools.product(*map(range, shape))
    ]
    return b"".join(data[step : step + size] for step in steps)


def bytes_of(tensor: torch.Tensor) -> bytes:
    whole = tensor.detach().contiguous().flatten().view(torch.uint8)
    return bytes(whole.tolist())


def same(found: Any, tensor: torch.Tensor) -> bool:
    return (
        isinstance(found, TensorRef)
        and found.spec.dtype == TYPES[tensor.dtype]
        and found.spec.shape == tuple(tensor.shape)
        and (found.stride is None) == tensor.is_contiguous()
        and bytes_at(found) == bytes_of(tensor)
    )


def noise(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of random bytes, except that booleans are valid."""
    size = torch.empty(0, dtype=dtype).element_size()
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (*shape, size), dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


def tensors() -> dict[str, torch.Tensor]:
    """A tensor of every kind that a reader must handle."""
    made = {name: noise((2, 3), dtype) for dtype, name in TYPES.items()}
    base = noise((4, 6), torch.float32)
    small = noise((4, 6), torch.float8_e4m3fn)
    made |= {
        "base": base,
        "shared whole": base.view(24),
        "shared row": base[2],
        "shared rows": base[1:3],
        "transposed": base.t(),
        "column": base[:, 1],
        "every other": base[::2, 1::2],
        "expanded": base[:, :1].expand(4, 5),
        "expanded scalar": torch.tensor(3.5).expand(2, 3),
        "channels last": noise((2, 3, 4, 5), torch.float16).to(memory_format=torch.channels_last),
        "of size one": torch.as_strided(base, (1, 6), (17, 1), 6),
        "shared 8 bit": small[1],
        "transposed 8 bit": small.t(),
        "scalar": torch.tensor(1.25, dtype=torch.bfloat16),
        "empty": torch.empty(0),
        "empty rows": torch.empty(0, 7, dtype=torch.int64),
        "empty part": base[4:],
        "empty 8 bit": torch.empty(0, dtype=torch.float8_e5m2),
        "parameter": torch.nn.Parameter(noise((3,), torch.float64)),
        "frozen parameter": torch.nn.Parameter(base[0], requires_grad=False),
        "buffer": torch.nn.Buffer(base[3]),
        "with attributes": torch.nn.Parameter(base[1]),
    }
    made["with attributes"].note = "x"  # type: ignore[attr-defined]
    return made


def save(value: Any, path: Path, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def pack(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def unpack(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    return save({"model": {"w": torch.arange(6.0)}}, tmp_path / "simple.pt")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_tensor_is_found(protocol: int, tmp_path: Path) -> None:
    made = tensors()
    path = save({"model": made}, tmp_path / "a.pt", pickle_protocol=protocol)
    source = read_torch_zip(path)
    assert (source.path, source.container, source.files) == (path, "torch zip", (path,))
    assert source.placeholders == ()
    found = source.root["model"]
    assert list(found) == list(made)
    assert [name for name in made if not same(found[name], made[name])] == []


def test_strides_of_axes_with_one_element_do_not_matter(tmp_path: Path) -> None:
    path = save([torch.as_strided(torch.arange(6.0), (1, 3, 1), (5, 1, 9))], tmp_path / "a.pt")
    assert read_torch_zip(path).root[0].stride is None


def test_shared_storages_are_one_blob(tmp_path: Path) -> None:
    base = noise((4, 6), torch.float32)
    source = read_torch_zip(save([base, base[2], base.t()], tmp_path / "a.pt"))
    (blob,) = source.blobs
    assert blob.name == "a/data/0"
    assert (blob.path, blob.offset, blob.nbytes) == (source.path, source.root[0].offset, 96)
    assert source.root[1].offset == blob.offset + 48


def test_blobs_hold_the_checksums_of_the_data(tmp_path: Path) -> None:
    source = read_torch_zip(save(tensors(), tmp_path / "a.pt"))
    assert len(source.blobs) == len({blob.name for blob in source.blobs}) > 15
    for blob in source.blobs:
        assert zlib.crc32(contents(blob)) == blob.crc32


def contents(blob: Blob) -> bytes:
    return blob.path.read_bytes()[blob.offset : blob.offset + blob.nbytes]


def test_archives_saved_without_checksums_have_no_blobs(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = save({"w": torch.arange(6.0)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    source = read_torch_zip(path)
    assert source.blobs == ()
    assert same(source.root["w"], torch.arange(6.0))


def test_archives_packed_by_another_program_are_read(simple: Path, tmp_path: Path) -> None:
    entries = {name.replace("simple/", "x y/"): data for name, data in unpack(simple).items()}
    del entries["x y/byteorder"]  # older versions of torch do not write it
    source = read_torch_zip(pack(tmp_path / "b.pt", entries))
    assert same(source.root["model"]["w"], torch.arange(6.0))


# Training checkpoints


class Custom:
    def __init__(self) -> None:
        self.weights = torch.ones(3)


def training_checkpoint() -> dict[str, Any]:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "loss": np.float64(0.5),
        "history": np.arange(3),
        "args": argparse.Namespace(lr=1e-3, device=torch.device("cpu")),
        "path": pathlib.PurePosixPath("a/b"),
        "meters": collections.defaultdict(list, {"loss": [1.0]}),
        "custom": Custom(),
        "whole": model,
        "shape": torch.Size([1, 2]),
        "device": torch.device("cuda", 1),
        "dtype": torch.bfloat16,
        "storage": torch.ones(2).untyped_storage(),
    }


def check_training_checkpoint(source: Source, saved: dict[str, Any]) -> None:
    root = source.root
    assert list(root) == list(saved)
    for name, tensor in saved["model"].items():
        assert same(root["model"][name], tensor)
    state = saved["optimizer"]["state"]
    assert list(root["optimizer"]["state"]) == list(state) == [0, 1, 2, 3]
    for number, values in state.items():
        for name, tensor in values.items():
            assert same(root["optimizer"]["state"][number][name], tensor)
    assert root["optimizer"]["param_groups"] == saved["optimizer"]["param_groups"]
    assert root["epoch"] == 3
    assert root["meters"] == {"loss": [1.0]}
    assert root["shape"] == (1, 2)
    assert root["device"] == "cuda:1"
    assert root["dtype"] == "torch.bfloat16"
    assert root["custom"] == Placeholder(f"{Custom.__module__}.Custom")
    assert list(root["whole"]) == list(saved["whole"].state_dict())
    for name, tensor in saved["whole"].state_dict().items():
        assert same(root["whole"][name], tensor)
    assert isinstance(root["storage"], Placeholder)
    names = source.placeholders
    assert len(set(names)) == len(names)
    wanted = [
        r"numpy\.(_core|core)\.multiarray\.scalar",
        r"numpy\.dtype",
        r"numpy\.(_core|core)\.multiarray\._reconstruct",
        r"argparse\.Namespace",
        r"pathlib(\._local)?\.PurePosixPath",
        r"builtins\.list",
        r".*\.Custom",
        r"torch\.nn\.modules\.container\.Sequential",
    ]
    order = [next(i for i, name in enumerate(names) if re.fullmatch(w, name)) for w in wanted]
    assert order == sorted(order)


def test_training_checkpoints_open(tmp_path: Path) -> None:
    saved = training_checkpoint()
    check_training_checkpoint(read_torch_zip(save(saved, tmp_path / "a.pt")), saved)


def test_tensors_of_another_kind_are_placeholders(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = {
            "quantised": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
            "sparse": torch.eye(2).to_sparse(),
            "meta": torch.empty(2, device="meta"),
            "nested": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
            "conjugate": torch.ones(2, dtype=torch.complex64).conj(),
            "double complex": torch.ones(2, dtype=torch.complex128),
            "plain": torch.ones(2),
        }
        path = save(value, tmp_path / "a.pt")
    source = read_torch_zip(path)
    assert same(source.root.pop("plain"), torch.ones(2))
    names = {key: value.name for key, value in source.root.items()}
    assert names == {
        "quantised": "torch._utils._rebuild_qtensor",
        "sparse": "torch._utils._rebuild_sparse_tensor",
        "meta": "torch._utils._rebuild_meta_tensor_no_storage",
        "nested": "torch._utils._rebuild_nested_tensor",
        "conjugate": "torch._utils.set_tensor_metadata",
        "double complex": "torch.ComplexDoubleStorage",
    }
    assert set(names.values()) <= set(source.placeholders)


class Subclass(torch.Tensor):
    pass


def test_tensors_of_a_subclass_are_placeholders(tmp_path: Path) -> None:
    source = read_torch_zip(save([torch.ones(2).as_subclass(Subclass)], tmp_path / "a.pt"))
    assert source.root == [Placeholder(f"{__name__}.Subclass")]
    assert source.placeholders == (f"{__name__}.Subclass",)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("echo fired > fired",)


def test_an_attack_on_torch_load_runs_nothing_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save({"model": {"w": torch.ones(2)}, "evil": Evil()}, tmp_path / "a.pt")
    code = "import torch; torch.load('a.pt', weights_only=False)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "fired").exists(), "the attack is harmless even to torch"
    (tmp_path / "fired").unlink()

    monkeypatch.chdir(tmp_path)
    source = read_torch_zip(path)
    assert not (tmp_path / "fired").exists()
    assert source.placeholders == (f"{os.name}.system",)
    assert same(source.root["model"]["w"], torch.ones(2))


# Tensors that contradict their storage, in pickles written by hand.


def forge(path: Path, pickled: bytes, data: bytes = bytes(24), **more: bytes) -> Path:
    return pack(path, {"a/data.pkl": pickled, "a/data/0": data, "a/version": b"3\n", **more})


def test_a_tensor_written_by_hand_is_read(tmp_path: Path) -> None:
    path = forge(tmp_path / "a.pt", tensor_pickle(), bytes(range(24)))
    assert bytes_at(read_torch_zip(path).root) == bytes(range(24))


@pytest.mark.parametrize("lie", LIES)
def test_a_tensor_that_contradicts_its_storage_is_reported(lie: str, tmp_path: Path) -> None:
    options, message = LIES[lie]
    path = forge(tmp_path / "a.pt", tensor_pickle(**options))
    with pytest.raises(UnreadableError, match=re.escape(message)) as caught:
        read_torch_zip(path)
    assert re.match(rf"{re.escape(str(path))}: data\.pkl, byte \d+: ", str(caught.value))


def test_a_storage_described_twice_must_be_the_same(tmp_path: Path) -> None:
    one, other = tensor_pickle()[2:-1], tensor_pickle(storage="IntStorage")[2:-1]
    path = forge(tmp_path / "a.pt", b"\x80\x02" + one + other + b"\x86.")
    with pytest.raises(UnreadableError, match="storage '0': it is described in two different"):
        read_torch_zip(path)


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"ctorch._utils\n_rebuild_tensor_v2\n(tR.", "unexpected arguments"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR.", "a storage and two tuples"),
        (b"ctorch._utils\n_rebuild_tensor_v3\n(NNNNNN]tR.", "unexpected arguments"),
        (b"ctorch._utils\n_rebuild_parameter\n(NNNtR.", "unexpected arguments"),
        (b"ctorch._tensor\n_rebuild_from_type_v2\n(NNNNtR.", "unexpected arguments"),
        (b"NQ.", "does not describe a storage"),
        (tensor_pickle()[:-1] + b"Nb.", "a TensorRef is given attributes"),
    ],
)
def test_rebuild_functions_check_their_arguments(
    pickled: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableError, match=message):
        read_torch_zip(forge(tmp_path / "a.pt", pickled))


def test_nested_rebuild_functions_do_not_recurse(tmp_path: Path) -> None:
    call, args = b"ctorch._tensor\n_rebuild_from_type_v2\n", b"N"
    for _ in range(3000):
        args = b"(" + call + b"ctorch\nTensor\n" + args + b"Nt"
    path = forge(tmp_path / "a.pt", call + args + b"R.")
    assert read_torch_zip(path).root == Placeholder("torch.Tensor")


# Archives that are something else, or damaged


def test_other_archives_are_refused(simple: Path, tmp_path: Path) -> None:
    path = pack(tmp_path / "a.pt", {"readme.txt": b"hello"})
    with pytest.raises(RefusedError, match="a zip archive, but not a PyTorch checkpoint"):
        read_torch_zip(path)
    entries = unpack(simple)
    path = pack(tmp_path / "b.pt", {**entries, "other/data.pkl": b"N."})
    with pytest.raises(UnreadableError, match=r"more than one data\.pkl"):
        read_torch_zip(path)
    path = pack(tmp_path / "c.pt", {f"deep/{name}": data for name, data in entries.items()})
    with pytest.raises(RefusedError, match="not a PyTorch checkpoint"):
        read_torch_zip(path)


def test_byte_orders_other_than_little_are_refused(tmp_path: Path) -> None:
    def path(order: bytes) -> Path:
        return forge(tmp_path / "a.pt", tensor_pickle(), **{"a/byteorder": order})

    assert read_torch_zip(path(b"little")).root
    with pytest.raises(RefusedError, match="big-endian"):
        read_torch_zip(path(b"big"))
    with pytest.raises(UnreadableError, match="byteorder"):
        read_torch_zip(path(b"middle"))
    with pytest.raises(RefusedError, match="byteorder: 100 bytes are more"):
        read_torch_zip(path(b"x" * 100))


def test_compressed_and_encrypted_entries_are_refused(simple: Path, tmp_path: Path) -> None:
    path = pack(tmp_path / "a.pt", unpack(simple), zipfile.ZIP_DEFLATED)
    with pytest.raises(RefusedError, match="compressed") as caught:
        read_torch_zip(path)
    assert caught.value.hint is not None

    data = bytearray(forge(path, tensor_pickle()).read_bytes())
    entry = data.rindex(b"PK\1\2", 0, data.rindex(b"a/data/0"))
    data[entry + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(RefusedError, match="its entry in the zip archive is encrypted"):
        read_torch_zip(path)


def test_two_entries_of_one_name_are_reported(simple: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(simple, "a") as archive:
            archive.writestr("simple/data/0", bytes(24))
    with pytest.raises(UnreadableError, match="the same name"):
        read_torch_zip(simple)


def test_both_headers_of_an_entry_must_agree(tmp_path: Path) -> None:
    path = forge(tmp_path / "a.pt", tensor_pickle())
    data = path.read_bytes()
    first = data.index(b"a/data/0")
    for at in (first, first - 30, first - 4):  # its name, its magic number, its length
        path.write_bytes(data[:at] + b"?" + data[at + 1 :])
        with pytest.raises(UnreadableError, match="storage '0': its entry and the directory"):
            read_torch_zip(path)


def test_an_entry_must_be_inside_the_file(tmp_path: Path) -> None:
    path = forge(tmp_path / "a.pt", tensor_pickle())
    data = bytearray(path.read_bytes())
    first = data.index(b"a/data/0")
    struct.pack_into("<H", data, first - 2, 60_000)  # length of the extra field in front
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match="storage '0': its entry extends beyond the end"):
        read_torch_zip(path)
    entry = data.rindex(b"PK\1\2", 0, data.rindex(b"a/data/0"))
    struct.pack_into("<I", data, entry + 42, 2**31)
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match="storage '0': its entry is outside the file"):
        read_torch_zip(path)


def test_a_corrupt_pickle_is_reported(simple: Path) -> None:
    data = bytearray(simple.read_bytes())
    data[data.index(b"OrderedDict") + 1] ^= 1
    simple.write_bytes(data)
    with pytest.raises(UnreadableError, match=r"data\.pkl: the data does not match its checksum"):
        read_torch_zip(simple)


def test_bytes_after_the_pickle_are_refused(tmp_path: Path) -> None:
    path = forge(tmp_path / "a.pt", tensor_pickle() + b"xyz")
    with pytest.raises(RefusedError, match=r"data\.pkl holds 3 bytes after its end"):
        read_torch_zip(path)


def test_pickles_are_limited_by_what_is_kept_of_them(tmp_path: Path) -> None:
    """Half a million numbers and an array of 24 MB are no reason to refuse a checkpoint."""
    curve = [step / 7 for step in range(450_000)]
    value = {"w": torch.ones(2), "curve": curve, "map": np.ones(3_000_000)}
    source = read_torch_zip(save(value, tmp_path / "a.pt"))
    assert same(source.root["w"], torch.ones(2))
    assert len(source.root["curve"]) == len(curve)


def test_files_that_cannot_be_opened_are_reported(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pt", tmp_path):
        with pytest.raises(UnreadableError, match=re.escape(f"{path}: ")):
            read_torch_zip(path)
    empty = tmp_path / "empty.pt"
    empty.touch()
    with pytest.raises(UnreadableError, match="not an intact zip archive"):
        read_torch_zip(empty)


def test_damage_raises_only_our_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    whole = forge(path, tensor_pickle(), **{"a/byteorder": b"little"}).read_bytes()
    outcomes = []
    for data in damaged(whole):
        path.write_bytes(data)
        outcomes.append(outcome(path))
    assert None in outcomes  # damage in the data itself is found later, by the checksums
    for text in filter(None, outcomes):
        assert text.startswith(str(path))
        assert "\n" not in text


def test_damage_in_the_pickle_raises_only_our_errors(tmp_path: Path) -> None:
    """The checksum is updated, so that the damage reaches the unpickler."""
    whole = tensor_pickle()
    chance = random.Random(1)
    outcomes = set()
    for at in range(len(whole)):
        for byte in (0, 0x28, 0x51, 0x52, 0x74, 0xFF, chance.randrange(256)):
            damaged = whole[:at] + bytes([byte]) + whole[at + 1 :]
            outcomes.add(outcome(forge(tmp_path / "a.pt", damaged)))
    assert len(outcomes) > 100


def outcome(path: Path) -> str | None:
    """The message of the error raised when reading. Only our own errors are caught."""
    try:
        read_torch_zip(path)
    except Sam21ConvertError as error:
        return error.message
    return None


def test_a_large_file_is_opened_without_its_data(
    tmp_path: Path,
) -> None:
    size = 100 * 2**20
    path = save({"w": torch.zeros(size // 4)}, tmp_path / "a.pt")
    tracemalloc.start()
    assert read_torch_zip(path).root["w"].spec.nbytes == size
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_the_helpers_detect_a_wrong_offset(tmp_path: Path) -> None:
    made = noise((4, 6), torch.float32)
    straight, turned = read_torch_zip(save([made, made.t()], tmp_path / "a.pt")).root
    assert same(straight, made)
    assert same(turned, made.t())
    assert not same(replace(straight, offset=straight.offset + 4), made)
    assert not same(replace(turned, offset=turned.offset - 1), made.t())
    assert not same(replace(turned, stride=(6, 1)), made.t())
    assert not same(straight, made.flip(0))


def test_a_file_that_torch_began_is_named(tmp_path: Path) -> None:
    """An error while it pickles leaves the entries that it writes before and behind the pickle."""
    with pytest.raises((AttributeError, pickle.PicklingError)):
        torch.save({"model": torch.ones(2), "made by": lambda: None}, tmp_path / "a.pt")
    with pytest.raises(UnreadableError, match="torch.save began this file and did not finish"):
        read_torch_zip(tmp_path / "a.pt")
