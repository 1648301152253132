"""Reading what torch.save wrote before PyTorch 1.6, and still writes when asked to."""

from __future__ import annotations

import pickle
import re
import struct
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sam21convert.errors import RefusedError, Sam21ConvertError, UnreadableError
from sam21convert.io.source import Placeholder
from sam21convert.io.torch_legacy import read_torch_legacy

from ..corpus.spelling import tensor_pickle
from ..support.checkpoints import damaged
from .test_torch_zip import (
    bytes_at,
    check_training_checkpoint,
    noise,
    same,
    tensors,
    training_checkpoint,
)

PREAMBLE = b"".join(
    pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
)
FLOATS = struct.pack("<6f", *range(6))


def save(value: Any, path: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the source code of classes in tests is not found
        torch.save(value, path, _use_new_zipfile_serialization=False, **options)
    return path


def forge(path: Path, pickled: bytes, keys: Any = ("0",), data: bytes | None = None) -> Path:
    """Write a file by hand: the pickle of a checkpoint, and the storages that follow it."""
    if data is None:
        data = struct.pack("<q", 6) + FLOATS
    path.write_bytes(PREAMBLE + pickled + pickle.dumps(list(keys), 2) + data)
    return path


def one_tensor(**options: Any) -> bytes:
    return tensor_pickle(**{"more": (None,), **options})


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_tensor_is_found(protocol: int, tmp_path: Path) -> None:
    made = tensors()
    path = save({"model": made}, tmp_path / "a.pt", pickle_protocol=protocol)
    source = read_torch_legacy(path)
    assert (source.path, source.container, source.files) == (path, "torch legacy", (path,))
    assert source.placeholders == ()
    assert source.blobs == ()  # the format has no checksums
    found = source.root["model"]
    assert list(found) == list(made)
    assert [name for name in made if not same(found[name], made[name])] == []


def test_training_checkpoints_open(tmp_path: Path) -> None:
    saved = training_checkpoint()
    check_training_checkpoint(read_torch_legacy(save(saved, tmp_path / "a.pt")), saved)


@pytest.mark.filterwarnings("ignore:.*quantized tensor:UserWarning")
def test_storages_of_unknown_types_are_skipped(tmp_path: Path) -> None:
    saved = [torch.ones(3, dtype=torch.complex128), noise((2, 3), torch.float32)] * 2
    saved += [torch.quantize_per_tensor(torch.ones(5), 0.1, 0, torch.qint32)]
    saved += [noise((7,), torch.int64)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = read_torch_legacy(save(saved, tmp_path / "a.pt")).root
    assert root[0] == root[2] == Placeholder("torch.ComplexDoubleStorage")
    assert same(root[1], saved[1])
    assert same(root[3], saved[3])
    assert root[4] == Placeholder("torch._utils._rebuild_qtensor")
    assert same(root[5], saved[5])


def test_views_of_storages_are_found(tmp_path: Path) -> None:
    """In old versions of torch a storage can be a part of another."""
    pickled = one_tensor(shape=(2,), more=(("7", 3, 2),))
    ref = read_torch_legacy(forge(tmp_path / "a.pt", pickled)).root
    assert bytes_at(ref) == FLOATS[12:20]
    with pytest.raises(UnreadableError, match="storage '0': a tensor goes beyond its end"):
        read_torch_legacy(forge(tmp_path / "b.pt", one_tensor(more=(("7", 3, 2),))))
    with pytest.raises(UnreadableError, match="storage '0': a view goes beyond its end"):
        read_torch_legacy(forge(tmp_path / "c.pt", one_tensor(more=(("7", 3, 4),))))
    with pytest.raises(UnreadableError, match="not a number from 0"):
        read_torch_legacy(forge(tmp_path / "d.pt", one_tensor(more=(("7", -1, 4),))))


def test_headers_of_any_length_are_read(tmp_path: Path) -> None:
    """What is long is passed by and not kept; the short text after it is read."""
    value = {"text": "x" * 3 * 2**20, "array": np.ones(2**20), "after": "y", "w": torch.arange(6.0)}
    tracemalloc.start()
    source = read_torch_legacy(save(value, tmp_path / "a.pt"))
    assert tracemalloc.get_traced_memory()[0] < 2**20
    tracemalloc.stop()
    assert [source.root[name] for name in ("text", "after")] == [Placeholder("bytes"), "y"]
    assert same(source.root["w"], torch.arange(6.0))


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "storage cut short": ({"data": struct.pack("<q", 6) + FLOATS[:-3]}, "storage '0': the file"),
    "no storages": ({"data": b""}, "storage '0': the file ends 32 bytes before"),
    "other length": ({"data": struct.pack("<q", 5) + FLOATS}, "says 5 elements, the pickle 6"),
    "negative length": ({"data": struct.pack("<q", -1) + FLOATS}, "elements, the pickle 6"),
    "no key": ({"keys": ()}, "the list of storages does not match"),
    "other key": ({"keys": ("1",)}, "the list of storages does not match"),
    "key twice": ({"keys": ("0", "0")}, "the list of storages does not match"),
    "key no string": ({"keys": (0,)}, "the list of storages does not match"),
    "id of the zip format": ({"pickled": tensor_pickle()}, "does not describe a storage"),
    "odd view": ({"pickled": one_tensor(more=(7,))}, "does not describe a storage"),
    "tensor beyond its storage": ({"pickled": one_tensor(offset=1)}, "goes beyond its end"),
    "huge storage": ({"pickled": one_tensor(numel=2**62)}, "storage '0': the file ends"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_reported(name: str, tmp_path: Path) -> None:
    options, message = DAMAGED[name]
    path = forge(tmp_path / "a.pt", **{"pickled": one_tensor(), **options})
    with pytest.raises(UnreadableError, match=re.escape(message)) as caught:
        read_torch_legacy(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_bytes_after_the_storages_are_refused(tmp_path: Path) -> None:
    path = forge(tmp_path / "a.pt", one_tensor(), data=struct.pack("<q", 6) + FLOATS + b"xyz")
    with pytest.raises(RefusedError, match="there are 3 bytes after the end of the checkpoint"):
        read_torch_legacy(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"")
    with pytest.raises(UnreadableError, match="does not begin with the magic number"):
        read_torch_legacy(path)
    path.write_bytes(b"\x89PNG" * 100)
    with pytest.raises(UnreadableError, match="does not begin with the magic number"):
        read_torch_legacy(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(RefusedError, match=r"a pickle, but not one that torch\.save wrote"):
        read_torch_legacy(path)
    path.write_bytes(PREAMBLE.replace(struct.pack("<H", 1001), struct.pack("<H", 1002)))
    with pytest.raises(RefusedError, match="its protocol version is not 1001"):
        read_torch_legacy(path)
    with pytest.raises(UnreadableError, match=re.escape(str(tmp_path / "missing.pt"))):
        read_torch_legacy(tmp_path / "missing.pt")


def test_damage_raises_only_our_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    whole = forge(path, one_tensor()).read_bytes()
    outcomes = []
    for data in damaged(whole):
        path.write_bytes(data)
        outcomes.append(outcome(path))
    assert None not in outcomes[: len(whole)]
    assert None in outcomes  # in the data itself there is nothing to find
    for text in filter(None, outcomes):
        assert text.startswith(str(path))
        assert "\n" not in text


def outcome(path: Path) -> str | None:
    """The message of the error raised when reading. Only our own errors are caught."""
    try:
        read_torch_legacy(path)
    except Sam21ConvertError as error:
        return error.message
    return None
