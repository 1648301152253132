"""The plain YAML of this project, and the official YAML where a file holds that instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ..errors import RefusedError, UnreadableError
from ..io.text import mapping, read_text
from ..model.config import ConfigError, ModelConfig
from . import hydra

_MAX_NODES = 100_000
_MAX_MESSAGE = 300
_Section = TypeVar("_Section")


def load_yaml(path: Path) -> ModelConfig:
    """A plain or an official YAML file. Raises as :func:`load_config` does."""
    content = _read_yaml(path)
    with naming(path):
        if hydra.recognises(content):
            return hydra.from_hydra(content)
        return _section(ModelConfig, content, "")


def settings_in(source: str | Path, names: Iterable[str]) -> dict[str, Any]:
    """Of the settings of these dotted names, those that the official YAML ``source`` holds.

    A config of another kind, or a shipped name, holds none. Raises as :func:`load_config` does.
    """
    path = Path(source)
    if not path.is_file() or path.suffix == ".json":
        return {}
    content = _read_yaml(path)
    with naming(path):
        return hydra.settings_in(content, names) if hydra.recognises(content) else {}


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml  # takes longer to import than most files to inspect

    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:_MAX_MESSAGE]
        raise UnreadableError(f"{path}: not valid YAML: {reason}") from error
    _refuse_laughs(path, content)
    return mapping(path, content)


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
