"""Read a config from YAML, in the plain format of this project or in the official one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ..errors import RefusedError
from ..io.text import mapping, read_text
from ..io.yaml_text import parse_yaml
from ..model.config import ConfigError, ModelConfig
from . import hydra

_MAX_MESSAGE = 300  # characters of a message that may quote the file
_Section = TypeVar("_Section")


def load_yaml(path: Path) -> ModelConfig:
    """Load a plain or an official YAML file.

    Args:
        path: the file.

    Returns:
        The config.

    Raises:
        UnreadableError: when the file is not YAML, or not a mapping.
        RefusedError: naming the field, when it is not the config of a SAM 2.
    """
    content = _read_yaml(path)
    with naming(path):
        if hydra.recognises(content):
            return hydra.from_hydra(content)
        return _section(ModelConfig, content, "")


def tells_generation(path: Path) -> bool:
    """Check whether a YAML file states the generation of its model.

    Args:
        path: a file that :func:`load_yaml` reads.

    Returns:
        False for the official YAML that was written for a model of unknown generation.

    Raises:
        UnreadableError: when the file is not YAML, or not a mapping.
    """
    return hydra.tells_generation(_read_yaml(path))


def unread_settings(source: str | Path) -> tuple[str, ...]:
    """Find the settings of a config file that are not read, because no SAM 2 has them.

    Args:
        source: a config as :func:`~.load.load_config` takes it.

    Returns:
        Dotted names, for an official YAML; none for other formats and shipped names.

    Raises:
        UnreadableError: when the file is not YAML, or not a mapping.
    """
    path = Path(source)
    if not path.is_file() or path.suffix == ".json":
        return ()
    content = _read_yaml(path)
    return hydra.unread(content) if hydra.recognises(content) else ()


def settings_in(source: str | Path, names: Iterable[str]) -> dict[str, Any]:
    """Read single settings from an official YAML.

    Args:
        source: the file. A config of another format, or a shipped name, has none of the settings.
        names: dotted names below ``model``, as in ``image_encoder.scalp``.

    Returns:
        Dotted name to value, for those of ``names`` that the file sets.

    Raises:
        UnreadableError: when the file is not YAML, or not a mapping.
        RefusedError: when an interpolation in one of the settings cannot be resolved.
    """
    path = Path(source)
    if not path.is_file() or path.suffix == ".json":
        return {}
    content = _read_yaml(path)
    with naming(path):
        return hydra.settings_in(content, names) if hydra.recognises(content) else {}


def _read_yaml(path: Path) -> dict[str, Any]:
    return mapping(path, parse_yaml(path, read_text(path)))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Inside the block, turn a :class:`ConfigError` into an error that also names the file.

    Args:
        path: the file from which the config is read.

    Yields:
        Nothing.

    Raises:
        RefusedError: for a ``ConfigError`` in the block, with the file, the field and the problem.
    """
    try:
        yield
    except ConfigError as error:
        raise RefusedError(f"{path}: {' '.join(str(error).split())[:_MAX_MESSAGE]}") from error


def _section(kind: type[_Section], content: Mapping[str, Any], prefix: str) -> _Section:
    """Fill a dataclass from a mapping, which must have exactly its fields."""
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in known:
        if name not in content:
            raise ConfigError(f"{prefix}{name}", "is missing")
    for name in content:  # all known ones are there, so this is a config, whose names may be shown
        if name not in known:
            raise ConfigError(f"{prefix}{name}", "no such field")
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
