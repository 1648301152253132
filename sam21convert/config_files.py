"""Read a :class:`ModelConfig` from whatever describes a SAM 2 model.

Three forms are understood: this project's plain YAML (``configs/``), the official Hydra YAML (also
that of a training run), and transformers' ``config.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from . import catalog, config_hydra
from .errors import RefusedError, UnreadableError, UsageError
from .hf import config_json
from .model.config import ConfigError, ModelConfig
from .small_files import read_up_to, unique

_MAX_BYTES = 1 << 16  # the longest that is known has 11 KB, and YAML takes long to read
_MAX_NODES = 100_000
_MAX_MESSAGE = 300
_Section = TypeVar("_Section")


def load_config(source: str | Path) -> ModelConfig:
    """The config of a shipped name, a YAML file, a ``config.json`` or a folder that holds one.

    Raises :class:`UsageError` when there is no such name or file, :class:`UnreadableError` when it
    cannot be parsed, and :class:`RefusedError`, naming the field, when it contradicts itself or
    describes something that is not a SAM 2.
    """
    path = source if isinstance(source, Path) else Path(source)
    shipped = catalog.find(str(source))
    if shipped is not None and not path.is_file():
        return catalog.shipped_config(shipped.name)
    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        names = ", ".join(shipped.name for shipped in catalog.SHIPPED)
        raise UsageError(
            f"{source}: no such config", hint=f"a YAML or JSON file, or one of {names}"
        )
    return load_json(path) if path.suffix == ".json" else load_yaml(path)


def load_yaml(path: Path) -> ModelConfig:
    """A plain or an official YAML file. Raises as :func:`load_config` does."""
    content = _read_yaml(path)
    with naming(path):
        if config_hydra.recognises(content):
            return config_hydra.from_hydra(content)
        return _section(ModelConfig, content, "")


def stated(source: str | Path, names: Iterable[str]) -> dict[str, Any]:
    """Of the settings of these dotted names, those that the official YAML ``source`` holds.

    A config of another kind, or a shipped name, holds none. Raises as :func:`load_config` does.
    """
    path = Path(source)
    if not path.is_file() or path.suffix == ".json":
        return {}
    content = _read_yaml(path)
    with naming(path):
        return config_hydra.stated(content, names) if config_hydra.recognises(content) else {}


def load_json(path: Path) -> ModelConfig:
    """The ``config.json`` of a transformers folder. Raises as :func:`load_config` does."""
    with naming(path):
        return config_json.from_json(read_json(path))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises :class:`UnreadableError` when it is not one."""
    try:
        content = json.loads(_read(path), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{path}: not valid JSON: {error}") from error
    return _mapping(path, content)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml  # takes longer to import than most files to inspect

    try:
        content = yaml.safe_load(_read(path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:_MAX_MESSAGE]
        raise UnreadableError(f"{path}: not valid YAML: {reason}") from error
    _refuse_laughs(path, content)
    return _mapping(path, content)


def _refuse_laughs(path: Path, content: Any) -> None:
    """Refuse anchors that refer to each other so often that nobody could print the whole."""
    waiting, count = [content], 0
    while waiting:
        node = waiting.pop()
        inside = node.values() if isinstance(node, dict) else node
        if isinstance(inside, str) or not isinstance(inside, Iterable):
            continue
        waiting += inside
        count += 1
        if count > _MAX_NODES or len(waiting) > _MAX_NODES:
            raise RefusedError(f"{path}: its values are too many, or refer to each other too often")


def _read(path: Path) -> str:
    try:
        raw = read_up_to(path, _MAX_BYTES)
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from error
    if len(raw) > _MAX_BYTES:
        raise RefusedError(f"{path}: over {_MAX_BYTES >> 10} KiB, too large for a config")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{path}: not UTF-8 text: {error.reason}") from error


def _mapping(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UnreadableError(f"{path}: not a mapping of names to values")
    return content


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn a :class:`ConfigError` into an error that names the file as well as the field."""
    try:
        yield
    except ConfigError as error:
        raise RefusedError(f"{path}: {' '.join(str(error).split())[:_MAX_MESSAGE]}") from error


def _section(kind: type[_Section], content: Mapping[str, Any], prefix: str) -> _Section:
    """Fill a dataclass: every field must be there, and nothing else."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for name in content:
        if name not in known:
            raise ConfigError(f"{prefix}{name}", "no such field")
    for name in known:
        if name not in content:
            raise ConfigError(f"{prefix}{name}", "is missing")
    types = get_type_hints(kind)
    values = {}
    for name, value in content.items():
        if is_dataclass(types[name]):
            if not isinstance(value, dict):
                raise ConfigError(f"{prefix}{name}", "must hold named values")
            values[name] = _section(types[name], value, f"{prefix}{name}.")
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
