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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from ...errors import (
    RefusedError,
    Sam21ConvertError,
    UnreadableError,
    UsageError,
    did_you_mean,
    nearest,
)
from ...hub.spelling import spelt
from ...io.folder import is_index, may_hold_weights
from ...io.nearby import expanded
from ...io.open import open_source
from ...io.several import Several, list_sources, several_in
from ...io.source import is_file_name
from ...io.text import parse_json, read_text
from ...io.yaml_text import parse_yaml
from ...report import not_checkpoints

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
        others: files that patterns match, and those in folders, which are no checkpoints.
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
        UsageError: If there is no source, or a pattern matches no checkpoint.
        UnreadableError: As :func:`read_manifest` does.
        RefusedError: As :func:`read_manifest` does.
    """
    texts = [str(source) for source in ([given] if isinstance(given, (str, Path)) else given)]
    if not texts:
        raise UsageError("no source is given", hint="name checkpoints, a pattern or a manifest")
    first = expanded(Path(texts[0]))
    if len(texts) == 1 and _is_manifest(first):
        return Sources(read_manifest(first))
    named = {*texts, *(str(expanded(Path(text))) for text in texts)}

    def inside(folder: Path) -> Several | None:
        return None if own(str(folder)) else several_in(folder, none=str(folder) not in named)

    listed = list_sources(texts, inside)
    found = {s: s in named or own(s) or _may_be_checkpoint(Path(s)) for s in listed.sources}
    others = [*(s for s, taken in found.items() if not taken), *listed.others]
    if not any(found.values()):
        raise UsageError(f"{' '.join(texts)}: {not_checkpoints(others)}")
    entries = [ManifestEntry(source) for source, taken in found.items() if taken]
    return Sources(entries, tuple(name for name in others if not own(name)))


def identity(source: str) -> str:
    """Normalise a source, so that two ways to write it compare as equal.

    Args:
        source: A path, URL, published name or repository.

    Returns:
        The absolute path; URLs as they are, and other names as
        :func:`~sam21convert.hub.spelling.spelt` brings them to one spelling.
    """
    if "://" in source:
        return source
    path = expanded(Path(source))
    taken = None if os.path.lexists(path) else _spelt(source)
    return taken or os.path.abspath(path)  # noqa: PTH100 - of links too


def _may_be_checkpoint(path: Path) -> bool:
    """Whether what a pattern matches is named like a checkpoint, or is no other file by content."""
    if path.is_dir() or may_hold_weights(path.name) or is_index(path.name):
        return True
    try:
        open_source(path)
    except RefusedError:
        return False
    except (Sam21ConvertError, OSError):
        pass  # what is damaged fails in its turn
    return True


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
                f"{where}: {_short(key)} is unknown",
                hint=did_you_mean(nearest(str(key)[:_SHOWN], known), f"one of {', '.join(known)}"),
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
    source = _beside(path, values.pop("source"))
    if "base" in values:
        values["base"] = _beside(path, values["base"])
    if "config" in values and os.path.lexists(there := _inside(path, values["config"])):
        values["config"] = str(there)
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


def _beside(path: Path, text: str) -> str:
    """A path relative to the manifest; what names something published or on the Hub, as it is."""
    there = _inside(path, text)
    first = path.parent.joinpath(*PurePath(text).parts[:1])
    is_path = os.path.lexists(there) or ("/" in text and os.path.lexists(first))
    if "://" in text or (not is_path and _spelt(text) is not None):
        return text
    return str(there)


def _inside(path: Path, text: str) -> Path:
    return path.parent / expanded(Path(text))


def _spelt(text: str) -> str | None:
    """What a text names if it is no path; None too for what fails in its turn."""
    with suppress(UsageError, OSError):  # an odd address, or longer than a name can be
        return spelt(text)
    return None
