"""Unsupported formats: recognise them by their content, and say what to do instead.

Nothing of a file is quoted: somebody else may have named it, and it may hold anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ..errors import RefusedError

_TORCH_TAR = (b"sys_info", b"pickle", b"tensors", b"storages")
HEAD = 512  # bytes from the start of a file, enough to recognise its format

_AGAIN = "the server sent this instead of the file: check the address and your access to it"
_WEIGHTS = "give the checkpoint itself"
_TEXT = (
    f"{_WEIGHTS}, and a config with it, as in sam21convert validate CHECKPOINT --config FILE; "
    "repeat a failed download"
)
_EXPORTED = "it is a compiled program: convert the checkpoint that it was exported from"
_UNPACK = "unpack it and give the checkpoint in it"
_RUNS = "it is no checkpoint: do not run it, and ask where it came from"


@dataclass(frozen=True, slots=True)
class UnsupportedFormat:
    """An unsupported file format.

    Attributes:
        what: What a file in this format is, with its article.
        hint: What to do instead.
        tells: Takes the first ``HEAD`` bytes of a file and returns whether it has this format.
    """

    what: str
    hint: str
    tells: Callable[[bytes], bool]


def _at(offset: int, *magics: bytes) -> Callable[[bytes], bool]:
    return lambda start: any(start.startswith(magic, offset) for magic in magics)


def _text(pattern: str) -> Callable[[bytes], bool]:
    """Match the beginning of a text after white space, ignoring case."""
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda start: (shown := _as_text(start)) is not None and bool(compiled.match(shown))


def _as_text(start: bytes) -> str | None:
    """Decode bytes that may end within a character; None if they are not printable text."""
    for cut in range(4):
        try:
            shown = start[: len(start) - cut].decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        plain = all(char.isprintable() or char in "\t\n\r\f" for char in shown)
        return shown.lstrip() if plain and len(shown) > cut else None
    return None


def _protobuf(telling: Callable[[bytes, bytes], bool]) -> Callable[[bytes], bool]:
    """Match a protobuf message with a version in field 1, by the tag and content of the next."""

    def tells(start: bytes) -> bool:
        if len(start) < 6 or start[0] != 0x08 or not 0 < start[1] < 0x40:
            return False
        length, at = start[3] & 0x7F, 4
        while start[at - 1] & 0x80 and at < 8 and at < len(start):
            length |= (start[at] & 0x7F) << 7 * (at - 3)
            at += 1
        content = start[at : at + length]
        return bool(content) and telling(start[2:3], content)

    return tells


def _producer_or_graph(tag: bytes, content: bytes) -> bool:
    """Field 2 is the name of the producer, 7 the graph (``ModelProto`` in onnx.proto)."""
    return (tag == b"\x12" and content.isascii() and content.decode().isprintable()) or (
        tag == b"\x3a" and content[:1] == b"\x0a"
    )


def _is_coreml(tag: bytes, content: bytes) -> bool:
    """Field 2 is a description, which begins with its inputs (``Model`` in Model.proto)."""
    return tag == b"\x12" and content[:1] == b"\x0a"


def _riff(*kinds: bytes) -> Callable[[bytes], bool]:
    """Match a RIFF file, which names its kind behind its length."""
    return lambda start: start[:4] == b"RIFF" and start[8:12] in kinds


def _any(*tests: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
    return lambda start: any(tells(start) for tells in tests)


def _is_program(start: bytes) -> bool:
    """ELF, Mach-O, Java or WebAssembly; two letters are enough for Windows, unless it is text."""
    magics = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\0asm")
    return start[:4] in magics or (start[:2] == b"MZ" and b"\0" in start)


is_onnx = _protobuf(_producer_or_graph)  # takes the first ``HEAD`` bytes of a file

PROGRAMS = ("a program", "the text of a program")
# The first match counts. The magic numbers are from the description of each format.
UNSUPPORTED: tuple[UnsupportedFormat, ...] = (
    UnsupportedFormat(
        "a Git LFS pointer, not the file itself",
        "run: git lfs pull",
        _at(0, b"version https://git-lfs"),
    ),
    UnsupportedFormat(
        "a web page", _AGAIN, _text(r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype )?html")
    ),
    UnsupportedFormat("XML", _AGAIN, _text(r"<\?xml|<\w+[^>]*>")),
    UnsupportedFormat("JSON", _TEXT, _text(r'\{\s*["}]|\[\s*["{]')),
    UnsupportedFormat(
        "a GGUF file", "convert the checkpoint that it was made from", _at(0, b"GGUF")
    ),
    UnsupportedFormat(
        "a ggml file",
        "convert the checkpoint that it was made from",
        _at(0, b"lmgg", b"fmgg", b"tjgg", b"algg"),
    ),
    UnsupportedFormat("a Core ML model", _EXPORTED, _protobuf(_is_coreml)),
    UnsupportedFormat("a TensorFlow Lite model", _EXPORTED, _at(4, b"TFL3")),
    UnsupportedFormat("an ExecuTorch program", _EXPORTED, _at(4, b"ET12")),
    UnsupportedFormat("an HDF5 file", _WEIGHTS, _at(0, b"\x89HDF\r\n\x1a\n")),
    UnsupportedFormat("a NumPy array", _WEIGHTS, _at(0, b"\x93NUMPY")),
    UnsupportedFormat(
        "the tar format of the first releases of PyTorch",
        "load and save it with torch, with weights_only=False if you trust the file",
        lambda s: _at(257, b"ustar")(s) and s.split(b"\0")[0] in _TORCH_TAR,
    ),
    UnsupportedFormat("a tar archive", _UNPACK, _at(257, b"ustar")),
    UnsupportedFormat("a gzip archive", _UNPACK, _at(0, b"\x1f\x8b")),
    UnsupportedFormat(
        "a bzip2 archive", _UNPACK, lambda s: s[:3] == b"BZh" and s[4:10] == b"1AY&SY"
    ),
    UnsupportedFormat("an xz archive", _UNPACK, _at(0, b"\xfd7zXZ\0")),
    UnsupportedFormat("a Zstandard archive", _UNPACK, _at(0, b"\x28\xb5\x2f\xfd")),
    UnsupportedFormat("a 7-Zip archive", _UNPACK, _at(0, b"7z\xbc\xaf\x27\x1c")),
    UnsupportedFormat("a RAR archive", _UNPACK, _at(0, b"Rar!\x1a\x07")),
    UnsupportedFormat("an empty zip archive", _WEIGHTS, _at(0, b"PK\x05\x06")),
    UnsupportedFormat("a PDF document", _WEIGHTS, _at(0, b"%PDF-")),
    UnsupportedFormat(
        "a picture",
        "give a checkpoint here, and the picture to sam21convert predict image FILE "
        "--checkpoint CHECKPOINT --point X,Y -o OUT.png",
        _any(
            _at(0, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"8BPS\0\1"),
            lambda start: start[:4] == b"\0\0\1\0" and start[4:5] != b"\0",  # icons
            _at(4, b"ftypheic", b"ftypmif1", b"ftypavif"),
            _riff(b"WEBP"),
            lambda start: start[:2] == b"BM" and start[6:10] == bytes(4),
        ),
    ),
    UnsupportedFormat("a medical scan", _WEIGHTS, _any(_at(128, b"DICM"), _at(344, b"n+1\0"))),
    UnsupportedFormat(
        "a sound",
        _WEIGHTS,
        _any(
            _at(0, b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"fLaC", b"OggS"),
            _at(4, b"ftypM4A "),
            _riff(b"WAVE"),
        ),
    ),
    UnsupportedFormat(
        "a video",
        "give a checkpoint here, and the video to sam21convert predict video FILE "
        "--checkpoint CHECKPOINT --point X,Y -o OUT",
        _any(_at(4, b"ftyp"), _at(0, b"\x1aE\xdf\xa3", b"\0\0\1\xba"), _riff(b"AVI ")),
    ),
    UnsupportedFormat(
        "a font",
        _WEIGHTS,
        _any(
            _at(0, b"OTTO", b"ttcf", b"wOFF", b"wOF2"),
            lambda start: start[:5] == b"\0\1\0\0\0" and start[5:6] != b"\0",  # TrueType
        ),
    ),
    UnsupportedFormat(
        "a tokenizer of SentencePiece",
        _WEIGHTS,
        lambda start: re.match(rb"\n.\n.<[a-z/]{1,8}>\x15", start, re.DOTALL) is not None,
    ),
    UnsupportedFormat(
        "a log of TensorBoard", _WEIGHTS, lambda start: b"\x1a\x0dbrain.Event:" in start[12:64]
    ),
    UnsupportedFormat("a log of Weights & Biases", _WEIGHTS, _at(0, b":W&B")),
    UnsupportedFormat(
        "a table or database",
        _WEIGHTS,
        _any(
            _at(0, b"SQLite format 3\0", b"PAR1", b"ARROW1", b"MATLAB 5.0 MAT-file"),
            _at(8, b"\x10\0\0\0\0\0\x0a\0"),  # a stream of Arrow, as datasets writes it
        ),
    ),
    UnsupportedFormat(
        "a document of Microsoft Office", _WEIGHTS, _at(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    ),
    UnsupportedFormat("what macOS knows of a folder", _WEIGHTS, _at(0, b"\0\0\0\1Bud1")),
    UnsupportedFormat(PROGRAMS[0], _RUNS, _is_program),
    UnsupportedFormat(
        PROGRAMS[1],
        _RUNS,
        _text(r"#!|(?:.*\n)*?(?:import [\w.]+|from [\w.]+ import )"),
    ),
    UnsupportedFormat("text", _TEXT, _text(r".")),
)


@dataclass(frozen=True, slots=True)
class Archive:
    """An unsupported kind of zip archive or folder.

    Attributes:
        what: What it is, with its article.
        hint: What to do instead.
        entry: Regular expression; an entry whose whole path matches it identifies the kind.
    """

    what: str
    hint: str
    entry: str


ARCHIVES: tuple[Archive, ...] = (
    Archive(
        "a TorchScript archive",
        "load it with torch.jit.load and save its state_dict() with torch.save",
        r"[^/]+/constants\.pkl",
    ),
    Archive(
        "a torch.export archive",
        "load it with torch.export.load and save its state_dict with torch.save",
        r"(.+/)?(archive_format|serialized_exported_program\.json)",
    ),
    Archive(
        "a torch.package archive",
        "load it with torch.package.PackageImporter and save its state_dict() with torch.save",
        r"[^/]+/\.data/extern_modules",
    ),
    Archive("a Core ML package", _EXPORTED, r"(.+/)?com\.apple\.CoreML(/.*)?"),
    Archive("a TensorFlow SavedModel", _EXPORTED, r"([^/]+/)?saved_model\.pb"),
    Archive("a Keras model", _WEIGHTS, r"model\.weights\.h5"),
    Archive(
        "a NumPy archive (.npz)",
        "if it holds a state dict: torch.save({n: torch.as_tensor(a) for n, a in "
        'numpy.load("IN.npz").items()}, "OUT.pt") in Python makes a checkpoint of it',
        r"[^/]+\.npy",
    ),
)


def refusal_of(path: Path, start: bytes) -> RefusedError | None:
    """Recognise an unsupported format by the beginning of a file, without quoting it.

    Args:
        path: The file, for the error message.
        start: Its first ``HEAD`` bytes, or all of a shorter file.

    Returns:
        The error to raise, or None if the format is not in ``UNSUPPORTED``.
    """
    kind = next((kind for kind in UNSUPPORTED if kind.tells(start)), None)
    return None if kind is None else RefusedError(f"{path}: is {kind.what}", hint=kind.hint)


def archive(entries: Collection[str]) -> Archive | None:
    """Recognise an unsupported kind of zip archive or folder by its entries.

    Args:
        entries: Paths of the entries, with ``/`` as separator.

    Returns:
        The kind, or None if it is not in ``ARCHIVES``.
    """
    matches = (kind for kind in ARCHIVES if any(map(re.compile(kind.entry).fullmatch, entries)))
    return next(matches, None)
