# ruff: noqa: E501
"""Zip archives whose parts contradict each other, and tensors outside their storages."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .case import ACCEPTED, Case, written
from .spelling import (
    LEGACY,
    Entry,
    call,
    model,
    model_zip,
    shared,
    spelled,
    storage,
    tensor,
    tensor_pickle,
    torch_entries,
    torch_zip,
    zipped,
)

# Arguments of a tensor that cannot be, and what is said of them.
LIES: dict[str, tuple[dict[str, Any], str]] = {
    "negative offset": ({"offset": -1}, "not a number from 0"),
    "huge offset": ({"offset": 2**63}, "not a number from 0"),
    "offset no number": ({"offset": None}, "not a number from 0"),
    "offset a bool": ({"offset": True}, "not a number from 0"),
    "offset beyond the storage": ({"offset": 1}, "storage '0': a tensor goes beyond its end"),
    "shape beyond the storage": ({"shape": (7,)}, "storage '0': a tensor goes beyond its end"),
    "stride beyond the storage": ({"stride": (2,)}, "storage '0': a tensor goes beyond its end"),
    "negative size": ({"shape": (-1,)}, "not a number from 0"),
    "size no number": ({"shape": ("6",)}, "not a number from 0"),
    "size a fraction": ({"shape": (6.0,)}, "not a number from 0"),
    "negative stride": ({"stride": (-1,)}, "not a number from 0"),
    "huge stride": ({"stride": (2**64,)}, "not a number from 0"),
    "huge product": ({"shape": (2**62, 2**62), "stride": (0, 0)}, "more than"),
    "shape no tuple": ({"shape": 6}, "a storage and two tuples"),
    "shape without strides": ({"stride": ()}, "do not fit each other"),
    "rank 65": ({"shape": (1,) * 65, "stride": (1,) * 65}, "do not fit each other"),
    "storage shorter than claimed": ({"numel": 7}, "storage '0': its entry has 24 bytes, not 7"),
    "storage longer than claimed": ({"numel": 5}, "storage '0': its entry has 24 bytes, not 5"),
    "other element size": ({"storage": "DoubleStorage"}, "not 6 elements of 8 bytes"),
    "negative storage": ({"numel": -6}, "not a number from 0"),
    "huge storage": ({"numel": 2**62}, "storage '0': its entry has 24 bytes"),
    "no such storage": ({"key": "7"}, "storage '7': the zip archive has no entry"),
    "storage out of the folder": ({"key": "../data.pkl"}, "the zip archive has no entry"),
    "long key": ({"key": "7" * 101}, "more than 100 characters"),
    "key no string": ({"key": 0}, "does not describe a storage"),
    "unknown storage class": ({"storage": "OddStorage"}, "does not describe a storage"),
}


NAME = "no_mem_embed"
ENCRYPTED = "its entry in the zip archive is encrypted"
DISAGREE = "contradict each other"


def cases() -> Iterator[Case]:
    """Wrong tensors, entries and archives; other kinds of archives and tensors."""
    for name, (options, message) in LIES.items():
        says: tuple[str, ...] = ("data.pkl, byte", message)
        yield Case("tensors that lie", name, written(torch_zip(tensor_pickle(**options))), says)
        legacy = (
            LEGACY + tensor_pickle(**{"more": (None,), **options}) + b"]" + spelled("0") + b"a."
        )
        legacy += (6).to_bytes(8, "little") + bytes(24)
        if "storage" not in name and name not in ("other element size", "long key"):
            place = ("the pickle of the checkpoint, byte", message)
            yield Case("tensors that lie", f"{name}, in the legacy format", written(legacy), place)
    two = tensor_pickle()[2:-1] + tensor_pickle(storage="IntStorage")[2:-1]
    made = torch_zip(b"\x80\x02" + two + b"\x86.")
    says = ("storage '0': it is described in two different ways",)
    yield Case("tensors that lie", "one storage of two types", written(made), says)
    stored = storage("FloatStorage", "0", len(shared()) // 4)
    huge = tensor(0, (2**30, 2**30), (0, 0), stored)
    made = model_zip(stubs={NAME: huge})
    says = (NAME, "1073741824")
    yield Case("tensors that lie", "4 EiB of 4 MB", written(made), says, (0, 1, 1))
    yield Case("overlapping tensors", "all begin at one place", written(model_zip), codes=ACCEPTED)
    yield from _entries()
    yield from _archives()
    yield from _kinds()


def _changed(which: str, /, **changes: Any) -> bytes:
    """A checkpoint with one changed entry."""
    entries = torch_entries(tensor_pickle(), bytes(24))
    return zipped(replace(e, **changes) if e.name == which else e for e in entries)


def _entries() -> Iterator[Case]:
    pickled, data = "a/data.pkl", "a/data/0"
    squeeze = zlib.compressobj(wbits=-15)
    packed = squeeze.compress(bytes(10**6)) + squeeze.flush()
    plain = torch_entries(tensor_pickle(), bytes(24))
    fake = zipped([Entry(data, b"\xff" * 24)])[:-22]  # an entry, hidden in the data of another
    table: tuple[Any, ...] = (
        ("data.pkl twice", zipped([*plain, plain[0]]), "the same name"),
        ("storage twice", zipped([*plain, plain[2]]), "the same name"),
        ("no data.pkl", zipped(plain[1:]), "did not finish it: it has no data.pkl"),
        ("no storage", zipped([e for e in plain if e.name != data]), "storage '0'", "no entry"),
        ("storage of another name", _changed(data, name="a/data/1"), "storage '0'", "no entry"),
        ("storage in capitals", _changed(data, name="a/DATA/0"), "take the entry 'a/DATA/0' for data/0"),
        ("two folders", zipped([*plain, Entry("b/data.pkl", b"N.")]), "more than one data.pkl"),
        ("data.pkl too deep", zipped([replace(plain[0], name="a/b/data.pkl")]), "not a PyTorch"),
        ("no entries", zipped([]), "empty zip archive"),
        ("compressed data.pkl", _changed(pickled, method=8), "data.pkl", "compressed"),
        ("compressed storage", _changed(data, method=8), "storage '0'", "compressed"),
        ("another method", _changed(data, method=99), "storage '0'", "compressed"),
        ("a bomb as data.pkl", _changed(pickled, method=8, data=bytes(10**6), packed=packed), "compr"),
        ("a bomb as storage", _changed(data, method=8, data=bytes(10**6), packed=packed), "compr"),
        ("data.pkl of 4 GB", _changed(pickled, size=0xFFFFFFF0), "data.pkl", "beyond the end"),
        ("storage of 4 GB", _changed(data, size=0xFFFFFFF0), "storage '0'", "end"),
        ("storage of 18 EB", _changed(data, size=2**63 - 1, zip64=True), "storage '0'", "end"),
        ("compressed in the local header", _changed(data, local_method=8), "storage '0'", DISAGREE),
        ("encrypted data.pkl", _changed(pickled, flags=1), "data.pkl", ENCRYPTED),
        ("encrypted storage", _changed(data, flags=1), "storage '0'", ENCRYPTED),
        ("another local name", _changed(data, local_name="a/data/9"), "storage '0'", DISAGREE),
        ("no local name", _changed(data, local_name=""), "storage '0'", DISAGREE),
        ("no local header", _changed(data, offset=7), "storage '0'", DISAGREE),
        ("outside the file", _changed(data, offset=2**31), "storage '0'", "outside the file"),
        ("wrong CRC of data.pkl", _changed(pickled, crc=1), "data.pkl", "checksum"),
        ("big-endian", _changed("a/byteorder", data=b"big"), "big-endian"),
        ("another byte order", _changed("a/byteorder", data=b"middle"), "byteorder"),
        ("a long byte order", _changed("a/byteorder", data=b"x" * 99), "byteorder", "allowed"),
        ("rest after the pickle", torch_zip(tensor_pickle() + b"N."), "data.pkl", "after its end"),
        (
            "an entry within another",
            zipped([*plain[:2], replace(plain[2], name="a/x", data=fake), replace(
                plain[2], packed=b"", size=24, crc=zlib.crc32(b"\xff" * 24), offset=203)]),
            "storage '0'",
        ),
        *(
            (f"data.pkl at {path}", _changed(pickled, name=path), "not a PyTorch checkpoint")
            for path in ("../data.pkl/..", "../../data.pkl", "C:/x/data.pkl")
        ),
        *(
            (f"data.pkl at {path}", _changed(pickled, name=path), "take the entry", "for data.pkl")
            for path in ("/abs/data.pkl", "a\\data.pkl", "a//data.pkl", "a/DATA.PKL", "a/data.pkl ", "a/d\u200bata.pkl")
        ),
        *(
            (f"{name} beside {other}", zipped([*plain, Entry(name, b"N.")]), "for each other")
            for other, name in (
                ("data.pkl", "a/DATA.PKL"), ("data/0", "A/data/0"), ("data/0", "a/Data/0"),
                ("data.pkl", "a\\data.pkl"), ("data.pkl", "a/./data.pkl"), ("data/0", "a/data/0."),
                ("data/0", "a/data/\uff10"), ("data.pkl", "a/data.pkl "),
            )
        ),
        ("BYTEORDER alone", zipped([*(e for e in plain if e.name != "a/byteorder"), Entry("a/BYTEORDER", b"big")]), "take the entry", "for byteorder"),
        ("another folder first", zipped([Entry("b/x", b"N."), *plain]), "the first entry", "'b'"),
    )  # fmt: skip
    for name, made, *says in table:
        yield Case("zip entries", name, written(made), tuple(says))
    wrong = zipped(replace(e, crc=1) if e.name == data else e for e in _model_entries())
    corrupt = (data, "is corrupt: its CRC-32 is")
    yield Case("zip entries", "wrong CRC of a storage", written(wrong), corrupt, (0, 3, 3))
    for name in ("../../fired", "/fired", "a/../../fired", "C:\\fired", "a/notes/\u202e0"):
        made = zipped([*_model_entries(), Entry(name, b"fired")])
        label = f"unused, named {name!a}"
        yield Case("zip entries", label, written(made), codes=ACCEPTED)
    zip64 = zipped([replace(e, zip64=True) for e in _model_entries()], zip64=True)
    yield Case("zip entries", "all of zip64", written(zip64), codes=ACCEPTED)
    none = zipped(replace(e, crc=0) for e in _model_entries())
    yield Case("zip entries", "no checksums at all", written(none), codes=ACCEPTED)


def _model_entries() -> list[Entry]:
    return torch_entries(model(), shared())


def _archives() -> Iterator[Case]:
    whole = model_zip()
    end = "not an intact zip archive"
    for name, made, *says in (
        ("data before it", b"\x7fELF" + whole, "is a program"),
        ("a zip before it", zipped([Entry("x")]) + whole, end),
        ("an entry before it", zipped([Entry("x")])[:31] + whole, end),
        ("data after it", whole + b"rest", end),
        ("a pickle after it", whole + b"\x80\x02cos\nsystem\n(Vx\ntR.", end),
        ("a zip after it", whole + zipped([Entry("x")]), end),
        ("a comment", torch_zip(model(), shared(), comment=b"hello"), end),
        ("without its end", whole[:-22], end),
        ("without its directory", whole[:1000], end),
        ("a directory too short", torch_zip(tensor_pickle(), directory=10), end),
        ("a directory too long", torch_zip(tensor_pickle(), directory=2**31), end),
        ("a directory of 2**63", torch_zip(tensor_pickle(), directory=2**63 - 1, zip64=True), end),
        ("no directory", torch_zip(tensor_pickle(), directory=0), end),
    ):
        yield Case("zip archives", name, written(made), tuple(says))
    yield Case(
        "zip archives", "a directory of 9 GB of holes", _holes, ("a directory of 9000000000",)
    )
    yield Case("zip archives", "200,000 entries", _million, ("a directory of",))
    for name, entry, *says in (
        ("TorchScript", Entry("a/constants.pkl", b")."), "a TorchScript archive"),
        ("torch.export", Entry("a/archive_format", b"pt2"), "a torch.export archive"),
        ("torch.package", Entry("a/.data/extern_modules", b"os"), "a torch.package archive"),
        ("NumPy", Entry("weights.npy"), "a NumPy archive"),
        ("Core ML", Entry("m/com.apple.CoreML/x"), "a Core ML package"),
        ("Keras", Entry("model.weights.h5"), "a Keras model"),
        ("SavedModel", Entry("saved_model.pb"), "a TensorFlow SavedModel"),
    ):
        made = zipped([*torch_entries(tensor_pickle(), bytes(24)), entry])
        yield Case("other archives", name, written(made), (*says, "not a checkpoint"))


def _holes(path: Path) -> None:
    """A sparse file with a directory of 9 GB."""
    made = torch_zip(tensor_pickle(), zip64=True, directory=9 * 10**9)
    with path.open("wb") as file:
        file.write(made[:-98])
        start = int.from_bytes(made[-50:-42], "little")
        file.truncate(start + 9 * 10**9)
        file.seek(0, 2)
        at = file.tell()
        file.write(made[-98:-42] + made[-42:-34] + at.to_bytes(8, "little") + made[-26:])


def _million(path: Path) -> None:
    """An archive with the largest directory that is allowed."""
    entries = [Entry("a/data.pkl", b"N."), *(Entry(str(n), offset=0) for n in range(200_000))]
    path.write_bytes(zipped(entries, zip64=True))


def _kinds() -> Iterator[Case]:
    """Tensors that are not a plain array of numbers, as torch writes them."""
    size, stride = (1, 1, 128), (128, 128, 1)
    plain = tensor(0, size, stride, storage("FloatStorage", "0", len(shared()) // 4))
    four = map(spelled, (0, size, stride, False))
    stored = storage("FloatStorage", "0", len(shared()) // 4)
    layout = b"ctorch.serialization\n_get_layout\n(" + spelled("torch.sparse_coo") + b"tR"
    for name, stub, says in (
        (
            "quantised",
            call("torch._utils:_rebuild_qtensor", storage("QInt8Storage", "1", 24), *four, b"]"),
            "a quantised tensor",
        ),
        (
            "sparse",
            call("torch._utils:_rebuild_sparse_tensor", layout, b"(" + plain + plain + b"t"),
            "a sparse tensor",
        ),
        (
            "meta",
            call("torch._utils:_rebuild_meta_tensor_no_storage", *map(spelled, (None, size, stride, False))),
            "a tensor on the meta device, which has no values",
        ),
        (
            "nested",
            call("torch._utils:_rebuild_nested_tensor", plain, plain, plain, plain),
            "a nested tensor",
        ),
        (
            "on another device",
            call("torch._utils:_rebuild_device_tensor_from_numpy", b"N", b"N", b"N", b"N"),
            "a tensor of another device, kept as a NumPy array",
        ),
        (
            "of a subclass",
            call("torch._tensor:_rebuild_from_type_v2", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cm\nMine\n", b")", b"}"),
            "m.Mine",
        ),
        (
            "a wrapper of a subclass",
            call("torch._utils:_rebuild_wrapper_subclass", b"cm\nMine\n", b"N", b"N", b"N", b"N", b"N", b"N"),
            "a tensor of a class of its own",
        ),
        ("a conjugate", call("torch._utils:_rebuild_tensor_v2", stored, *map(spelled, (0, size, stride, False)), b"}", b"}" + spelled("conj") + b"\x88s"), "conjugated or negated"),
        ("complex128", tensor(0, size, stride, storage("ComplexDoubleStorage", "2", 128)), "complex"),
        ("of text", spelled("weights"), "not a tensor but str"),
        ("a NumPy array", call("numpy.core.multiarray:_reconstruct", b"cnumpy\nndarray\n", b"K\0\x85", b"C\1b"), "numpy.core.multiarray._reconstruct"),
        ("a call of torch", call("torch:empty", spelled([64])), "torch.empty"),
    ):  # fmt: skip
        made = torch_zip(model(stubs={NAME: stub}), shared(), bytes(24), bytes(2048))
        yield Case("tensors of other kinds", name, written(made), (NAME, says))
    wide = tensor(0, size, stride, storage("ComplexFloatStorage", "1", 128))
    made = torch_zip(model(stubs={NAME: wide}), shared(), bytes(1024))
    yield Case("tensors of other kinds", "complex64", written(made), (NAME, "C64"), (0, 1, 1))
    bits = tensor(0, size, stride, storage("LongStorage", "1", 128))
    made = torch_zip(model(stubs={NAME: bits}), shared(), bytes(1024))
    yield Case("tensors of other kinds", "int64", written(made), (NAME, "I64"), (0, 1, 1))
    extra = call("torch._utils:_rebuild_qtensor", storage("QInt8Storage", "1", 24), b"N")
    made = torch_zip(model(inside=spelled("scale") + extra), shared(), bytes(24))
    yield Case(
        "tensors of other kinds",
        "quantised, and no part of the model",
        written(made),
        codes=ACCEPTED,
    )
