"""What a library would load or run from a source: a file, or everything in a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import Sam21ConvertError
from ...hub.remote import HubPath
from ...io.folder import Listing, find_weights, is_index
from ...io.safetensors import read_weight_map
from ...io.source import CONFIG
from ...io.text import read_json
from ...io.torch_distributed import METADATA
from ...io.unsupported import HEAD
from .find_pickles import Found, look_through, look_through_distributed
from .intact import begins_like_a_checkpoint, kind_by_head
from .policy import rate

_MOST_FILES = 1000
_MOST_REMOTE = 8  # files beside the weights of a repository; each takes several requests
_DEEPEST = 3  # folders below the given one
# Files that no library unpickles or runs. The content of all others decides.
_INERT = re.compile(
    r".*\.(safetensors|json|jsonl|ya?ml|toml|txt|md|rst|csv|tsv|log|lock|sh|ipynb|html|css|js|svg"
    r"|png|jpe?g|gif|webp|bmp|tiff?|mp4|mov|avi|mkv|webm|onnx|onnx_data|onnx\.data|gguf|distcp)"
    r"|\.git(attributes|ignore)|\.metadata|LICENSE|NOTICE|README",
    re.IGNORECASE,
)
_WEIGHTS = re.compile(r".*\.safetensors", re.IGNORECASE)  # inert, and to be read to its end
_SKIPPED = (".git", ".cache", "__pycache__")
_CODE = re.compile(r".*\.(py|so|pyd|dll|dylib)", re.IGNORECASE)
_NOT_LOADED = "training_args.bin"  # the Trainer writes it, and no library loads it
_NAMES_CODE = ("auto_map", "custom_pipelines", "custom_generate")
_GZIP = "a gzip archive"
_PACKED_TEXT = re.compile(r".*\.(txt|csv|tsv|json|jsonl|xml|svg|log|nii)\.gz", re.IGNORECASE)
_PACKED = (
    _GZIP,
    "a tar archive",
    "a bzip2 archive",
    "an xz archive",
    "a Zstandard archive",
    "a 7-Zip archive",
    "a RAR archive",
)
_ARRAY = "a NumPy array"
_OBJECTS = re.compile(rb"'descr': *'[|<>=]?O|'descr': *\[.*'[|<>=]?O\d*'")


def look_through_source(path: Path, found: Found) -> None:
    """Look through a file, or through everything in a folder that a library would load or run.

    Args:
        path: A file; or a folder of any kind, also one of the Hub.
        found: Takes what is found.

    Raises:
        OSError: ``path`` cannot be read, or is no regular file.
    """
    if not path.is_dir():
        if not path.is_file():
            raise OSError("not a regular file")  # opening a pipe would block
        _look_through_file("", path, found)
        if not (may_be_loaded(path.name) or _WEIGHTS.fullmatch(path.name)):
            _take_for_another_kind(path, found)
        if is_index(path.name):
            found.other = ""
            _look_through_shards(path, found)
        return
    if (path / METADATA).is_file():
        look_through_distributed(path, found)
    files = [*files_of(path, found)]
    _look_for_code(files, found)
    for name, file in files:
        if is_index(file.name):
            _present(file, found)
        weights = _WEIGHTS.fullmatch(file.name) and not isinstance(file, HubPath)
        if not (weights or may_be_loaded(file.name)):
            continue
        try:
            _look_through_file(name, file, found)
        except OSError as error:
            found.unscanned.append(f"{name}: {error.strerror or error}")


def _take_for_another_kind(path: Path, found: Found) -> None:
    """Let a file whose name no library loads be no checkpoint, unless it begins like one."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if found.unreadable and not begins_like_a_checkpoint(head):
        found.unreadable.clear()
        found.other = found.other or "a file of a kind that no library loads"


def _look_through_shards(index: Path, found: Found) -> None:
    """Look through the files that an index of shards names."""
    for name in _present(index, found):
        try:
            _look_through_file(name, index.parent / name, found)
        except OSError as error:
            found.unscanned.append(f"{name}: {error.strerror or error}")


def _shards(index: Path) -> list[str]:
    """The names of the shards in the folder of an index, without those that cannot be pickles."""
    with suppress(Sam21ConvertError):  # another reader reports it
        return [name for name in sorted({*read_weight_map(index).values()}) if not _inert(name)]
    return []


def _present(index: Path, found: Found) -> list[str]:
    """The shards of an index that are there; the others are told."""
    names = _shards(index)
    missing = [name for name in names if not (index.parent / name).exists()]
    found.unreadable += [f"{name}: is missing, and {index.name} names it" for name in missing]
    return [name for name in names if name not in missing]


def may_be_loaded(name: str) -> bool:
    """Whether a library may unpickle a file of this name.

    Args:
        name: The name of the file, without its folder.

    Returns:
        False for ``model.safetensors``, ``README.md``, ``train.py``, ``cat.jpg``, ...
    """
    return not (_INERT.fullmatch(name) or _CODE.fullmatch(name))


def _inert(name: str) -> bool:
    return _INERT.fullmatch(name.rpartition("/")[2]) is not None


def _remote_files(folder: HubPath, found: Found) -> Iterator[tuple[str, Path]]:
    """The files of a repository to look through: those with its weights, and some of the others."""
    names = folder.files()
    if CONFIG in names:
        yield CONFIG, folder / CONFIG
    weights = find_weights(str(folder), Listing(names)).weights
    file = "" if weights is None or weights.place else weights.file
    loaded = _shards(folder / file) if is_index(file) else [file]
    loaded = [name for name in loaded if name in names and not _inert(name)]
    others = [name for name in names if not _inert(name) and name not in loaded]
    for name in [*loaded, *others[:_MOST_REMOTE]]:
        yield name, folder / name
    if len(others) > _MOST_REMOTE:
        found.unscanned.append(
            f"{len(others) - _MOST_REMOTE} files of the repository: "
            "sam21convert pull downloads them, and inspect then looks through them"
        )


def files_of(folder: Path, found: Found | None = None) -> Iterator[tuple[str, Path]]:
    """List the files of a folder and those below it.

    Args:
        folder: The folder, also one of the Hub.
        found: Takes what is there and not listed, because it is too much.

    Yields:
        The path of each file in the folder, and the file.
    """
    found = Found() if found is None else found
    if isinstance(folder, HubPath):
        yield from _remote_files(folder, found)
        return
    count = 0
    for home, folders, names in os.walk(folder):
        below = Path(home).relative_to(folder)
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        if len(below.parts) >= _DEEPEST and folders:
            found.unscanned.append(f"{below}: the folders in it")
            folders.clear()
        for name in sorted(names):
            count += not _INERT.fullmatch(name)
            if count > _MOST_FILES:
                found.unscanned.append(f"more than {_MOST_FILES:,} files")
                return
            yield (below / name).as_posix(), Path(home) / name


def _look_for_code(files: list[tuple[str, Path]], found: Found) -> None:
    """Name code that a library runs because a config says so."""
    for name, file in files:
        if file.suffix != ".json" or "/" in name or not file.is_file():
            continue
        content: dict[str, Any] = {}
        with suppress(Sam21ConvertError):  # another reader reports it, if it matters
            content = read_json(file)
        keys = [key for key in _NAMES_CODE if content.get(key)]
        if keys:
            code = [name for name, file in files if _CODE.fullmatch(file.name)]
            where = ", ".join(code[:4]) or "another repository"
            found.unscanned.append(
                f"code in {where}: {keys[0]} in {name} makes transformers run it with "
                "trust_remote_code=True"
            )


def _look_through_file(name: str, file: Path, found: Found) -> None:
    if not file.is_file():
        raise OSError("not a regular file")
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    kind = kind_by_head(head)
    where = f"{name}: " if name else ""
    # What unpacks a table or a scan unpickles nothing of it.
    if kind in _PACKED and not (kind == _GZIP and _PACKED_TEXT.fullmatch(file.name)):
        found.unscanned.append(f"{where}is {kind}")
    elif kind == _ARRAY and _OBJECTS.search(head):
        found.unscanned.append(f"{where}is {kind} of objects, which are pickled in it")
    before, unread = len(found.names), len(found.unreadable)
    look_through(file, found, name)  # also what looks like another format: it can be both
    if file.name == _NOT_LOADED:
        del found.unreadable[unread:]
        found.names[before:] = [
            (where, reference)
            for where, reference in found.names[before:]
            if rate(reference.module, reference.name) == "dangerous"
        ]
