"""The sources of a batch: paths, patterns and folders, or a manifest that lists them.

A manifest is a YAML or JSON list, or a text file with one source per line::

    - runs/a/last.pt
    - source: runs/b/last.pt
      name: second
      image_size: 512

Its paths are relative to its own folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import RefusedError, UnreadableError, UsageError
from ...hub.published import PUBLISHED
from ...io.several import list_sources, several_in
from ...io.source import is_file_name
from ...io.text import parse_json, read_text
from ...io.yaml_text import parse_yaml

# The options that an entry may set for its own conversion, and the types of their values.
OPTIONS: Mapping[str, type] = {
    "to": str,
    "config": str,
    "base": str,
    "generation": str,
    "image_size": int,
    "dtype": str,
}
_TEXT = (".txt",)
_JSON = (".json",)
_YAML = (".yaml", ".yml")
_MAX_BYTES = 2 << 20
_MAX_ENTRIES = 10_000
_SHOWN = 60  # characters of a wrong value that an error message shows
_NAMES = {name for published in PUBLISHED for name in (published.name, published.url)}


@dataclass(frozen=True)
class ManifestEntry:
    """One checkpoint to convert.

    Attributes:
        source: The checkpoint, as for :func:`~sam21convert.convert`.
        name: The name of its output; None names the output after the source.
        options: Options of this conversion alone, see ``OPTIONS``.
    """

    source: str
    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Sources(NamedTuple):
    """What a batch was given.

    Attributes:
        entries: one for each checkpoint.
        others: files of the given folders that are no checkpoints.
    """

    entries: list[ManifestEntry]
    others: tuple[str, ...] = ()


def read_sources(
    given: str | Path | Iterable[str | Path], own: Callable[[str], bool] = lambda _: False
) -> Sources:
    """Expand what a batch is given.

    Args:
        given: Paths, patterns, folders that hold several checkpoints, or one manifest: a single
            file in .txt, .yaml, .yml or .json that is not the index of a sharded checkpoint.
        own: Whether the batch has written a path. Its folder stands for itself.

    Returns:
        An entry for each checkpoint. The matches of a pattern, and what a folder holds, are sorted
        with numbers by value, so that epoch_2 comes before epoch_10.

    Raises:
        UsageError: If there is no source, or a pattern matches nothing.
        UnreadableError: As :func:`read_manifest` does.
        RefusedError: As :func:`read_manifest` does.
    """
    texts = [str(source) for source in ([given] if isinstance(given, (str, Path)) else given)]
    if not texts:
        raise UsageError("no source is given", hint="name checkpoints, a pattern or a manifest")
    if len(texts) == 1 and _is_manifest(Path(texts[0])):
        return Sources(read_manifest(Path(texts[0])))
    listed = list_sources(texts, lambda folder: None if own(str(folder)) else several_in(folder))
    beside = tuple(name for name in listed.others if not own(name))
    return Sources([ManifestEntry(source) for source in listed.sources], beside)


def identity(source: str) -> str:
    """Normalise a source, so that two ways to write it compare as equal.

    Args:
        source: A path, URL or published name.

    Returns:
        The absolute path; URLs and published names as they are.
    """
    return source if "://" in source or source in _NAMES else os.path.abspath(source)  # noqa: PTH100


def _is_manifest(path: Path) -> bool:
    kinds = (*_TEXT, *_JSON, *_YAML)
    there = path.exists() and not path.is_dir()
    return there and path.suffix in kinds and not path.name.endswith(".index.json")


def read_manifest(path: Path) -> list[ManifestEntry]:
    """Read the entries of a manifest.

    Args:
        path: A .txt file with one source per line, or a YAML or JSON list; of 2 MiB and with 10,000
            entries at most.

    Returns:
        The entries in their order, with paths relative to the working folder.

    Raises:
        UnreadableError: If the file cannot be read or an entry is wrong; the message names the
            entry.
        RefusedError: If the file is too large, holds too much, or is not a regular file.
        UsageError: If the manifest is empty.
    """
    text = read_text(path, _MAX_BYTES, "a manifest").removeprefix("\ufeff")
    content: Any
    if path.suffix in _TEXT:
        lines = [line.strip() for line in text.split("\n")]
        content = [line for line in lines if line and not line.startswith("#")]
    elif path.suffix in _JSON:
        content = parse_json(path, text)
    else:
        content = parse_yaml(path, text)
    if not isinstance(content, list):
        raise UnreadableError(
            f"{path}: not a list", hint="a manifest lists sources, or entries with a source each"
        )
    if not content:
        raise UsageError(f"{path}: lists no sources")
    if len(content) > _MAX_ENTRIES:
        raise RefusedError(
            f"{path}: has {len(content):,} entries, more than the {_MAX_ENTRIES:,} allowed",
            hint="split it into several manifests, each with an output folder of its own",
        )
    return [_entry(path, number, item) for number, item in enumerate(content, 1)]


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
            raise UnreadableError(
                f"{where}: {_short(key)} is unknown", hint=f"one of {', '.join(known)}"
            )
        if type(value) is not known[key]:
            kind = "a whole number" if known[key] is int else "text"
            raise UnreadableError(f"{where}: {key}: expected {kind}, found {_short(value)}")
        if isinstance(value, str) and not value.isprintable():
            raise UnreadableError(
                f"{where}: {key}: {_short(value)} has line breaks or other unprintable characters",
                hint="rename the file, or name it by a pattern on the command line",
            )
    name = values.pop("name", None)
    if name is not None and (not is_file_name(name) or not name.strip(".")):
        raise UnreadableError(
            f"{where}: {_short(name)} is not a file name", hint="write the name without folders"
        )
    source = _beside(path, values.pop("source"), also_names=_NAMES)
    for key in values.keys() & {"base", "config"}:
        names = _NAMES if key == "base" else {values[key]}
        values[key] = _beside(path, values[key], also_names=names)
    return ManifestEntry(source, name, values)


def _short(value: Any) -> str:
    """A wrong value as an error message shows it: escaped, and not at any length."""
    if isinstance(value, (dict, list)):
        return "several values"
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except ValueError:  # Python prints no number of more than 4300 digits
        return "a number of very many digits"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _beside(path: Path, text: str, *, also_names: Iterable[str]) -> str:
    """A path relative to the manifest; names that no file has are left as they are."""
    there = path.parent / text
    if "://" in text or (text in also_names and not there.exists()):
        return text
    return str(there)
