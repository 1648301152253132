"""Unsupported formats are recognised by their content, whatever the names of the files."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import shutil
import sqlite3
import sys
import tarfile
import warnings
import wave
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.font_manager import findfont
from PIL import Image
from torch.package.package_exporter import PackageExporter

from sam21convert import diff, inspect
from sam21convert.errors import RefusedError, UnreadableError
from sam21convert.io import unsupported
from sam21convert.io.open import open_source
from sam21convert.io.unsupported import ARCHIVES, UNSUPPORTED, archive, refusal_of

from ..support.checkpoints import official_pt, state_dict

Make = Callable[[Path], object]
SUFFIXES = (".pt", ".safetensors", ".bin")


def written(content: bytes) -> Make:
    return lambda path: path.write_bytes(content)


def buffered(save: Callable[[io.BytesIO], object]) -> Make:
    """Save with a library into a file whose name does not tell the format."""

    def make(path: Path) -> None:
        buffer = io.BytesIO()
        save(buffer)
        path.write_bytes(buffer.getvalue())

    return make


def zipped(*names: str) -> Make:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as packed:
            for name in names:
                packed.writestr(name, b"x")

    return make


def tarred(*names: str) -> Make:
    def make(path: Path) -> None:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as packed:
            for name in names:
                packed.addfile(tarfile.TarInfo(name))

    return make


def exported(buffer: io.BytesIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
        torch.export.save(model, buffer)


def scripted(buffer: io.BytesIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), buffer)  # type: ignore[no-untyped-call]


def packaged(buffer: io.BytesIO) -> None:
    with PackageExporter(buffer) as exporter:
        exporter.save_pickle("model", "model.pkl", [1])


def field(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes; the length takes one or two bytes."""
    length = len(content)
    size = bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])
    return bytes([number << 3 | 2]) + size + content


def sound(buffer: io.BytesIO) -> None:
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(80))


def tensorboard(path: Path) -> None:
    """As `SummaryWriter` begins a log: length, checksum, and an event with the version."""
    event = b"\x09\0\0\0\0\0\0\xd8A\x1a\x0dbrain.Event:2"
    path.write_bytes(len(event).to_bytes(8, "little") + b"\1\2\3\4" + event + bytes(4))


def database(path: Path) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE a (b)")


INPUTS = field(1, field(1, b"image")) + field(10, field(1, b"mask"))

# Name of the format, and how a file is made; by its own library if that is installed.
CASES: tuple[tuple[str, Make], ...] = (
    (
        "a Git LFS pointer, not the file itself",
        written(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
    ),
    ("a web page", written(b"<!DOCTYPE html>\n<html lang=en>")),
    ("a web page", written(b"\xef\xbb\xbf\n  <HTML><head>")),
    ("a web page", written(b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD">')),
    ("XML", written(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>')),
    ("XML", written(b"<Error><Code>NoSuchKey</Code></Error>")),
    ("JSON", written(b'{"error":"Repository not found"}')),
    ("JSON", written(b'{"model":{"x": 1}}')),  # its ninth byte is a brace
    ("JSON", written(json.dumps({"a": "\N{LATIN SMALL LETTER E WITH ACUTE}" * 700}).encode())),
    ("a GGUF file", written(b"GGUF\x03\0\0\0" + bytes(16))),
    ("a ggml file", written((0x67676D6C).to_bytes(4, "little") + bytes(16))),
    ("a Core ML model", written(b"\x08\x06" + field(2, INPUTS))),
    ("a Core ML model", written(b"\x08\x04" + field(2, INPUTS * 20))),
    ("a TensorFlow Lite model", written(b"\x1c\0\0\0TFL3" + bytes(16))),
    ("an ExecuTorch program", written(b"\x30\0\0\0ET12" + bytes(16))),
    ("an HDF5 file", written(b"\x89HDF\r\n\x1a\n" + bytes(16))),
    ("a NumPy array", buffered(lambda buffer: np.save(buffer, np.zeros(3)))),
    ("the tar format of the first releases of PyTorch", tarred("sys_info", "pickle", "storages")),
    ("a tar archive", tarred("model.pt")),
    ("a gzip archive", written(gzip.compress(b"x"))),
    ("a bzip2 archive", written(bz2.compress(b"x"))),
    ("an xz archive", written(lzma.compress(b"x"))),
    ("a Zstandard archive", written(b"\x28\xb5\x2f\xfd" + bytes(16))),
    ("a 7-Zip archive", written(b"7z\xbc\xaf\x27\x1c" + bytes(16))),
    ("a RAR archive", written(b"Rar!\x1a\x07\x01\0" + bytes(16))),
    ("an empty zip archive", zipped()),
    ("a PDF document", written(b"%PDF-1.7\n%\xe2\xe3")),
    *(
        ("a picture", buffered(lambda buffer, k=kind: Image.new("RGB", (8, 8)).save(buffer, k)))  # type: ignore[misc]
        for kind in ("png", "jpeg", "gif", "webp")
    ),
    ("a picture", buffered(lambda buffer: Image.new("RGB", (8, 8)).save(buffer, "bmp"))),
    ("a picture", buffered(lambda buffer: Image.new("RGB", (16, 16)).save(buffer, "ico"))),
    ("a picture", buffered(lambda buffer: Image.new("RGB", (8, 8)).save(buffer, "tiff"))),
    ("a picture", written(b"\0\0\0\x18ftypheic" + bytes(16))),
    ("a medical scan", written(bytes(128) + b"DICM" + bytes(16))),
    ("a medical scan", written(b"\x5c\1\0\0" + bytes(340) + b"n+1\0" + bytes(16))),
    ("a sound", buffered(sound)),
    ("a sound", written(b"ID3\x04\0" + bytes(16))),
    ("a video", written(b"\0\0\0\x20ftypisom" + bytes(16))),
    ("a video", written(b"\x1aE\xdf\xa3" + bytes(16))),
    ("a font", lambda path: shutil.copy(findfont("DejaVu Sans"), path)),
    ("a font", written(b"wOF2\0\1\0\0" + bytes(16))),
    ("a tokenizer of SentencePiece", written(b"\n\x0e\n\5<unk>\x15\0\0\0\0\x18\2")),
    ("a log of TensorBoard", tensorboard),
    ("a log of Weights & Biases", written(b":W&B\xe1\xbe\0" + bytes(16))),
    ("a table or database", database),
    ("a table or database", written(b"PAR1" + bytes(16))),
    ("a document of Microsoft Office", written(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16))),
    ("what macOS knows of a folder", written(b"\0\0\0\1Bud1" + bytes(16))),
    ("a program", lambda path: shutil.copy(Path(sys.executable).resolve(), path)),
    ("a program", written(b"MZ\x90\0" + bytes(60))),
    ("the text of a program", written(b"#!/bin/sh\nls\n")),
    ("the text of a program", written(b'"""Train."""\n\nfrom torch import nn\n')),
    ("text", written(b"MZ is how programs of Windows begin\n")),
    ("text", written(b"Entry not found")),
    ("text", written(b"model:\n  image_size: 1024\n")),
    ("a TorchScript archive", buffered(scripted)),
    ("a torch.export archive", buffered(exported)),
    ("a torch.package archive", buffered(packaged)),
    ("a Core ML package", zipped("m/Manifest.json", "m/Data/com.apple.CoreML/model.mlmodel")),
    ("a TensorFlow SavedModel", zipped("m/saved_model.pb", "m/variables/variables.index")),
    ("a Keras model", zipped("metadata.json", "config.json", "model.weights.h5")),
    ("a NumPy archive (.npz)", buffered(lambda buffer: np.savez(buffer, a=np.zeros(3)))),
)
NAMES = [f"{number}-{what}" for number, (what, _) in enumerate(CASES)]


@pytest.mark.parametrize(("what", "make"), CASES, ids=NAMES)
def test_a_format_is_named_and_refused_with_one_hint(tmp_path: Path, what: str, make: Make) -> None:
    for suffix in SUFFIXES:
        path = tmp_path / f"model{suffix}"
        make(path)
        before = path.read_bytes()
        with pytest.raises(RefusedError) as caught:
            inspect(path)
        assert caught.value.message.startswith(f"{path}: is {what}")
        assert caught.value.exit_code == 3
        assert caught.value.hint
        assert "\n" not in caught.value.message + caught.value.hint
        assert path.read_bytes() == before


def test_nothing_is_said_against_what_libraries_make(tmp_path: Path) -> None:
    """So their hints lead to a state dict."""
    for make, way in ((scripted, "torch.jit.load"), (exported, "torch.export.load")):
        buffered(make)(tmp_path / "a.pt")
        with pytest.raises(RefusedError) as caught:
            inspect(tmp_path / "a.pt")
        assert "harm" not in caught.value.message
        assert way in str(caught.value.hint)


def test_an_archive_of_arrays_becomes_a_checkpoint_as_its_hint_says(tmp_path: Path) -> None:
    tensors = state_dict()
    path = tmp_path / "a.npz"
    np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})  # type: ignore[arg-type]
    with pytest.raises(RefusedError) as caught:
        inspect(path)
    code = str(caught.value.hint).removeprefix("if it holds a state dict: ")
    code = code.removesuffix(" in Python makes a checkpoint of it")
    for written, meant in (("IN.npz", path), ("OUT.pt", tmp_path / "out.pt")):
        code = code.replace(written, str(meant))
    exec(code, {"torch": torch, "numpy": np})
    assert diff(tmp_path / "out.pt", official_pt(tmp_path / "plain.pt", tensors)).exit_code == 0


def test_every_format_has_a_case() -> None:
    kinds = {*(kind.what for kind in UNSUPPORTED), *(kind.what for kind in ARCHIVES)}
    assert kinds == {what for what, _ in CASES}


@pytest.mark.parametrize("kind", UNSUPPORTED, ids=lambda kind: kind.what)
def test_each_format_is_recognised_by_its_own_entry_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: unsupported.UnsupportedFormat
) -> None:
    """Without its entry the file gets another name or none."""
    monkeypatch.setattr(unsupported, "UNSUPPORTED", tuple(k for k in UNSUPPORTED if k is not kind))
    for what, make in CASES:
        if what == kind.what:
            make(tmp_path / "a")
            found = refusal_of(tmp_path / "a", (tmp_path / "a").read_bytes()[: unsupported.HEAD])
            assert found is None or f"is {what}" not in found.message


@pytest.mark.parametrize("kind", ARCHIVES, ids=lambda kind: kind.what)
def test_each_archive_is_recognised_by_its_own_entry_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: unsupported.Archive
) -> None:
    make = next(make for what, make in CASES if what == kind.what)
    make(tmp_path / "a")
    names = zipfile.ZipFile(tmp_path / "a").namelist()
    assert archive(names) is kind
    monkeypatch.setattr(unsupported, "ARCHIVES", tuple(k for k in ARCHIVES if k is not kind))
    assert archive(names) is None


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (written(b""), "is empty"),
        (written(bytes(64)), "is neither a PyTorch checkpoint nor"),
        (written(b"\x08\x0a\x12\0\0\0\0\0"), "is neither a PyTorch checkpoint nor"),
        (written(b"\x08\x0a\x12\xff\xff\xff\xff\xff"), "is neither a PyTorch checkpoint nor"),
        (written(b"\x10\x0a" + field(2, b"pytorch")), "is neither a PyTorch checkpoint nor"),
        (written(b"   \n  "), "is neither a PyTorch checkpoint nor"),
        (written(b"PK\x03\x04 but not really"), "not an intact zip archive"),
        (zipped("a.txt"), "not a PyTorch checkpoint: it holds 'a.txt'\n"),
        (zipped(*"abcd"), "not a PyTorch checkpoint: it holds 'a', 'b', 'c' \\.\\.\\.\n"),
        (written(pickle.dumps({"a": 1})), "a pickle, but not one that torch.save wrote"),
        (written(pickle.dumps({"a": np.zeros(3)})), "a pickle, but not one that torch.save"),
    ],
)
def test_unknown_formats_are_refused(tmp_path: Path, make: Make, complaint: str) -> None:
    path = tmp_path / "model.pt"
    make(path)
    with pytest.raises((RefusedError, UnreadableError), match=complaint) as caught:
        inspect(path)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "form", ["{}", '{{"token": "{}"}}', "<token>{}</token>", "<html>{}", "a\n{}"]
)
def test_nothing_of_a_text_is_quoted(tmp_path: Path, form: str) -> None:
    """It may be a file that somebody else has named, in a manifest."""
    path = tmp_path / "model.pt"
    path.write_text(form.format("hunter2"))
    with pytest.raises(RefusedError, match="is (text|JSON|XML|a web page)\n") as caught:
        inspect(path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("Data/com.apple.CoreML/model.mlmodel", "is a Core ML package"),
        ("my.mlpackage/Data/com.apple.CoreML/x", "holds no checkpoint among its 1 file"),
        ("saved_model.pb", "is a TensorFlow SavedModel"),
        ("else.txt", "holds no checkpoint among its 1 file"),
    ],
)
def test_unsupported_folders_are_refused(tmp_path: Path, entry: str, complaint: str) -> None:
    (tmp_path / entry).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / entry).write_bytes(b"x")
    with pytest.raises(RefusedError, match=complaint):
        inspect(tmp_path)


def test_safetensors_headers_of_any_length_are_recognised(tmp_path: Path) -> None:
    """A file begins with the length of its header, which can equal any magic number."""
    heads = [bytes([low, high, 0, 0]) for low in range(256) for high in (0, 1, 0x0A, 0x12, 0x7B)]
    heads += [kind[:3] + b"\0" for kind in (b"GGU", b"%PD", b"\x1f\x8b\x08", b"\xff\xd8\xff")]
    path = tmp_path / "model.pt"
    for head in heads:
        path.write_bytes(head + bytes(4) + b"{")
        with pytest.raises(UnreadableError, match="header"):
            open_source(path)


def test_a_checkpoint_is_supported_whatever_its_name(tmp_path: Path) -> None:
    path = official_pt(tmp_path / "m.safetensors")
    assert refusal_of(path, path.read_bytes()[: unsupported.HEAD]) is None
    assert inspect(path).dialect == "official"
