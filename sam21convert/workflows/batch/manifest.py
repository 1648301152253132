"""What a batch is asked to convert: paths and patterns, or a manifest that lists them.

A manifest is a YAML or JSON list, or a text file with one source per line::

    - runs/a/last.pt
    - source: runs/b/last.pt
      name: second
      image_size: 512

Its paths are relative to its own folder.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import UnreadableError, UsageError
from ...hub.published import PUBLISHED

# The options of a conversion that an entry may have for itself, and the types of their values.
OPTIONS: Mapping[str, type] = {
    "to": str,
    "config": str,
    "base": str,
    "generation": str,
    "image_size": int,
    "dtype": str,
}
_TEXT = (".txt",)
_YAML = (".yaml", ".yml", ".json")
_NAMES = {name for published in PUBLISHED for name in (published.name, published.url)}


@dataclass(frozen=True)
class ManifestEntry:
    """One checkpoint to convert; ``name`` is that of its output, ``options`` are its own."""

    source: str
    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def entries(sources: Iterable[str | Path]) -> list[ManifestEntry]:
    """The entries that these stand for, each source once: patterns are in order of numbers.

    A single file that ends in .txt, .yaml, .yml or .json is a manifest, unless it is the index of
    a sharded checkpoint. Raises :class:`UsageError` for a pattern that nothing matches, and as
    :func:`read_manifest`.
    """
    texts = [str(source) for source in sources]
    if not texts:
        raise UsageError("no source is given", hint="name checkpoints, a pattern or a manifest")
    if len(texts) == 1 and _is_manifest(Path(texts[0])):
        return read_manifest(Path(texts[0]))
    found: dict[str, str] = {}
    for text in texts:
        for source in _expanded(text):
            found.setdefault(identity(source), source)
    return [ManifestEntry(source) for source in found.values()]


def identity(source: str) -> str:
    """What two ways to write the same source have in common."""
    return source if "://" in source or source in _NAMES else os.path.abspath(source)  # noqa: PTH100


def _is_manifest(path: Path) -> bool:
    kinds = (*_TEXT, *_YAML)
    return path.is_file() and path.suffix in kinds and not path.name.endswith(".index.json")


def _expanded(text: str) -> Sequence[str]:
    if "://" in text or not glob.has_magic(text) or os.path.lexists(text):
        return [text]
    found = sorted(glob.glob(text, recursive=True), key=_by_number)  # noqa: PTH207 - any root
    if not found:
        raise UsageError(f"{text}: nothing matches", hint="try the pattern with ls")
    return found


def _by_number(text: str) -> list[tuple[int, str]]:
    """A key that sorts epoch_2 before epoch_10."""
    parts = re.split(r"([0-9]+)", text)
    return [(int(part) if at % 2 else 0, part) for at, part in enumerate(parts)]


def read_manifest(path: Path) -> list[ManifestEntry]:
    """The entries of a manifest.

    Raises :class:`UnreadableError`, naming the entry, for what is none, :class:`UsageError` for an
    empty one.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8 text: {error.reason}"
        raise UnreadableError(f"{path}: {reason}") from error
    if path.suffix in _TEXT:
        lines = [line.strip() for line in text.splitlines()]
        content: Any = [line for line in lines if line and not line.startswith("#")]
    else:
        content = _parsed(path, text)
    if not isinstance(content, list):
        raise UnreadableError(
            f"{path}: not a list", hint="a manifest lists sources, or entries with a source each"
        )
    if not content:
        raise UsageError(f"{path}: lists nothing")
    return [_entry(path, number, item) for number, item in enumerate(content, 1)]


def _parsed(path: Path, text: str) -> Any:
    import yaml  # takes longer to import than most files to inspect

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UnreadableError(f"{path}: not valid YAML: {reason}") from error


def _entry(path: Path, number: int, item: Any) -> ManifestEntry:
    where = f"{path}: entry {number}"
    item = {"source": item} if isinstance(item, str) else item
    if not isinstance(item, dict) or not isinstance(item.get("source"), str) or not item["source"]:
        raise UnreadableError(
            f"{where}: has no source", hint="write a path, or a mapping with a source"
        )
    known = {"source": str, "name": str, **OPTIONS}
    values = {key: value for key, value in item.items() if value is not None}
    if isinstance(values.get("generation"), float):
        values["generation"] = str(values["generation"])  # YAML takes 2.1 for a number
    for key, value in values.items():
        if key not in known:
            raise UnreadableError(f"{where}: {key!r} is unknown", hint=f"one of {', '.join(known)}")
        if type(value) is not known[key]:
            kind = "a whole number" if known[key] is int else "text"
            raise UnreadableError(f"{where}: {key} is {value!r}, and must be {kind}")
    name = values.pop("name", None)
    if name is not None and (name != os.path.basename(name) or not name.strip(".")):  # noqa: PTH119
        raise UnreadableError(f"{where}: {name!r} is no name of a file", hint="leave out folders")
    source = _beside(path, values.pop("source"), also_names=_NAMES)
    for key in values.keys() & {"base", "config"}:
        names = _NAMES if key == "base" else {values[key]}
        values[key] = _beside(path, values[key], also_names=names)
    return ManifestEntry(source, name, values)


def _beside(path: Path, text: str, *, also_names: Iterable[str]) -> str:
    """A path of the manifest; what is not there and may be a name stays what it is."""
    there = path.parent / text
    if "://" in text or (text in also_names and not there.exists()):
        return text
    return str(there)
